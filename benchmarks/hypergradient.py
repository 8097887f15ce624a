"""Exact and implicit hypergradients: time and memory beside higher, torchopt, betty and a hand-written unroll.

Problem: the CBR student on random pictures [3, 32, 32], batch 8, a CBR weight network with the iteration as a fourth
channel as commentary, 64 validation examples. Contenders run interleaved in one process, every round all of them
once, each between two runs of training with the frozen commentary, whose mean is the unit of its time: so that a
machine that is slower for a minute is slower for both. Reported are medians over rounds of ratios within a round.
Time on the CPU is the process's own, on one thread, which other work on the machine disturbs least. Peak memory: each
contender in a process of its own, the peak of the resident set less what the process held before the contender began
(after two steps of plain training); on a GPU the times come with the peak of what its allocator gave out, less what it
held before. ``value`` is how far a contender's hypergradient is from our full graph's. All work in float32, where the
runs of a student with kinks may part after some hundred steps by rounding alone; in float64 ours and the hand-written
unroll agree to 3e-15 at T = 300.

Run: ``python benchmarks/hypergradient.py [--quick | --full] [--device cuda] [--json FILE]``; ``--full`` adds T = 1,000
to the times and 10,000 to the curve; ``--steps``, ``--optimisers`` and ``--rounds`` choose among the times.
"""

import argparse
import gc
import json
import logging
import platform
import statistics
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.contenders.hypergradient import (
    BATCH,
    CONTENDERS,
    FROZEN,
    LIBRARIES,
    LR,
    World,
    betty,
    ours_implicit,
)
from commentary_hub.learning import ConjugateGradient, Neumann


def timed(run, world):
    """Seconds of one run, the peak of a GPU's memory in MB, and what was found."""
    if world.device.type != "cuda":
        start = time.process_time()
        found = run(world)
        return time.process_time() - start, None, found
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    base, start = torch.cuda.memory_allocated(), time.perf_counter()
    found = run(world)
    torch.cuda.synchronize()
    return time.perf_counter() - start, (torch.cuda.max_memory_allocated() - base) / 2**20, found


def times(steps, optimiser, rounds, device):
    """Of every contender in every round: seconds, and runs of frozen training; its peak; how far it is from ours."""
    world = World(steps, optimiser, device)
    warm = World(2, optimiser, device)
    for run in CONTENDERS.values():
        run(warm)
    seconds, units = {name: [] for name in CONTENDERS}, {name: [] for name in CONTENDERS}
    peaks, values = {}, {}
    for at in range(rounds):
        names = list(CONTENDERS)
        before, *_ = timed(CONTENDERS[FROZEN], world)
        for name in names[at % len(names) :] + names[: at % len(names)]:
            spent, peaks[name], values[name] = timed(CONTENDERS[name], world)
            after, *_ = timed(CONTENDERS[FROZEN], world)
            seconds[name].append(spent)
            units[name].append(2 * spent / (before + after))
            before = after
    truth = values["ours, full graph"]
    return seconds, units, peaks, {name: difference(found, truth) for name, found in values.items() if found}


def difference(found, truth):
    flat = lambda tensors: torch.cat([t.detach().double().flatten() for t in tensors])
    return float((flat(found) - flat(truth)).norm() / flat(truth).norm())


def ratio(times, name, others):
    """The median over rounds of a contender's time by the fastest of ``others`` in the same round."""
    return statistics.median(own / min(times[other][at] for other in others) for at, own in enumerate(times[name]))


def peak_mb(name, steps, optimiser):
    """Peak memory of one contender in a process of its own, in MB."""
    command = [sys.executable, __file__, "--measure", name, "--steps", str(steps), "--optimiser", optimiser]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measure(name, steps, optimiser):
    """In the process of its own: the growth of the resident set's peak while the contender runs."""
    world = World(steps, optimiser, torch.device("cpu"))
    CONTENDERS[FROZEN](World(2, optimiser, torch.device("cpu")))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    base = status_mb("VmRSS")
    CONTENDERS[name](world)
    print(json.dumps(round(status_mb("VmHWM") - base, 1)))


