"""What reuse costs: keys, binding, look-ups, and a training step under each kind of commentary.

- ``steps``: a training step of a ResNet-18 on random pictures [3, 32, 32] under each kind, against the same step of
  the same student without it, with 0, 2 and 4 workers. A paired design: the kinds with a limit and the plain loop take
  one step in every round, in turning order; reported is the median over rounds of the difference to the plain step of
  the same round, over the median plain step, with its 95 % bootstrap interval, on the process's own CPU clock (one
  thread) and on the wall clock. Batches are small: that is more rounds in the same time, and a look-up weighs more in
  a small step than in a large one. Beside it, for every kind, the same loop with a student that does nothing, whose
  excess over the plain loop is the cost alone.
- ``keys``: a million decoded pictures [32, 32, 3] keyed by two processes; decoding of PNG measured apart.
- ``rows``: tables of 10⁶, 10⁷ (and with ``--full`` 10⁸) rows: opened by memory map, bound to 50,000 examples, looked
  up in batches of 128, and matched with all their own keys; each size in a process of its own, with its memory. Then
  a hundred and ten thousand of their rows are read by ranges from a web server on the loopback, as from a hub:
  requests, bytes, time; once it answers several ranges at once, once only single ones. The tables are real files of
  random keys, which each part has to find.

Run: ``python benchmarks/reuse.py [--only PART …] [--quick | --full] [--json FILE]``
"""

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from huggingface_hub import HfApi
from PIL import Image
from safetensors.torch import save_file
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from benchmarks.contenders.reuse import BATCH, CLASSES, EXAMPLES, Loop, Nothing, contenders
from commentary_hub.artefact import Rows, load, load_part, save
from commentary_hub.commentaries import (
    Batch,
    ExampleWeights,
)
from commentary_hub.data import content_keys, dataset_keys, raw_examples, target_digests
from commentary_hub.hub import Remote
from commentary_hub.manifest import DatasetBinding, KeyScheme, Manifest, read_manifest
from commentary_hub.networks import network
from commentary_hub.reuse import bind
from commentary_hub.reuse._match import KeyIndex
from tests.browser.serving import listening

BOUND, PARTS, RANDOM = 50_000, (100, 10_000), "random/rows"
CHARGED = {"table": 0.02, "mixture": 0.02, "blend": 0.05}
"""The most that a kind may add to the ResNet-18's step."""


def rounds(loops, count):
    """Seconds of every contender's step in every round: own clock and wall clock."""
    spent = {name: ([], []) for name in loops}
    names = list(loops)
    for loop in loops.values():
        loop()
        loop()
    for turn in range(count):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            own, wall = loops[name]()
            spent[name][0].append(own)
            spent[name][1].append(wall)
    return spent


def share(spent, plain, clock):
    """Median over rounds of what a contender adds, over the median plain step: (share, low, high) by bootstrap."""
    own, base = np.array(spent[clock]), np.array(plain[clock])
    added = own - base
    drawn = np.random.default_rng(0).integers(0, len(added), (2_000, len(added)))
    medians = np.median(added[drawn], axis=1) / np.median(base[drawn], axis=1)
    return float(np.median(added) / np.median(base)), *np.quantile(medians, [0.025, 0.975]).tolist()


def verdict(low, high, limit):
    return "within" if high <= limit else "over" if low > limit else "not resolved"


def steps_part(options):
    torch.manual_seed(0)
    dataset = TensorDataset(torch.rand(EXAMPLES, 3, 32, 32), torch.randint(0, CLASSES, (EXAMPLES,)))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bound = contenders(Path(folder), dataset)
        for workers in (0, 2, 4):
            student = network("resnet18", channels=3, classes=CLASSES)
            big = {
                name: Loop(binding, dataset, student, workers)
                for name, binding in bound.items()
                if name == "plain" or name in CHARGED
            }
            spent = rounds(big, 3 if options.quick else options.rounds)
            del big
            nothing = Nothing()
            empty = {name: Loop(binding, dataset, nothing, workers) for name, binding in bound.items()}
            alone = rounds(empty, 20 if options.quick else 200)
            del empty
            gc.collect()
            found += step_lines(bound, spent, alone, workers)
            if workers == 0:
                found += forwards(bound, alone, dataset)
    return found


