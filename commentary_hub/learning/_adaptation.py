"""Adapting a student to an episode, and the bilevel problem of one episode: MAML, ANIL and iMAML as settings."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from commentary_hub.commentaries import Batch, Commentary, Criterion, Reduction, commented_loss, cross_entropy
from commentary_hub.errors import InputError, NotDifferentiable
from commentary_hub.learning._episodes import Episode
from commentary_hub.learning._function import guarded
from commentary_hub.learning._hypergradient import filled
from commentary_hub.learning._optimisers import InnerOptimiser, Tensors
from commentary_hub.learning._problem import Slope, State, advance, own_generators, seed_generators, set_mode
from commentary_hub.learning._twice import TwiceDifferentiable


@dataclass(frozen=True)
class Adaptation:
    """How a student learns an episode's support set: ``steps`` of ``inner``, each on the whole set.

    All parameters move (MAML, Finn et al. 2017), or with ``head`` only those whose names begin with it (ANIL, Raghu et
    al. 2020: ``head="head"`` for a module of that name); the rest stays as it was learned, and what the student froze
    (``requires_grad_(False)``) as it is. ``proximity`` λ adds (λ/2)‖θ − θ₀‖² to the training loss: with it `Implicit`
    finds the hypergradient of the initialisation θ₀ (iMAML, Rajeswaran et al. 2019), about which it knows nothing
    without. ``reduction`` as in `commented_loss`.
    """

    inner: InnerOptimiser
    steps: int
    head: str | None = None
    proximity: float = 0.0
    reduction: Reduction = "mean"
    criterion: Criterion = cross_entropy

    def __post_init__(self) -> None:
        if self.steps < 1 or self.proximity < 0:
            raise InputError(
                f"adaptation of {self.steps} steps with proximity {self.proximity:g}: there must be at least 1 step, "
                "and proximity is at least 0"
            )

    @property
    def name(self) -> str:
        """Short description for manifests."""
        kind = "maml" if self.head is None else f"anil({self.head})"
        return f"{kind}, {self.inner.name}" + (f", proximity {self.proximity:g}" if self.proximity else "")

    def moves(self, parameter: str) -> bool:
        """Whether the parameter of that name is adapted, unless it is frozen."""
        return self.head is None or parameter == self.head or parameter.startswith(f"{self.head}.")


@dataclass(frozen=True)
class EpisodeTraining:
    """The problem of one episode: φ is what the commentaries hold and, where it is learned, the initialisation.

    ``initialisation`` maps the student's parameter names to θ₀; tensors that require gradients belong to φ. Step 0
    starts from θ₀ itself, whatever the state says, which is how derivatives reach it. The outer loss is the mean
    criterion on the queries, without weights. Normalisation layers use batch statistics; dropout acts in the inner
    loss only, seeded by the episode and the step. Inputs are converted to the student's precision. Raises
    `NotDifferentiable` for gradient checkpointing within the student.
    """

    student: nn.Module
    initialisation: Mapping[str, Tensor]
    commentaries: tuple[Commentary, ...]
    episode: Episode
    adaptation: Adaptation

    def __post_init__(self) -> None:
        self.student.train()  # the first step is in the mode that all others are in, whatever it was built in

    @property
    def steps(self) -> int:
        """T, the number of inner steps."""
        return self.adaptation.steps

    @property
    def commentary(self) -> Tensors:
        """φ: of all commentaries in order, then of the initialisation."""
        own = tuple(p for one in self.commentaries for p in one.parameters() if p.requires_grad)
        return (*own, *(p for p in self.initialisation.values() if p.requires_grad))

    @property
    def affine(self) -> bool:
        """Whether the optimiser is."""
        return self.adaptation.inner.affine

    @property
    def penalty(self) -> float:
        """The optimiser's."""
        return self.adaptation.inner.penalty

    def start(self) -> State:
        """The adapted parameters at θ₀, with a fresh optimiser."""
        parameters = tuple(p.detach().clone() for p in self._first)
        buffers = tuple(b.detach().clone() for b in self.student.buffers())
        return State(parameters, self.adaptation.inner.start(parameters), buffers)

    def slope(self, state: State, step: int, *, create_graph: bool, values: bool = True) -> Slope:
        """The gradient of the loss on the support set."""
        parameters = self._at(state, step)
        if not create_graph:
            parameters = tuple(p.detach().requires_grad_() for p in parameters)
        buffers = tuple(b.clone() for b in state.buffers)
        twice = TwiceDifferentiable(parameters) if create_graph else None
        loss = self._inner_loss(parameters, buffers, step, twice)
        if not loss.requires_grad:
            raise NotDifferentiable("the loss on the support set does not depend on the parameters that are adapted")
        if twice is not None:
            found = twice.gradients(loss, parameters, values=values)
        else:
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return Slope(filled(found, parameters), buffers)

    def update(self, state: State, slope: Slope, step: int) -> State:
        """The optimiser's step."""
        parameters = self._at(state, step)
        moved, optimiser = self.adaptation.inner.step(parameters, slope.gradients, state.optimiser, step)
        return State(moved, optimiser, slope.buffers)

    def _at(self, state: State, step: int) -> Tensors:
        """The parameters of ``state``; at step 0 θ₀ itself, which a derivative in the state reaches too."""
        if step:
            return state.parameters
        return tuple(q + (p - p.detach()) for q, p in zip(self._first, state.parameters, strict=True))

    def outer_loss(self, state: State) -> Tensor:
        """The mean criterion on the queries."""
        outputs, batch = self._answers(state)
        return commented_loss(outputs, batch, reduction="mean", criterion=self.adaptation.criterion)

    @torch.no_grad()
    def accuracy(self, state: State) -> float:
        """The share of queries answered right."""
        outputs, batch = self._answers(state)
        return float((outputs.argmax(1) == batch.targets).double().mean())

    @torch.enable_grad()
    def adapted(self) -> State:
        """The state after all steps, without any graph."""
        state = self.start()
        with own_generators(self._first[0].device):
            for step in range(self.steps):
                state = advance(self, state, step)
        return state

    def double(self) -> EpisodeTraining:
        """The same problem in float64, with copies of student, initialisation and commentaries."""
        wide = {n: p.detach().double().requires_grad_(p.requires_grad) for n, p in self.initialisation.items()}
        return replace(
            self,
            student=copy.deepcopy(self.student).double(),
            initialisation=wide,
            commentaries=tuple(copy.deepcopy(one).double() for one in self.commentaries),
            episode=self.episode.double(),
        )

    def fixed(self) -> EpisodeTraining:
        """Itself: an episode has few steps, and nothing in them is worth keeping."""
        return self

    @cached_property
    def _moving(self) -> tuple[str, ...]:
        free = (name for name, p in self.student.named_parameters() if p.requires_grad)
        return tuple(name for name in free if self.adaptation.moves(name))

    @property
    def _first(self) -> Tensors:
        """The part of θ₀ that is adapted."""
        return tuple(self.initialisation[name] for name in self._moving)

    def _answers(self, state: State) -> tuple[Tensor, Batch]:
        batch = Batch(self._cast(self.episode.query_inputs), self.episode.query_targets)
        for commentary in self.commentaries:
            if commentary.at_inference:
                batch = commentary(batch, 1.0)
        set_mode(self.student, training=False)
        buffers = tuple(b.clone() for b in state.buffers)
        return self._call(state.parameters, buffers, batch.inputs), replace(batch, weights=None)

    def _inner_loss(
        self, parameters: Tensors, buffers: Tensors, step: int, twice: TwiceDifferentiable | None
    ) -> Tensor:
        seed = (self.episode.seed + step) % 2**31
        batch = Batch(self._cast(self.episode.inputs), self.episode.targets, rows=self._rows, seed=seed)
        seed_generators(seed, batch.inputs.device)  # a network inside a commentary may draw, as dropout does
        with torch.set_grad_enabled(twice is not None):
            for commentary in self.commentaries:
                batch = commentary(batch, step / self.steps)
        set_mode(self.student, training=True)
        seed_generators(seed, batch.inputs.device)
        with twice or nullcontext():
            outputs = self._call(parameters, buffers, batch.inputs)
        how = self.adaptation
        loss = commented_loss(outputs, batch, reduction=how.reduction, criterion=how.criterion)
        if how.proximity:
            away = sum((p - q).square().sum() for p, q in zip(parameters, self._first, strict=True))
            loss = loss + how.proximity / 2 * away
        return loss

    def _call(self, parameters: Tensors, buffers: Tensors, inputs: Tensor) -> Tensor:
        names = tuple(name for name, _ in self.student.named_buffers())
        tensors = dict(self.initialisation) | dict(zip(self._moving, parameters, strict=True))
        tensors |= dict(zip(names, buffers, strict=True))
        return guarded(self.student, lambda: functional_call(self.student, tensors, (inputs,)))

    def _cast(self, inputs: Tensor) -> Tensor:
        return inputs.to(next(iter(self.initialisation.values())).dtype) if inputs.is_floating_point() else inputs

    @cached_property
    def _rows(self) -> Tensor:
        """No support example has a row in a table."""
        return torch.full((len(self.episode.targets),), -1, device=self.episode.targets.device)