def status_mb(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def implicit(rounds, steps, device):
    """Seconds per outer step of ours and betty's: one inner step, one hypergradient, one Adam step of φ.

    One training and one validation batch of the same size, as in algorithm 2. betty's K iterations sum K + 1 terms.
    """
    logging.disable(logging.INFO)
    results = {}
    for name, run in {
        "ours, Neumann, same sum": lambda world: ours_implicit(world, Neumann(terms=4, scale=LR["sgd"])),
        "ours, Neumann(terms=3)": lambda world: ours_implicit(world, Neumann(terms=3, scale=LR["sgd"])),
        "betty, neumann (3 iterations)": lambda world: betty(world, "neumann"),
        "ours, CG": lambda world: ours_implicit(world, ConjugateGradient(steps=3, damping=100.0)),
        "betty, cg (3 iterations)": lambda world: betty(world, "cg"),
    }.items():
        results[name] = (run, [])
        run(World(2, "sgd", device, held=BATCH))
    for _ in range(rounds):
        for run, seconds in results.values():
            seconds.append(timed(run, World(steps, "sgd", device, held=BATCH))[0] / steps)
    return {name: seconds for name, (_, seconds) in results.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="T = 20 only, one round")
    parser.add_argument("--full", action="store_true", help="T = 1,000 and the long curve too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=("times", "memory", "curve", "implicit"))
    parser.add_argument("--rounds", type=int, help="of each time, instead of what suits a noisy machine")
    parser.add_argument("--optimisers", nargs="+", choices=tuple(LR), default=tuple(LR), help="of the times")
    parser.add_argument("--measure", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, nargs="+", help="T of the times")
    parser.add_argument("--optimiser", default="sgd", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if missing := [peer for peer in ("higher", "torchopt", "betty") if find_spec(peer) is None]:
        parser.error(f"{', '.join(missing)} must be there to be measured: make .venv/benched installs every peer")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    if options.measure:
        measure(options.measure, options.steps[0], options.optimiser)
        return
    device = torch.device(options.device)
    results = {"torch": torch.__version__, "device": name_of(device)}
    parts = (
        (times_part, implicit_part) if device.type == "cuda" else (times_part, memory_part, curve_part, implicit_part)
    )
    for part in parts:
        name = part.__name__.removesuffix("_part")
        if options.only is None or name in options.only:
            results[name] = part(options, device)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


def name_of(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()}), 1 thread"


def times_part(options, device):
    rounds = {20: 1} if options.quick else {50: 9, 300: 5} | ({1_000: 5} if options.full else {})
    if options.steps:
        rounds = {steps: rounds.get(steps, 5) for steps in options.steps}
    found = []
    for optimiser in options.optimisers:
        for steps, usual in rounds.items():
            count = options.rounds or usual
            seconds, units, peaks, away = times(steps, optimiser, count, device)
            print(f"\n{optimiser}, T = {steps}: median of {count} rounds")
            print(f"  {'':30}{'seconds':>9}{'× library':>11}{'× frozen':>10}{'× plain':>9}{'value':>10}{'peak MB':>10}")
            for name in CONTENDERS:
                line = {
                    "optimiser": optimiser, "T": steps, "contender": name, "seconds": seconds[name],
                    "by_faster_library": ratio(units, name, LIBRARIES), "by_frozen": statistics.median(units[name]),
                    "by_training": ratio(units, name, ["training"]), "difference": away.get(name),
                    "peak_mb": peaks[name],
                }  # fmt: skip
                found.append(line)
                shown = "" if name not in away else f"{away[name]:.1e}"
                peak = "" if peaks[name] is None else f"{peaks[name]:.1f}"
                print(
                    f"  {name:30}{statistics.median(seconds[name]):9.3f}{line['by_faster_library']:11.2f}"
                    f"{line['by_frozen']:10.2f}{line['by_training']:9.2f}{shown:>10}{peak:>10}"
                )
    return found


def memory_part(options, _device):
    sizes = (20,) if options.quick else (300, 1_000)
    found = []
    for optimiser in LR if options.full else ("sgd",):
        for steps in sizes:
            peaks = {name: peak_mb(name, steps, optimiser) for name in CONTENDERS if name != "training"}
            best = min(peaks[name] for name in LIBRARIES if peaks[name] is not None)
            print(f"\nPeak memory above the process's own, {optimiser}, T = {steps}")
            for name, peak in peaks.items():
                shown = "" if not peak or name.startswith("training") else f"1/{best / peak:.1f} of the best library's"
                print(f"  {name:30}{peak!s:>9} MB  {shown}")
            found.append({"optimiser": optimiser, "T": steps, "peak_mb": peaks})
    return found


def curve_part(options, _device):
    sizes = (20,) if options.quick else (100, 300, 1_000, 3_000) + ((10_000,) if options.full else ())
    print("\n√T checkpoints, sgd: peak memory over T")
    found = []
    for steps in sizes:
        peak = peak_mb("ours, √T", steps, "sgd")
        found.append({"T": steps, "peak_mb": peak})
        print(f"  {steps:7,}{peak:9} MB{peak / steps**0.5:9.2f} MB/√T")
    return found


def implicit_part(options, device):
    seconds = implicit(options.rounds or (1 if options.quick else 7), 10 if options.quick else 30, device)
    print("\nOne outer step by implicit differentiation")
    for name, spent in seconds.items():
        peer = "betty, cg (3 iterations)" if "CG" in name or "cg" in name else "betty, neumann (3 iterations)"
        print(f"  {name:32}{statistics.median(spent) * 1000:8.1f} ms{ratio(seconds, name, [peer]):8.2f} × betty")
    return seconds


if __name__ == "__main__":
    main()
