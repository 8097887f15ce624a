"""Every way to a weight for each example: ours, betty's, boat's, cleanlab's; and the model that each is judged by."""

import os
import subprocess
import tempfile
import venv
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.peers.boat_worker import OUTER_LR
from benchmarks.peers.models import build
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.learning import SGD, Implicit, Neumann, Population, Student, Unrolled, learn

PEERS = Path(__file__).parents[1] / "peers"  # what boat's environment can import too
FINAL_STEPS, FINAL_BATCH = 600, 100
FIT_STEPS = (50, 100, 200, FINAL_STEPS)
FITTED = {  # models of the clean examples for each kind: (kind, steps)
    "linear": [("linear", steps) for steps in FIT_STEPS],
    "cbr": [("mlp", 100), ("mlp", 300), ("mlp", FINAL_STEPS), *(("cbr", steps) for steps in FIT_STEPS)],
}
RATES = {"linear": 0.1, "mlp": 0.1, "cbr": 0.05}  # of every plain training here
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


def ours_started(task, model):
    """The exact one through a few steps, from where a model of the clean examples is sure of a label or of another."""
    kind, _ = model
    return ours(
        task, Unrolled(), SGD(lr=0.02 if kind == "cbr" else 0.1, momentum=0.9), count=2, steps=2,
        batch=250 if kind == "cbr" else 500, held=500, outer_lr=0.5, initial=start(task, model), kind=kind,
    )  # fmt: skip


def start(task, model):
    """Logits [N, 1]: log p(label) − log p(the likeliest other class), within ±6."""
    probabilities = torch.from_numpy(predicted(fitted_to_clean(task, model), task.train.inputs)).clamp_min(1e-9)
    labels = task.train.targets[:, None]
    others = probabilities.scatter(1, labels, 0).amax(1, keepdim=True)
    return (probabilities.gather(1, labels) / others).log().clamp(-6, 6)


def start_alone(task, model):
    """The control: the same logits, nothing learned."""
    return torch.sigmoid(start(task, model))[:, 0].numpy(), None


def ours(task, method, inner, *, count, steps, batch, held, outer_lr=OUTER_LR, initial=0.0, kind=None):
    count, kind = task.steps(count), kind or task.kind
    table = ExampleWeights(rows=len(task.train), initial=initial)
    learned = learn(
        table, Student(kind, lambda: build(kind)), train=task.train, validation=task.held, method=method,
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


def cleanlab_filter(task, model):
    """The control: its filter on the probabilities of a model of the clean examples."""
    return cleanlab_judged(task, predicted(fitted_to_clean(task, model), task.train.inputs))


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


def fitted_to_clean(task, model):
    """A model of the clean examples."""
    kind, steps = model
    return fitted(task, task.held.inputs, task.held.targets, kind=kind, steps=steps)


def fitted(task, inputs, targets, weights=None, *, kind=None, steps=FINAL_STEPS):
    """A fresh model after ``steps``, by default the final budget, on weighted examples (divided by their mean)."""
    torch.manual_seed(0)
    kind = kind or task.kind
    model = build(kind).to(task.device)
    weights = torch.ones(len(targets)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    inputs, targets, weights = (t.to(task.device) for t in (inputs, targets, weights / weights.mean()))
    steps = task.steps(steps)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATES[kind], momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    generator = torch.Generator().manual_seed(0)
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
            command = [python, PEERS / "boat_worker.py", source, target, task.kind, solver, str(count)]
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


def contenders(kind, solvers, python):
    """Name → function of a task; those that learn nothing through training, controls, in brackets."""
    warm = lambda label, run: {
        label.format(f"{model[0]} {model[1]}"): partial(run, model=model) for model in FITTED[kind]
    }
    found = {"ours, unrolled": ours_unrolled, "ours, implicit": ours_implicit} | warm("ours, warm, {}", ours_started)
    found |= {"betty, neumann": betty, "cleanlab, out of fold": cleanlab_alone}
    found |= {f"boat, {name}": boat(name, python) for name in solvers}
    return found | warm("(start alone, {})", start_alone) | warm("(cleanlab's filter, {})", cleanlab_filter)
