"""One student's training under commentaries, as pure functions of its state: what the methods differentiate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from commentary_hub.commentaries import Batch, Commentary, Criterion, Reduction, commented_loss
from commentary_hub.errors import InputError, NotDifferentiable, StatefulModule
from commentary_hub.learning._function import StudentFunction
from commentary_hub.learning._optimisers import InnerOptimiser, Tensors
from commentary_hub.learning._twice import TwiceDifferentiable

_SAME_LOSS = 0.01  # relative; rounding is far below, other random numbers above

Augmentation = Callable[[Tensor, int], Tensor]  # (inputs [B, …], seed) → inputs; deterministic in the seed


class State(NamedTuple):
    """A student between two steps: parameters, optimiser state, and buffers (which carry no gradient).

    `Training` holds all parameters in one vector.
    """

    parameters: Tensors
    optimiser: Tensors
    buffers: Tensors

    @property
    def differentiable(self) -> Tensors:
        """What the next step depends on differentiably."""
        return (*self.parameters, *self.optimiser)

    def detached(self) -> State:
        """The same numbers, cut from any graph."""
        return State(*(tuple(t.detach() for t in part) for part in self))

    def leaves(self) -> State:
        """The same numbers as new leaves that ask for gradients."""
        parameters, optimiser, buffers = self.detached()
        return State(
            tuple(p.requires_grad_() for p in parameters), tuple(o.requires_grad_() for o in optimiser), buffers
        )

    def to(self, dtype: torch.dtype) -> State:
        """Floating tensors in another precision."""
        return State(*(tuple(t.to(dtype) if t.is_floating_point() else t for t in part) for part in self))

    @property
    def size_bytes(self) -> int:
        """What storing it takes."""
        return sum(t.numel() * t.element_size() for part in self for t in part)


class Slope(NamedTuple):
    """The gradient of one step's training loss in the parameters, and the buffers that computing it left."""

    gradients: Tensors
    buffers: Tensors


class KnownWeights(NamedTuple):
    """Weights [T, B] that commentaries gave, and which steps' are there: one block, or many small ones fill memory."""

    values: Tensor
    there: bytearray


class Problem(Protocol):
    """A bilevel problem along one inner run: what `Unrolled` and `Implicit` need to know, and all they know.

    ``commentary`` are φ's tensors (leaves that require gradients). Inner step i is ``update`` of ``slope``.
    """

    @property
    def steps(self) -> int:
        """T, the number of inner steps."""

    @property
    def commentary(self) -> Tensors:
        """φ."""

    @property
    def affine(self) -> bool:
        """Whether `update` is affine in the gradients: its derivatives do not depend on their numbers."""

    @property
    def penalty(self) -> float:
        """λ of the (λ/2)‖θ‖² that `update` adds to the training loss."""

    def slope(self, state: State, step: int, *, create_graph: bool, values: bool = True) -> Slope:
        """∂L_T/∂θ at ``state`` on the batch of ``step``; with ``create_graph`` a function of θ and φ.

        Without ``values`` only derivatives of the gradients are looked at: their own numbers may be anything finite.
        """

    def update(self, state: State, slope: Slope, step: int) -> State:
        """The state after inner step ``step``: what the optimiser makes of the gradients."""

    def outer_loss(self, state: State) -> Tensor:
        """The validation loss of the student at ``state``."""

    def double(self) -> Problem:
        """The same problem in float64, with its own φ."""

    def fixed(self) -> Problem:
        """The same problem while φ does not change: what steps without a graph need of φ may be kept for the next."""


