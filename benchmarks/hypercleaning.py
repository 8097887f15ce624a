"""Hyper-cleaning of MNIST: half of 5,000 labels wrong, which? With 5,000 clean examples to learn from.

A weight for every training example is learned by each contender for a linear model and for CBR, under symmetric and
pair-wise noise: ours online by exact unrolling and by implicit differentiation, and by unrolling from a warm start,
that is from the margins of a model of the clean examples; betty's neumann online; boat-torch's solvers
(``--with-boat``: in an environment of its own, made on first use, because it pins an old numpy); cleanlab without the
clean examples (out of fold, its own use) and over a model of the clean examples. Whoever uses such a model, it is
trained for 100 steps, the fewest after which more of them add less than a point, or for 600. Learning rates, batch
sizes and outer steps of ours and betty's were chosen on a split of their own (seed 100), from the same values; of outer
steps the fewest after which more of them add less than a point.
Measured: AUROC and F1 (weight above one half, or kept) of finding the clean labels, the process's seconds for the
weights, and the test accuracy (10,000) of a fresh model of the same kind on the weighted training set, the same budget
for all, plus the controls: none, clean labels known, the 5,000 clean examples alone, the warm start alone.

Run: ``python benchmarks/hypercleaning.py --data FOLDER [--quick] [--with-boat] [--device cuda] [--json FILE]``; FOLDER
holds MNIST as parquet files (or is a Hub id, the default).
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "peers"))

from boat_worker import OUTER_LR, SOLVERS
from models import build

from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import corrupt_labels, open_examples, split_examples
from commentary_hub.evidence import hardware
from commentary_hub.learning import SGD, Implicit, Neumann, Population, Student, Unrolled, learn

SIZES = {"train": 5_000, "held": 5_000}
FINAL_STEPS, FINAL_BATCH = 600, 100
FIT_STEPS = (100, FINAL_STEPS)  # of a model of the clean examples
BOAT = "boat-torch==1.1.1"


class Task:
    """Noisy training examples, clean ones, and a test set."""

    def __init__(self, train, held, test, mistaken, kind, scale, device):
        self.train, self.held, self.test, self.kind, self.scale = train, held, test, kind, scale
        self.device = device
        self.clean = (~mistaken).numpy()

    def steps(self, count):
        return max(2, round(count * self.scale))


def ours_unrolled(task):
    """Exact through ten steps at a time of one student that goes on."""
    linear = task.kind == "linear"
    inner = SGD(lr=0.1 if linear else 0.02, momentum=0.9)
    count, batch, held = (40, 500, 5_000) if linear else (60, 250, 1_000)
    return ours(task, Unrolled(), inner, count=count, steps=10, batch=batch, held=held)


def ours_implicit(task):
    """Online: one student that goes on, two steps between hypergradients."""
    linear = task.kind == "linear"
    lr = 0.5 if linear else 0.05
    method = Implicit(Neumann(terms=3, scale=lr))
    return ours(
        task, method, SGD(lr=lr), count=100, steps=2, batch=1_000 if linear else 500, held=5_000 if linear else 1_000
    )


def ours_started(task, fit_steps):
    """The exact one through a few steps, from where a model of the clean examples is sure of a label or of another."""
    linear = task.kind == "linear"
    return ours(
        task, Unrolled(), SGD(lr=0.1 if linear else 0.02, momentum=0.9), count=3 if linear else 2, steps=5,
        batch=500 if linear else 250, held=1_000 if linear else 500, outer_lr=0.5, initial=start(task, fit_steps),
    )  # fmt: skip


def start(task, fit_steps):
    """Logits [N, 1]: log p(label) − log p(the likeliest other class), within ±6."""
    probabilities = torch.from_numpy(predicted(fitted_to_clean(task, fit_steps), task.train.inputs)).clamp_min(1e-9)
    labels = task.train.targets[:, None]
    others = probabilities.scatter(1, labels, 0).amax(1, keepdim=True)
    return (probabilities.gather(1, labels) / others).log().clamp(-6, 6)


def start_alone(task, fit_steps):
    """The control: the same logits, nothing learned."""
    return torch.sigmoid(start(task, fit_steps))[:, 0].numpy(), None


def ours(task, method, inner, *, count, steps, batch, held, outer_lr=OUTER_LR, initial=0.0):
    count = task.steps(count)
    table = ExampleWeights(rows=len(task.train), initial=initial)
    learned = learn(
        table, Student(task.kind, lambda: build(task.kind)), train=task.train, validation=task.held, method=method,
        inner=inner, inner_steps=steps, batch_size=batch, outer_steps=count, outer_batch_size=held, reduction="mean",
        outer=lambda parameters: torch.optim.Adam(parameters, lr=outer_lr), population=Population(fresh_every=count),
        device=task.device,
    )  # fmt: skip
    return learned.commentary.values()[:, 0].numpy(), None


class Batches:
    """What betty takes for a data loader: (inputs, targets, rows) of one batch at a time."""

    def __init__(self, task, examples, rows):
        self._inputs, self._targets, self._rows = (t.to(task.device) for t in (examples.inputs, examples.targets, rows))

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return ((self._inputs[rows], self._targets[rows], rows) for rows in self._rows)


def betty(task):
    """Online, one inner step between hypergradients, 3 iterations of its Neumann series."""
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.problems import ImplicitProblem

    linear = task.kind == "linear"
    lr, batch, held_batch, count = (0.3, 1_000, 2_500, 150) if linear else (0.05, 250, 250, 200)
    count = task.steps(count)
    generator = torch.Generator().manual_seed(0)
    draw = lambda examples, size: torch.randint(0, len(examples), (count, size), generator=generator)
    train, held = (
        Batches(task, task.train, draw(task.train, batch)),
        Batches(task, task.held, draw(task.held, held_batch)),
    )

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(len(task.train)))

        def forward(self, rows):
            return torch.sigmoid(self.logits[rows])

    class Outer(ImplicitProblem):
        def training_step(self, batch):
            return nn.functional.cross_entropy(self.inner(batch[0]), batch[1])

    class Inner(ImplicitProblem):
        def training_step(self, batch):
            losses = nn.functional.cross_entropy(self.module(batch[0]), batch[1], reduction="none")
            return (self.outer(batch[2]) * losses).mean()

    torch.manual_seed(0)
    table, model = Table(), build(task.kind)
    quiet = {"log_step": -1}
    outer = Outer(
        name="outer", module=table, train_data_loader=held, config=Config(**quiet),
        optimizer=torch.optim.Adam(table.parameters(), lr=OUTER_LR), device=task.device,
    )  # fmt: skip
    inner = Inner(
        name="inner", module=model, train_data_loader=train, device=task.device,
        config=Config(type="neumann", unroll_steps=1, neumann_iterations=3, neumann_alpha=lr, **quiet),
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
    )  # fmt: skip
    Engine(
        config=EngineConfig(train_iters=count, logger_type="none"), problems=[outer, inner],
        dependencies={"u2l": {outer: [inner]}, "l2u": {inner: [outer]}},
    ).run()  # fmt: skip
    return torch.sigmoid(table.logits).detach().cpu().numpy(), None


def cleanlab_alone(task):
    """Its own use: probabilities out of fold from the noisy examples themselves."""
    probabilities = np.zeros((len(task.train), 10))
    folds = torch.randperm(len(task.train), generator=torch.Generator().manual_seed(0)).chunk(3)
    for fold in folds:
        others = torch.ones(len(task.train), dtype=torch.bool)
        others[fold] = False
        model = fitted(task, task.train.inputs[others], task.train.targets[others])
        probabilities[fold.numpy()] = predicted(model, task.train.inputs[fold])
    return cleanlab_judged(task, probabilities)


def cleanlab_trusted(task, fit_steps):
    """With the clean examples: probabilities of a model that was trained on them."""
    return cleanlab_judged(task, predicted(fitted_to_clean(task, fit_steps), task.train.inputs))


def cleanlab_judged(task, probabilities):
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels = task.train.targets.numpy()
    kept = ~find_label_issues(labels, probabilities, n_jobs=1)
    return get_label_quality_scores(labels, probabilities), kept


def predicted(model, inputs):
    model.train()  # batch statistics, as everywhere here
    device = next(model.parameters()).device
    with torch.no_grad():
        parts = inputs.to(device).split(1_000)
        return torch.cat([model(part).softmax(1) for part in parts]).double().cpu().numpy()


def fitted_to_clean(task, fit_steps):
    """A model of the clean examples."""
    return fitted(task, task.held.inputs, task.held.targets, steps=fit_steps)


def fitted(task, inputs, targets, weights=None, seed=0, steps=FINAL_STEPS):
    """A fresh model after ``steps``, by default the final budget, on weighted examples (divided by their mean)."""
    torch.manual_seed(seed)
    model = build(task.kind).to(task.device)
    weights = torch.ones(len(targets)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    inputs, targets, weights = (t.to(task.device) for t in (inputs, targets, weights / weights.mean()))
    steps = task.steps(steps)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1 if task.kind == "linear" else 0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(0, len(targets), (FINAL_BATCH,), generator=generator).to(task.device)
        losses = nn.functional.cross_entropy(model(inputs[rows]), targets[rows], reduction="none")
        optimiser.zero_grad()
        (weights[rows] * losses).mean().backward()
        optimiser.step()
        schedule.step()
    return model


def accuracy(task, model):
    answers = predicted(model, task.test.inputs).argmax(1)
    return float((answers == task.test.targets.numpy()).mean())


def boat(solver, python):
    """One of boat's solvers, in its environment."""

    def run(task):
        count = task.steps(60 if task.kind == "linear" else 100)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
            np.savez(
                source, train_inputs=task.train.inputs.numpy(), train_targets=task.train.targets.numpy(),
                held_inputs=task.held.inputs.numpy(), held_targets=task.held.targets.numpy(),
            )  # fmt: skip
            worker = Path(__file__).parent / "peers" / "boat_worker.py"
            command = [python, worker, source, target, task.kind, solver, str(count)]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": ""}, stdout=subprocess.DEVNULL)
            found = np.load(target)
            return found["weights"], float(found["seconds"])

    return run


