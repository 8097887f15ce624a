"""One problem and every way to its hypergradient: ours, by hand, higher, torchopt; the implicit step of ours, betty."""

import copy

import torch
from torch import nn
from torch.func import functional_call

from commentary_hub.commentaries import Commentary, Stage, cross_entropy
from commentary_hub.learning import SGD, Adam, Implicit, Training, Unrolled
from commentary_hub.networks import CBR

BATCH, CLASSES, EXAMPLES, HELD = 8, 10, 2_000, 64

LR = {"sgd": 0.01, "adam": 1e-3}
EPS_ROOT = 1e-8
FROZEN = "training, frozen commentary"
OURS = {"ours, full graph": "full", "ours, stored": "stored", "ours, √T": "checkpoints"}


class PictureWeights(Commentary):
    """w = sigmoid(CBR([x, i/T])), the paper's weight network."""

    kind, stage = "picture_weights", Stage.WEIGHT

    def __init__(self):
        super().__init__()
        self.trunk = CBR(4, 1)

    def weights(self, inputs, progress):
        age = inputs.new_full((len(inputs), 1, *inputs.shape[2:]), float(progress))
        return torch.sigmoid(self.trunk(torch.cat([inputs, age], 1))).squeeze(1)

    def forward(self, batch, progress):
        return batch.weighted(self.weights(batch.inputs, progress))

    def config(self):
        return {}

    @classmethod
    def from_config(cls, _config):
        return cls()


class World:
    """The same data, student and commentary for everybody."""

    def __init__(self, steps, optimiser, device, held=HELD):
        torch.manual_seed(0)
        self.steps, self.optimiser, self.device = steps, optimiser, device
        self.inputs = torch.randn(EXAMPLES, 3, 32, 32, device=device)
        self.targets = torch.randint(0, CLASSES, (EXAMPLES,), device=device)
        self.held = torch.randn(held, 3, 32, 32, device=device), torch.randint(0, CLASSES, (held,), device=device)
        self.batches = torch.randint(0, EXAMPLES, (steps, BATCH), device=device)
        self.student, self.commentary = CBR(3, CLASSES).to(device), PictureWeights().to(device)

    def loss(self, outputs, step, weights=None):
        rows = self.batches[step]
        losses = nn.functional.cross_entropy(outputs, self.targets[rows], reduction="none")
        if weights is None:
            weights = self.commentary.weights(self.inputs[rows], step / self.steps)
        return (weights * losses).mean()

    def outer(self, outputs):
        return nn.functional.cross_entropy(outputs, self.held[1])

    def grads(self, loss):
        return torch.autograd.grad(loss, tuple(self.commentary.parameters()))

    def problem(self):
        inner = SGD(lr=LR["sgd"]) if self.optimiser == "sgd" else Adam(lr=LR["adam"], eps_root=EPS_ROOT)
        return Training(
            student=self.student, commentaries=(self.commentary,), inputs=self.inputs, targets=self.targets,
            batches=self.batches, validation_inputs=self.held[0], validation_targets=self.held[1], inner=inner,
            reduction="mean", criterion=cross_entropy, domain=self.steps,
        )  # fmt: skip


def ours(memory):
    def run(world):
        problem = world.problem()
        return Unrolled(memory=memory).hypergradient(problem, problem.start()).value

    return run


def hand(world):
    """What one writes by hand: functional_call, create_graph, one backward pass through everything."""
    student = world.student
    names = [name for name, _ in student.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in student.parameters()]
    firsts, seconds = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step in range(world.steps):
        outputs = functional_call(student, dict(zip(names, parameters, strict=True)), world.inputs[world.batches[step]])
        grads = torch.autograd.grad(world.loss(outputs, step), parameters, create_graph=True)
        if world.optimiser == "sgd":
            parameters = [p - LR["sgd"] * g for p, g in zip(parameters, grads, strict=True)]
            continue
        firsts = [0.9 * m + 0.1 * g for m, g in zip(firsts, grads, strict=True)]
        seconds = [0.999 * v + 0.001 * g * g for v, g in zip(seconds, grads, strict=True)]
        root = 1 - 0.999 ** (step + 1)
        parameters = [
            p - LR["adam"] / (1 - 0.9 ** (step + 1)) * m / ((v / root + EPS_ROOT).sqrt() + 1e-8)
            for p, m, v in zip(parameters, firsts, seconds, strict=True)
        ]
    return world.grads(world.outer(functional_call(student, dict(zip(names, parameters, strict=True)), world.held[0])))