@dataclass(frozen=True)
class Training:
    """The problem of training ``student`` for some steps of ``batches`` under ``commentaries``.

    ``inputs`` [N, …], ``targets`` [N] are all training examples, ``batches`` int64 [T, B] says which of them each step
    sees, ``first_step`` the student's age before the first one and ``domain`` the T of progress i/T. Everything random
    in step i is a function of ``seed`` and i, so that a step can be replayed. The outer loss is the mean criterion on
    the validation examples, without weights and blends; commentaries that also act at inference (masks) act there.
    Normalisation layers use batch statistics in both losses; dropout acts in the inner one only. Examples are converted
    to the student's precision after they were augmented, so that a replay in float64 sees the same ones. ``known`` is
    what `fixed` keeps; nobody else gives it.
    """

    student: nn.Module
    commentaries: tuple[Commentary, ...]
    inputs: Tensor
    targets: Tensor
    batches: Tensor
    validation_inputs: Tensor
    validation_targets: Tensor
    inner: InnerOptimiser
    reduction: Reduction
    criterion: Criterion
    domain: int
    first_step: int = 0
    seed: int = 0
    augmentation: Augmentation | None = None
    known: KnownWeights | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.student.train()  # the first step is in the mode that all others are in, whatever it was built in

    @property
    def steps(self) -> int:
        """T, the number of inner steps."""
        return len(self.batches)

    @property
    def commentary(self) -> Tensors:
        """φ, of all commentaries in order."""
        return tuple(p for one in self.commentaries for p in one.parameters() if p.requires_grad)

    @property
    def affine(self) -> bool:
        """Whether the optimiser is."""
        return self.inner.affine

    @property
    def penalty(self) -> float:
        """The optimiser's."""
        return self.inner.penalty

    @property
    def buffer_names(self) -> list[str]:
        """The names of a state's buffers."""
        return self._function.buffer_names

    def start(self) -> State:
        """The student as it is, with a fresh optimiser."""
        vector, buffers = self._function.start()
        return State((vector,), self.inner.start((vector,)), buffers)

    def slope(self, state: State, step: int, *, create_graph: bool, values: bool = True) -> Slope:
        """The gradient of the training loss; ``state`` must hold leaves, or results of them, with ``create_graph``."""
        parameters = state.parameters
        if not create_graph:
            parameters = tuple(p.detach().requires_grad_() for p in parameters)
        buffers = tuple(b.clone() for b in state.buffers)
        twice = TwiceDifferentiable(parameters) if create_graph else None
        loss = self._inner_loss(parameters, buffers, step, twice)
        found: tuple[Tensor | None, ...] = (None,)
        if loss.requires_grad and twice is not None:
            found = twice.gradients(loss, parameters, values=values)
        elif loss.requires_grad:
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradients = tuple(g for g in found if g is not None)
        if len(gradients) < len(parameters):
            raise NotDifferentiable(
                "the inner loss does not depend on the student's parameters: does the student or the criterion detach, "
                "or turn outputs into labels (argmax)?"
            )
        return Slope(gradients, buffers)

    def update(self, state: State, slope: Slope, step: int) -> State:
        """The optimiser's step."""
        moved, optimiser = self.inner.step(state.parameters, slope.gradients, state.optimiser, self.first_step + step)
        return State(moved, optimiser, slope.buffers)

    def outer_loss(self, state: State) -> Tensor:
        """The mean criterion on the validation examples."""
        batch = Batch(self._cast(self.validation_inputs), self._cast(self.validation_targets))
        for commentary in self.commentaries:
            if commentary.at_inference:
                batch = commentary(batch, 1.0)
        set_mode(self.student, training=False)
        buffers = tuple(b.clone() for b in state.buffers)
        outputs = self._function(state.parameters[0], buffers, batch.inputs)
        return commented_loss(outputs, replace(batch, weights=None), reduction="mean", criterion=self.criterion)

    def double(self) -> Training:
        """The same problem in float64, with copies of student and commentaries.

        Raises `StatefulModule` where it is another problem (draws of another type are other draws) and `InputError`
        where the student cannot be copied. Costs two steps forward.
        """
        try:
            student = copy.deepcopy(self.student).double()
        except RuntimeError as error:
            raise InputError(
                f"the student {type(self.student).__name__} cannot be copied ({error}): let it keep no tensors that it "
                "worked out between its calls (the older weight_norm does; torch.nn.utils.parametrizations do not)"
            ) from error
        doubled = replace(
            self,
            known=None,
            student=student,
            commentaries=tuple(copy.deepcopy(one).double() for one in self.commentaries),
        )
        own, other = self._first_loss(), doubled._first_loss()
        if abs(own - other) > _SAME_LOSS * abs(own):
            raise StatefulModule(
                f"in float64 the student {type(self.student).__name__} has a first training loss of {other:.6g}, not "
                f"{own:.6g}: what it draws depends on the type of its inputs (randn_like, say); draw in float32 "
                "always, and convert, or leave the sweep in the student's own precision"
            )
        return doubled

    def fixed(self) -> Training:
        """The same problem, which keeps each step's weights [B]: a weight network need not see the step again."""
        values = self.inputs.new_empty(self.batches.shape, dtype=self._function.dtype)
        return replace(self, known=KnownWeights(values, bytearray(self.steps)))

    @torch.no_grad()
    def _first_loss(self) -> float:
        state = self.start()
        with own_generators(self.inputs.device):
            return float(self._inner_loss(state.parameters, tuple(b.clone() for b in state.buffers), 0, None))

    def _inner_loss(
        self, parameters: Tensors, buffers: Tensors, step: int, twice: TwiceDifferentiable | None
    ) -> Tensor:
        rows, age = self.batches[step], self.first_step + step
        seed = self.seed + age
        inputs = self.inputs[rows]
        if self.augmentation is not None:
            seed_generators(seed, inputs.device)  # for those that draw from torch's, as torchvision's transforms do
            inputs = self.augmentation(inputs, seed)
        batch = Batch(self._cast(inputs), self._cast(self.targets[rows]), rows=rows, seed=seed)
        with torch.set_grad_enabled(twice is not None):  # in plain training no graph leads to the commentaries
            batch = self._commented(batch, step, self.known if twice is None else None)
        set_mode(self.student, training=True)
        seed_generators(seed, inputs.device)  # dropout: the caller has forked the generators
        with twice or nullcontext():
            outputs = self._function(parameters[0], buffers, batch.inputs)
        return commented_loss(outputs, batch, reduction=self.reduction, criterion=self.criterion)

    def _commented(self, batch: Batch, step: int, known: KnownWeights | None) -> Batch:
        """What the commentaries make of the batch of ``step``: ``known`` weights, where weights are all of it."""
        if known is not None and known.there[step]:
            return replace(batch, weights=known.values[step])
        seed_generators(batch.seed, batch.inputs.device)  # a network inside a commentary may draw, as dropout does
        after = batch
        for commentary in self.commentaries:
            after = commentary(after, (self.first_step + step) / self.domain)
        same = after.inputs is batch.inputs and after.targets is batch.targets and after.blend is batch.blend
        if known is not None and same and after.weights is not None and after.weights.dtype == known.values.dtype:
            known.values[step], known.there[step] = after.weights, True
        return after

    @cached_property
    def _function(self) -> StudentFunction:
        return StudentFunction(self.student)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._function.dtype) if tensor.is_floating_point() else tensor