def step_lines(bound, spent, alone, workers):
    plain, found = spent["plain"], []
    print(
        f"\nA step of {BATCH} with {workers} workers, {len(plain[0])} rounds: ResNet-18 alone "
        f"{statistics.median(plain[0]) * 1000:.0f} ms of CPU time, {statistics.median(plain[1]) * 1000:.0f} ms in all"
    )
    print(f"  {'added by':22}{'of the step, own clock':>30}{'by the wall':>30}{'alone':>10}{'limit':>7}")
    for name in [name for name in bound if name != "plain"]:
        added_ms = statistics.median(x - y for x, y in zip(alone[name][0], alone["plain"][0], strict=True)) * 1000
        line = {"workers": workers, "kind": name, "alone_ms": added_ms}
        if name not in CHARGED:
            print(f"  {name:22}{'':60}{added_ms:7.2f} ms")
            found.append(line)
            continue
        (own, low, high), wall, limit = share(spent[name], plain, 0), share(spent[name], plain, 1), CHARGED[name]
        print(
            f"  {name:22}{f'{own:.2%} [{low:+.2%}, {high:+.2%}]':>30}"
            f"{f'{wall[0]:.2%} [{wall[1]:+.2%}, {wall[2]:+.2%}]':>30}{added_ms:7.2f} ms{limit:7.0%} "
            f"{verdict(low, high, limit)}"
        )
        found.append(
            line
            | {"added_share": own, "added_share_ci95": [low, high], "wall_share": wall[0], "wall_share_ci95": wall[1:]}
            | {"limit": limit, "verdict": verdict(low, high, limit), "rounds": len(plain[0])}
            | {"step_ms": statistics.median(plain[0]) * 1000}
        )
    return found


@torch.no_grad()
def forwards(bound, alone, dataset):
    """A mask costs its own forward: the excess of its loop over a forward of the mask's network by itself."""
    commentary = bound["mask"].commentaries[0]
    inputs = dataset.tensors[0][:BATCH]
    seconds = []
    for _ in range(50):
        start = time.process_time()
        commentary(Batch(inputs, dataset.tensors[1][:BATCH]), 0.0)
        seconds.append(time.process_time() - start)
    own = statistics.median(seconds)
    added = statistics.median(x - y for x, y in zip(alone["mask"][0], alone["plain"][0], strict=True))
    print(f"  a mask's own forward takes {own * 1000:.2f} ms: it adds {added / own:.2f} forwards")
    return [{"kind": "mask", "own_forward_ms": own * 1000, "added_forwards": added / own}]


class Pictures:
    """As many decoded pictures as asked for, of a hundred thousand different ones."""

    def __init__(self, size):
        self.size = size
        self.held = np.random.default_rng(0).integers(0, 256, (min(size, 100_000), 32, 32, 3), dtype=np.uint8)

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.held[index % len(self.held)], index % 10


def keys_part(options):
    size = 20_000 if options.quick else 1_000_000
    found = {"pictures": size}
    pictures = Pictures(size)
    for workers, name in ((0, "keyed_by_one_process_s"), (2, "keyed_by_two_processes_s")):
        start = time.perf_counter()
        dataset_keys(raw_examples(pictures), workers=workers, cache=False)
        found[name] = time.perf_counter() - start
    start = time.perf_counter()
    content_keys(pictures.held)
    found["keyed_as_one_array_s"] = (time.perf_counter() - start) * size / len(pictures.held)
    some = 1_000 if options.quick else 10_000
    features = Features({"image": ImageFeature(), "label": Value("int64")})
    cells = []
    for picture in pictures.held[:some]:
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    raw = raw_examples(Dataset.from_dict({"image": cells, "label": [0] * some}, features=features))
    start = time.perf_counter()
    for _ in raw.chunks():
        pass
    found["decoding_png_by_one_process_s"] = (time.perf_counter() - start) * size / some
    print(f"\n{size:,} decoded pictures [32, 32, 3]")
    for name, value in found.items():
        if name != "pictures":
            print(f"  {name.removesuffix('_s').replace('_', ' '):32}{value:8.1f} s")
    return found