def with_higher(world):
    import higher

    student = copy.deepcopy(world.student)
    make = torch.optim.SGD if world.optimiser == "sgd" else torch.optim.Adam
    settings = {} if world.optimiser == "sgd" else {"eps": 1e-8}
    optimiser = make(student.parameters(), lr=LR[world.optimiser], **settings)
    with higher.innerloop_ctx(student, optimiser, copy_initial_weights=True) as (functional, differentiable):
        for step in range(world.steps):
            differentiable.step(world.loss(functional(world.inputs[world.batches[step]]), step))
        return world.grads(world.outer(functional(world.held[0])))


def with_torchopt(world):
    import torchopt

    student = copy.deepcopy(world.student)
    if world.optimiser == "sgd":
        optimiser = torchopt.MetaSGD(student, lr=LR["sgd"])
    else:
        optimiser = torchopt.MetaAdam(student, lr=LR["adam"], eps_root=EPS_ROOT)
    for step in range(world.steps):
        optimiser.step(world.loss(student(world.inputs[world.batches[step]]), step))
    return world.grads(world.outer(student(world.held[0])))


def training(*, frozen):
    """Training with torch.optim, alone or with the frozen commentary in the loop."""

    def run(world):
        student = copy.deepcopy(world.student)
        make = torch.optim.SGD if world.optimiser == "sgd" else torch.optim.Adam
        optimiser = make(student.parameters(), lr=LR[world.optimiser])
        for step in range(world.steps):
            rows = world.batches[step]
            weights = 1.0
            if frozen:
                with torch.no_grad():
                    weights = world.commentary.weights(world.inputs[rows], step / world.steps)
            optimiser.zero_grad()
            world.loss(student(world.inputs[rows]), step, weights).backward()
            optimiser.step()

    return run


CONTENDERS = {
    "training": training(frozen=False),
    FROZEN: training(frozen=True),
    **{name: ours(memory) for name, memory in OURS.items()},
    "hand-written unroll": hand,
    "higher": with_higher,
    "torchopt": with_torchopt,
}
LIBRARIES = ("higher", "torchopt")


def ours_implicit(world, inverse):
    from dataclasses import replace

    problem, method = world.problem(), Implicit(inverse)
    parameters = list(world.commentary.parameters())
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    state = problem.start()
    for step in range(world.steps):
        one = replace(problem, batches=world.batches[step : step + 1], first_step=step)
        found = method.hypergradient(one, state)
        state = found.state
        for parameter, value in zip(parameters, found.value, strict=True):
            parameter.grad = value
        optimiser.step()


def betty(world, method):
    from betty.configs import Config, EngineConfig
    from betty.engine import Engine
    from betty.problems import ImplicitProblem

    inner_batches = [(world.inputs[rows], world.targets[rows], at) for at, rows in enumerate(world.batches)]

    class Outer(ImplicitProblem):
        def forward(self, inputs, progress):
            return world.commentary.weights(inputs, progress)

        def training_step(self, batch):
            return nn.functional.cross_entropy(self.inner(batch[0]), batch[1])

    class Inner(ImplicitProblem):
        def training_step(self, batch):
            inputs, targets, step = batch
            losses = nn.functional.cross_entropy(self.module(inputs), targets, reduction="none")
            return (self.outer(inputs, step / world.steps) * losses).mean()

    settings = {"neumann_iterations": 3, "neumann_alpha": LR["sgd"]} if method == "neumann" else {"cg_iterations": 3}
    student = copy.deepcopy(world.student)
    outer = Outer(
        name="outer", module=world.commentary, train_data_loader=[world.held], config=Config(log_step=-1),
        optimizer=torch.optim.Adam(world.commentary.parameters(), lr=1e-3), device=world.device,
    )  # fmt: skip
    inner = Inner(
        name="inner", module=student, train_data_loader=inner_batches, device=world.device,
        config=Config(type=method, unroll_steps=1, log_step=-1, **settings),
        optimizer=torch.optim.SGD(student.parameters(), lr=LR["sgd"]),
    )  # fmt: skip
    engine = Engine(
        config=EngineConfig(train_iters=world.steps, logger_type="none"), problems=[outer, inner],
        dependencies={"u2l": {outer: [inner]}, "l2u": {inner: [outer]}},
    )  # fmt: skip
    engine.run()