def initialisation_of(student: nn.Module, *, learned: bool = True) -> dict[str, Tensor]:
    """A student's parameters by name, copied; ``learned`` ones require gradients, unless the student froze them."""
    return {n: p.detach().clone().requires_grad_(learned and p.requires_grad) for n, p in student.named_parameters()}


def check_adaptation(adaptation: Adaptation, student: nn.Module, commentaries: Sequence[Commentary]) -> None:
    """Raise `InputError` where nothing would be adapted or a commentary cannot act on an episode."""
    names = [name for name, _ in student.named_parameters()]
    if not any(adaptation.moves(name) for name in names):
        raise InputError(
            f"head is {adaptation.head!r}, but no parameter's name begins with it: the student has {', '.join(names)}",
            head=adaptation.head,
        )
    if not any(p.requires_grad and adaptation.moves(name) for name, p in student.named_parameters()):
        what = "the student" if adaptation.head is None else f"the student's {adaptation.head!r}"
        raise InputError(
            f"all parameters of {what} are frozen, so that nothing would be adapted: let those that are to adapt ask "
            "for gradients (requires_grad_())",
            head=adaptation.head,
        )
    for one in commentaries:
        if one.row_tensors:
            raise InputError(
                f"a commentary of kind {one.kind!r} has a row per example, which new classes do not have: "
                "use one that is a function of the example (SupportWeights)",
                kind=one.kind,
            )
