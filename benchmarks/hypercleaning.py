"""Hyper-cleaning of MNIST: half of 5,000 labels wrong, which? With 5,000 clean examples to learn from.

A weight for every training example is learned by each contender for a linear model and for CBR, under symmetric and
pair-wise noise: ours online by exact unrolling and by implicit differentiation, and by unrolling from a warm start,
that is from the margins of a model of the clean examples; betty's neumann online; boat-torch's solvers
(``--with-boat``: in an environment of its own, made on first use, because it pins an old numpy); cleanlab out of fold.
Learning rates, batch sizes and outer steps of ours and betty's were chosen on a split of their own (seed 100), from the
same values; of outer steps the fewest after which more of them add less than a point.
The model of the clean examples is of the kind that the weights are for, or for CBR also a small MLP (64 units): weights
may be learned with one student for another. Controls, which learn no weights through training: none, clean labels
known, the 5,000 clean examples alone; and from the very models that the warm starts have: the start alone, and
cleanlab's filter.
Measured: AUROC and F1 (weight above one half, or kept) of finding the clean labels, the process's seconds for the
weights, and the test accuracy (10,000) of a fresh model of the same kind on the weighted training set, the same budget
for all. Below each table: who is the quickest to come within a point of the best.

Run: ``python benchmarks/hypercleaning.py --data FOLDER [--quick] [--with-boat [SOLVER …]] [--device cuda]
[--json FILE]``; FOLDER holds MNIST as parquet files (or is a Hub id, the default).
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.contenders.hypercleaning import Task, accuracy, boat_python, contenders, fitted
from benchmarks.peers.boat_worker import SOLVERS
from commentary_hub.data import corrupt_labels, open_examples, split_examples
from commentary_hub.evidence import hardware

SIZES = {"train": 5_000, "held": 5_000}


def judged(task, name, run):
    """One line of the table: weights, how well they tell clean from wrong, what a model makes of them."""
    clock = time.process_time if task.device.type == "cpu" else time.perf_counter  # each ends by reading the weights
    began = clock()
    found, other = run(task)
    seconds = other if isinstance(other, float) else clock() - began
    kept = other if isinstance(other, np.ndarray) else found > 0.5
    weights = kept.astype(np.float32) if isinstance(other, np.ndarray) else found
    model = fitted(task, task.train.inputs, task.train.targets, weights)
    return {
        "contender": name, "auroc": float(roc_auc_score(task.clean, found)), "f1": float(f1_score(task.clean, kept)),
        "accuracy": accuracy(task, model), "seconds": seconds,
    }  # fmt: skip


def controls(task):
    noisy = task.train.inputs, task.train.targets
    arms = {
        "(none)": (*noisy, None),
        "(clean labels known)": (*noisy, task.clean.astype(np.float32)),
        "(the clean examples alone)": (task.held.inputs, task.held.targets, None),
    }
    return [{"contender": name, "accuracy": accuracy(task, fitted(task, *arm))} for name, arm in arms.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="ylecun/mnist")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps: shows that everything runs")
    parser.add_argument("--with-boat", nargs="*", choices=SOLVERS, metavar="SOLVER", help="all of boat's, or these")
    parser.add_argument("--boat-python", help="an interpreter that has boat-torch, instead of making an environment")
    parser.add_argument("--models", nargs="+", choices=("linear", "cbr"), default=("linear", "cbr"))
    parser.add_argument("--noises", nargs="+", choices=("symmetric", "pairwise"), default=("symmetric", "pairwise"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of all contenders but boat")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if missing := [peer for peer in ("betty", "cleanlab") if find_spec(peer) is None]:
        parser.error(f"{', '.join(missing)} must be there to be measured: make .venv/benched installs every peer")
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    solvers = () if options.with_boat is None else options.with_boat or tuple(SOLVERS)
    python = (options.boat_python or boat_python()) if solvers else ""
    whole = open_examples(options.data, split="train", limit=20_000)
    test = open_examples(options.data, split="test")
    device, results = torch.device(options.device), []
    print(f"on {hardware(device)}")
    for noise in options.noises:
        for kind in options.models:
            lines = []
            for seed in range(options.seeds):
                parts = split_examples(whole, SIZES, seed=seed)
                noisy, mistaken = corrupt_labels(parts["train"], 0.5, noise=noise, seed=seed)
                task = Task(noisy, parts["held"], test, mistaken, kind, 0.05 if options.quick else 1.0, device)
                lines += controls(task)
                for name, run in contenders(kind, solvers, python).items():
                    try:
                        lines.append(judged(task, name, run))
                    except (ArithmeticError, AssertionError, RuntimeError, subprocess.CalledProcessError) as error:
                        lines.append({"contender": name, "failed": str(error).splitlines()[0]})
                    print(f"  {noise}, {kind}, {lines[-1]}", file=sys.stderr, flush=True)
            results.append({"noise": noise, "model": kind, "lines": lines})
            show(noise, kind, lines)
    if options.json:
        options.json.write_text(
            json.dumps({"torch": torch.__version__, "device": hardware(device), "results": results}, indent=2) + "\n"
        )


def show(noise, kind, lines):
    print(f"\n{noise} noise, {kind} model (controls in brackets)")
    print(f"  {'':30}{'AUROC':>8}{'F1':>8}{'accuracy':>10}{'seconds':>9}")
    means = {}
    for name in dict.fromkeys(line["contender"] for line in lines):
        own = [line for line in lines if line["contender"] == name]
        if failed := [line["failed"] for line in own if "failed" in line]:
            print(f"  {name:30}  {failed[0]}", flush=True)
            continue
        mean = {key: statistics.mean(line[key] for line in own) for key in own[0] if key != "contender"}
        shown = [f"{mean[key]:{width}}" if key in mean else f"{'–':>{int(width.split('.')[0])}}" for key, width in
                 (("auroc", "8.4f"), ("f1", "8.4f"), ("accuracy", "10.4f"), ("seconds", "9.2f"))]  # fmt: skip
        print(f"  {name:30}" + "".join(shown), flush=True)
        if "seconds" in mean:
            means[name] = mean
    show_quickest(means)


def show_quickest(means):
    """Of each family of contenders the one that comes within a point of the best of them in the least time."""
    best = max(mean["accuracy"] for name, mean in means.items() if not name.startswith("("))
    print(f"  within a point of {best:.4f}, the best, the quickest of each:")
    for family in dict.fromkeys(name.split(",")[0] for name in means):
        near = [
            (mean["seconds"], mean["accuracy"], name)
            for name, mean in means.items()
            if name.split(",")[0] == family and mean["accuracy"] >= best - 0.01
        ]
        seconds, reached, name = min(near, default=(None, None, None))
        print(f"    {f'{name:30}{reached:8.4f}{seconds:9.2f} s' if near else f'{family:30}    none'}", flush=True)


if __name__ == "__main__":
    main()