def boat_python():
    """The interpreter of boat's environment, made on first use."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "commentary-hub" / "boat"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making boat's environment in {folder} …", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", BOAT, "setuptools<81"], check=True)
        (folder / "ready").touch()
    return str(python)


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
        "none": (*noisy, None),
        "clean labels known": (*noisy, task.clean.astype(np.float32)),
        "the clean examples alone": (task.held.inputs, task.held.targets, None),
    }
    return [{"contender": name, "accuracy": accuracy(task, fitted(task, *arm))} for name, arm in arms.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="ylecun/mnist")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps: shows that everything runs")
    parser.add_argument("--with-boat", action="store_true")
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
    contenders = {"ours, unrolled": ours_unrolled, "ours, implicit": ours_implicit}
    contenders |= {f"ours, warm start, {steps}": partial(ours_started, fit_steps=steps) for steps in FIT_STEPS}
    contenders |= {f"its start alone, {steps}": partial(start_alone, fit_steps=steps) for steps in FIT_STEPS}
    contenders |= {"betty, neumann": betty, "cleanlab, out of fold": cleanlab_alone}
    contenders |= {f"cleanlab, clean ones, {steps}": partial(cleanlab_trusted, fit_steps=steps) for steps in FIT_STEPS}
    if options.with_boat:
        python = options.boat_python or boat_python()
        contenders |= {f"boat, {name}": boat(name, python) for name in SOLVERS}
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
                for name, run in contenders.items():
                    print(f"  … {noise}, {kind}, {name}", file=sys.stderr, flush=True)
                    try:
                        lines.append(judged(task, name, run))
                    except (ArithmeticError, AssertionError, RuntimeError, subprocess.CalledProcessError) as error:
                        lines.append({"contender": name, "failed": str(error).splitlines()[0]})
            results.append({"noise": noise, "model": kind, "lines": lines})
            show(noise, kind, lines)
    if options.json:
        options.json.write_text(
            json.dumps({"torch": torch.__version__, "device": hardware(device), "results": results}, indent=2) + "\n"
        )


def show(noise, kind, lines):
    print(f"\n{noise} noise, {kind} model\n  {'':28}{'AUROC':>8}{'F1':>8}{'accuracy':>10}{'seconds':>9}")
    for name in dict.fromkeys(line["contender"] for line in lines):
        own = [line for line in lines if line["contender"] == name]
        if any("failed" in line for line in own):
            print(f"  {name:28}  {own[0].get('failed', own[-1].get('failed'))}", flush=True)
            continue
        mean = lambda key, own=own: statistics.mean(line[key] for line in own) if key in own[0] else float("nan")
        shown = [f"{mean(key):{width}}" for key, width in
                 (("auroc", "8.4f"), ("f1", "8.4f"), ("accuracy", "10.4f"), ("seconds", "9.1f"))]  # fmt: skip
        print(f"  {name:28}" + "".join(shown).replace("nan", "  –"), flush=True)


if __name__ == "__main__":
    main()