def advance(problem: Problem, state: State, step: int) -> State:
    """Inner step ``step`` as plain training does it, without any graph."""
    slope = problem.slope(state, step, create_graph=False)
    with torch.no_grad():
        return problem.update(state, slope, step)


def follow(problem: Problem, state: State, step: int, *, values: bool = True) -> State:
    """Inner step ``step`` with its graph: a function of ``state`` and φ, which may lack ``values`` as in `slope`."""
    return problem.update(state, problem.slope(state, step, create_graph=True, values=values), step)


def draw_batches(size: int, batch_size: int, steps: int, *, seed: int) -> Tensor:
    """Indices int64 [steps, batch_size]: epoch after epoch of shuffled examples, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    needed = steps * batch_size
    epochs = [torch.randperm(size, generator=generator) for _ in range(-(-needed // size))]
    return torch.cat(epochs)[:needed].reshape(steps, batch_size)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the generators that a step draws from; `torch.manual_seed` would format a stack trace for every call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def own_generators(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """What is drawn inside, after ``seed`` where one is given, leaves the caller's generators as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if seed is not None:
            seed_generators(seed, device)
        yield


def set_mode(student: nn.Module, *, training: bool) -> None:
    """Training or evaluation mode; batch normalisation that uses a batch's statistics in one does so in both."""
    if student.training == training:
        return
    normalising = [part for part in student.modules() if isinstance(part, _BatchNorm) and part.training]
    student.train(training)
    if not training:
        for part in normalising:
            part.train()