def rows_part(options):
    sizes = [100_000] if options.quick else [10**6, 10**7] + ([10**8] if options.full else [])
    found = []
    print(f"\nTables of weights; {BOUND:,} examples bound, look-ups in batches of 128")
    print(
        f"  {'rows':>12}{'open':>10}{'bind':>10}{'look-up':>11}{'all keys':>10}"
        f"{'after open':>13}{'after bind':>12}{'peak, own':>11}{'file':>11}"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_table(Path(folder), size)
            command = [sys.executable, __file__, "--measure", folder]
            line = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        found.append({"rows": size} | line)
        print(
            f"  {size:12,}{line['open_s']:8.2f} s{line['bind_s']:8.2f} s{line['lookup_us']:8.0f} µs"
            f"{line['match_s']:8.1f} s{line['open_mb']:10.0f} MB{line['bind_mb']:9.0f} MB{line['peak_mb']:8.0f} MB"
            f"{line['file_mb']:8,.0f} MB"
        )
        for part in line["parts"]:
            print(
                f"  {part['rows']:12,} rows of them by {'ranges' if part['several_ranges'] else 'single ranges'}: "
                f"{part['requests']:,} requests, {part['mb']:.2f} MB ({part['mb'] / line['file_mb']:.2%} of the file), "
                f"{part['seconds']:.2f} s"
            )
    return found


def bound_examples():
    return TensorDataset(
        torch.randn(BOUND, 4, generator=torch.Generator().manual_seed(0)), torch.arange(BOUND) % CLASSES
    )


def write_table(folder, size):
    """An artefact of ``size`` rows that holds the examples to be bound among random others; digests left out."""
    examples = bound_examples()
    own = content_keys(examples.tensors[0]).view(">u8").astype(np.uint64)
    own = own[np.argsort(own[:, 0])]
    rng = np.random.default_rng(0)
    high = np.sort(rng.integers(0, 2**64, size - BOUND, dtype=np.uint64))
    places = np.searchsorted(high, own[:, 0])
    keys = np.empty((size, 2), ">u8")
    keys[:, 0] = np.insert(high, places, own[:, 0])
    keys[:, 1] = np.insert(rng.integers(0, 2**64, size - BOUND, dtype=np.uint64), places, own[:, 1])
    digests = target_digests(examples.tensors[1])[np.argsort(content_keys(examples.tensors[0]).view(">u8")[:, 0])]
    targets = np.zeros((size, 8), np.uint8)
    targets[places + np.arange(BOUND)] = digests
    binding = DatasetBinding(identity={"id": RANDOM}, rows=size, key=KeyScheme(form="numeric"))
    rows = Rows(keys[:4].view(np.uint8).copy(), targets[:4])
    small = save(folder, ExampleWeights(rows=4), name="large", dataset=binding, loss_reduction="mean", rows=rows)
    tensors = {
        "rows.keys": torch.from_numpy(keys.view(np.uint8).reshape(size, 16)),
        "rows.targets": torch.from_numpy(targets),
        "commentary.logits": torch.randn(size, 1),
    }
    save_file(tensors, folder / "commentary.safetensors")
    said = json.loads(small.to_json())
    for name, tensor in tensors.items():
        said["tensors"][name]["shape"] = list(tensor.shape)
    said["parameters"]["rows"] = size
    path = folder / "commentary.safetensors"
    said["files"] = {path.name: {"sha256": "0" * 64, "size_bytes": path.stat().st_size}}
    (folder / "commentary.json").write_text(Manifest.model_validate(said).to_json())


def memory_mb(kind):
    """Resident memory of this process: ``VmRSS`` with mapped pages of files, ``RssAnon`` without."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[kind].split()[0]) / 1024


class Served:
    """The files of a folder as a hub's web server sends them; counts requests, and bytes with their heads of parts.

    ``several`` says whether it answers several ranges at once, as nginx and Apache do, or with the whole file, as
    HTTP allows and S3 does.
    """

    def __init__(self, folder, *, several):
        self.files = StaticFiles(directory=folder)
        self.several, self.requests, self.size = several, 0, 0

    async def __call__(self, scope, receive, send):
        async def counted(message):
            self.size += len(message.get("body", b""))
            await send(message)

        if scope["type"] == "http":
            self.requests += 1
        if not self.several and b"," in dict(scope.get("headers", [])).get(b"range", b""):
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await self.files(scope, receive, counted)


def parts_by_range(folder, examples):
    """What it takes to read some rows of the table in ``folder`` from a web server, as `load_for` does from a hub."""
    found = []
    for several in (True, False):
        served = Served(folder, several=several)
        place = f"/datasets/{RANDOM}/resolve/{'0' * 40}"
        with listening(Starlette(routes=[Mount(place, served)])) as address:
            for size in PARTS:
                far = Remote(read_manifest(folder), folder, "0" * 40, RANDOM, "", HfApi(endpoint=address, token=False))
                keys = content_keys(examples.tensors[0][:size])
                served.requests = served.size = 0
                start = time.perf_counter()
                part = load_part(far, keys, cache=False)
                seconds = time.perf_counter() - start
                assert len(part.rows.keys) == size
                line = {"rows": size, "several_ranges": several, "requests": served.requests}
                found.append(line | {"mb": served.size / 1e6, "seconds": seconds})
    return found


def measure(folder):
    """Open, bind and look up one table; its own process."""
    torch.set_num_threads(1)
    examples = bound_examples()
    before, before_own = memory_mb("VmRSS"), memory_mb("RssAnon")
    found, start = {}, time.perf_counter()
    one = load(folder, verify=False)
    found["open_s"], found["open_mb"] = time.perf_counter() - start, memory_mb("VmRSS") - before
    start = time.perf_counter()
    binding = bind(one, examples, workers=0)
    found["bind_s"], found["bind_mb"] = time.perf_counter() - start, memory_mb("VmRSS") - before
    assert binding.counts.found == BOUND
    positions = torch.randint(0, BOUND, (2_000, 128))
    batch = torch.empty(128, 0), torch.zeros(128, dtype=torch.int64)
    start = time.perf_counter()
    for rows in positions:
        binding.step(*batch, rows, 0.0)
    found["lookup_us"] = (time.perf_counter() - start) / len(positions) * 1e6
    found["peak_mb"] = memory_mb("RssAnon") - before_own
    found["file_mb"] = (Path(folder) / "commentary.safetensors").stat().st_size / 1e6
    found["parts"] = parts_by_range(Path(folder), examples)
    start = time.perf_counter()
    match = KeyIndex(one.rows.keys, one.rows.targets).match(one.rows.keys, one.rows.targets)
    found["match_s"] = time.perf_counter() - start
    assert match.found == len(one.rows.keys)
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=["steps", "keys", "rows"], default=["steps", "keys", "rows"])
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs, not what it costs")
    parser.add_argument("--full", action="store_true", help="also 10⁸ rows (6 GB of memory to write, 3 GB of disk)")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--json", type=Path, default=Path("reuse.json"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    parts = {"steps": steps_part, "keys": keys_part, "rows": rows_part}
    found = {name: part(options) for name, part in parts.items() if name in options.only}
    found["machine"] = {"cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    options.json.write_text(json.dumps(found, indent=2) + "\n")
    print(f"\nwrote {options.json}")


if __name__ == "__main__":
    main()
