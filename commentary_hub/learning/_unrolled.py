"""Exact hypergradients: reverse through every inner step, in a graph that is kept or replayed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from commentary_hub.errors import InputError
from commentary_hub.learning._hypergradient import Hypergradient, check_finite, check_loss, filled
from commentary_hub.learning._optimisers import Tensors, check_count
from commentary_hub.learning._problem import Problem, State, advance, follow, own_generators

_Named = Literal["full", "stored", "checkpoints"]
Memory = _Named | int


@dataclass(frozen=True)
class Unrolled:
    """Backpropagation through training: dL_V(θ_T)/dφ, exact.

    With θ_{i+1} = U_i(θ_i, φ) and the adjoint λ_T = ∂L_V/∂θ_T, the sweep λ_i = (∂U_i/∂θ_i)ᵀ λ_{i+1} collects
    dL_V/dφ = Σ_i (∂U_i/∂φ)ᵀ λ_{i+1}; θ stands for parameters and optimiser state together.

    ``memory``: ``"full"`` keeps the graph of all steps: fastest, memory T graphs. ``"stored"`` keeps only the T states
    and replays each step's graph on the way back: one graph at a time. ``"checkpoints"`` keeps every √T-th state and
    replays segments: 2√T states and the examples' weights in all steps [T, B], one more pass forward. A number of bytes
    chooses the cheapest of these whose states fit (`InputError` when none does). All give the same numbers: steps are
    deterministic in their seeds.
    ``truncate`` = k differentiates through the last k steps only (biased towards the end, cheaper).
    ``backward_dtype=torch.float64`` sweeps back in double precision over the states of the float32 run, where float32
    adjoints of hundreds of Adam steps are ill-conditioned. Raises `InputError` for a setting without meaning.

    Cost: about 3.2 (full), 3.7 (stored) and 4.4 (checkpoints) times training with the frozen commentary, as measured by
    ``benchmarks/hypergradient.py``; with batches too small to fill a GPU 3.0, 4.4 and 5.0 times there, so that
    ``"full"`` is the choice where the graph of the whole run fits.
    Source: Raghu et al. 2021, algorithm 1; Maclaurin et al. 2015.
    """

    memory: Memory = "stored"
    truncate: int | None = None
    backward_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.memory not in get_args(_Named):
            check_count("memory", self.memory, "'full', 'stored', 'checkpoints' or a whole number of bytes")
        if self.truncate is not None:
            check_count("truncate", self.truncate, "how many of the last steps to differentiate, a whole number")
        if not (self.backward_dtype is None or self.backward_dtype is torch.float64):
            raise InputError(f"backward_dtype is {self.backward_dtype!r}: give torch.float64, or None")
        if self.backward_dtype is not None and self.memory == "full":
            raise InputError("memory='full' has no sweep of its own: backward_dtype needs 'stored' or 'checkpoints'")

    @property
    def name(self) -> str:
        """Short description for manifests."""
        said = [f"last {self.truncate} steps"] if self.truncate else []
        said += ["back in float64"] if self.backward_dtype else []
        return "unrolled" + (f"({', '.join(said)})" if said else "")

    def hypergradient(self, problem: Problem, state: State, *, warm: Tensors | None = None) -> Hypergradient:
        """Train from ``state`` and sweep back; ``warm`` is not used."""
        del warm
        with own_generators(state.parameters[0].device):
            first = max(0, problem.steps - (self.truncate or problem.steps))
            for step in range(first):
                state = advance(problem, state, step)
            if self.memory == "full":
                return self._kept(problem, state, first)
            return self._replayed(problem, state, first)

    def _kept(self, problem: Problem, state: State, first: int) -> Hypergradient:
        state = state.leaves()
        for step in range(first, problem.steps):
            state = follow(problem, state, step)
        loss = problem.outer_loss(state)
        value = check_loss(loss, where="the outer loss")
        found = filled(torch.autograd.grad(loss, problem.commentary, allow_unused=True), problem.commentary)
        return Hypergradient(check_finite(found, method=self.name), value, state.detached(), problem.steps)

    def _replayed(self, problem: Problem, state: State, first: int) -> Hypergradient:
        steps = problem.steps - first
        spacing = self._spacing(steps, state.size_bytes)
        if spacing > 1:  # most steps are computed twice without a graph
            problem = problem.fixed()
        kept = _Kept(min(steps, -(-steps // spacing) + spacing), state)
        last_segment = first + (steps - 1) // spacing * spacing
        for step in range(first, problem.steps):
            if (step - first) % spacing == 0 or step > last_segment:
                kept.put(step, state)
            state = advance(problem, state, step)
        swept = problem if self.backward_dtype is None else problem.double()
        ends = _cast(state, self.backward_dtype).leaves()
        loss = swept.outer_loss(ends)
        value = check_loss(loss, where="the outer loss")
        found = torch.autograd.grad(loss, (*ends.differentiable, *swept.commentary), allow_unused=True)
        count = len(ends.differentiable)
        adjoint, total = filled(found[:count], ends.differentiable), filled(found[count:], swept.commentary)
        for step, before in self._backwards(problem, kept, first, spacing):
            start = _cast(before, self.backward_dtype).leaves()
            after = follow(swept, start, step, values=not swept.affine)
            inputs = (*start.differentiable, *swept.commentary)
            found = torch.autograd.grad(after.differentiable, inputs, adjoint, allow_unused=True)
            adjoint = filled(found[:count], start.differentiable)
            total = tuple(t if g is None else t + g for t, g in zip(total, found[count:], strict=True))
        total = tuple(t.to(p.dtype) for t, p in zip(total, problem.commentary, strict=True))
        return Hypergradient(check_finite(total, method=self.name), value, state, problem.steps)

    def _spacing(self, steps: int, state_bytes: int) -> int:
        """Steps between kept states."""
        if self.memory == "stored":
            return 1
        root = max(1, math.isqrt(max(0, steps - 1)) + 1)
        if self.memory == "checkpoints":
            return root
        assert isinstance(self.memory, int)
        room = self.memory // max(1, state_bytes)
        if room >= steps:
            return 1
        fitting = [s for s in range(2, root + 1) if math.ceil(steps / s) + s <= room]
        if not fitting:
            least = state_bytes * min(math.ceil(steps / s) + s for s in range(1, steps + 1))
            raise InputError(
                f"memory={self.memory:,} bytes holds {room} student states of {state_bytes:,} bytes; replaying "
                f"{steps} steps needs at least {least:,} bytes",
                needed_bytes=least,
            )
        return fitting[0]

    @staticmethod
    def _backwards(problem: Problem, kept: _Kept, first: int, spacing: int) -> Iterator[tuple[int, State]]:
        """(step, state before it) from the last step to ``first``; states in between are computed again."""
        step = problem.steps - 1
        while step >= first:
            start = step - (step - first) % spacing
            for between in range(start, step):
                if between + 1 not in kept:
                    kept.put(between + 1, advance(problem, kept.at(between), between))
            for back in range(step, start - 1, -1):
                yield back, kept.pop(back)
            step = start - 1


class _Kept:
    """States by step, each tensor's in one block of memory of ``slots`` of them: nothing is left in pieces.

    A state that was taken is a view, valid until the next one is put.
    """

    def __init__(self, slots: int, like: State) -> None:
        self._blocks = [[t.new_empty((slots, *t.shape)) for t in part] for part in like]
        self._free = list(range(slots))
        self._slots: dict[int, int] = {}

    def __contains__(self, step: int) -> bool:
        return step in self._slots

    def put(self, step: int, state: State) -> None:
        """Copy a state in."""
        slot = self._slots[step] = self._free.pop()
        for blocks, part in zip(self._blocks, state, strict=True):
            for block, tensor in zip(blocks, part, strict=True):
                block[slot].copy_(tensor)

    def at(self, step: int) -> State:
        """The state before ``step``."""
        slot = self._slots[step]
        return State(*(tuple(block[slot] for block in blocks) for blocks in self._blocks))

    def pop(self, step: int) -> State:
        """The state before ``step``, whose place is free from now on."""
        state = self.at(step)
        self._free.append(self._slots.pop(step))
        return state


def _cast(state: State, dtype: torch.dtype | None) -> State:
    return state if dtype is None else state.to(dtype)
