"""Few-shot episodes: small classification problems, each with classes of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from commentary_hub.data import Examples, check_disjoint
from commentary_hub.errors import InputError, SplitError


@dataclass(frozen=True, slots=True)
class Episode:
    """One N-way K-shot problem: a student learns from the support and is judged on the queries.

    ``inputs`` [N·K, …], ``targets`` [N·K] in 0 … N−1; ``query_inputs`` [N·Q, …], ``query_targets`` [N·Q];
    ``mistaken`` bool [N·K] marks support labels that were made wrong; ``seed`` is what it was drawn with.
    """

    inputs: Tensor
    targets: Tensor
    query_inputs: Tensor
    query_targets: Tensor
    mistaken: Tensor
    seed: int

    def to(self, device: torch.device) -> Episode:
        """The same episode on another device."""
        tensors = ("inputs", "targets", "query_inputs", "query_targets", "mistaken")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})

    def double(self) -> Episode:
        """The same episode with inputs in float64."""
        wide = {name: getattr(self, name) for name in ("inputs", "query_inputs")}
        return replace(self, **{name: t.double() if t.is_floating_point() else t for name, t in wide.items()})


@dataclass(frozen=True)
class Episodes:
    """Draws episodes of ``ways`` classes with ``shots`` support and ``queries`` query examples each.

    The classes are the targets of ``examples``; those with fewer than shots + queries examples are left out. Of the
    support labels a share ``wrong`` (rounded to whole labels) is made wrong, each to another of the episode's classes;
    query labels stay right. An episode is a function of its seed.

    >>> from commentary_hub.data import content_keys
    >>> inputs = torch.arange(12.0)[:, None]
    >>> examples = Examples.of(inputs, torch.arange(12) % 3, keys=content_keys(inputs.numpy()))
    >>> episode = Episodes(examples, ways=2, shots=1, queries=3).draw(seed=0)
    >>> episode.inputs.shape, episode.query_targets.tolist()
    (torch.Size([2, 1]), [0, 0, 0, 1, 1, 1])
    """

    examples: Examples
    ways: int = 5
    shots: int = 1
    queries: int = 15
    wrong: float = 0.0

    def __post_init__(self) -> None:
        if self.ways < 2 or self.shots < 1 or self.queries < 1 or not 0 <= self.wrong <= 1:
            raise InputError(
                f"episodes of {self.ways} ways, {self.shots} shots, {self.queries} queries, {self.wrong:g} wrong: "
                "there must be at least 2 ways, 1 shot and 1 query, and wrong is a share from 0 to 1"
            )
        if self.examples.targets.dim() != 1:
            raise InputError(
                f"targets are {list(self.examples.targets.shape)}: episodes need one class for each example"
            )
        if len(self._by_class) < self.ways:
            raise InputError(
                f"{len(self._by_class)} classes have the {self.shots + self.queries} examples that an episode takes of "
                f"each, {self.ways}-way episodes need at least {self.ways}: ask for fewer ways, shots or queries"
            )

    @cached_property
    def _by_class(self) -> tuple[Tensor, ...]:
        """The rows of each class that has enough of them."""
        targets = self.examples.targets
        found = [(targets == label).nonzero().squeeze(1) for label in sorted(set(targets.tolist()))]
        return tuple(rows for rows in found if len(rows) >= self.shots + self.queries)

    def draw(self, seed: int) -> Episode:
        """The episode of ``seed``."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self._by_class), generator=generator)[: self.ways].tolist()
        classes = [self._by_class[at] for at in chosen]
        taken = [rows[torch.randperm(len(rows), generator=generator)] for rows in classes]
        support = torch.cat([rows[: self.shots] for rows in taken])
        queries = torch.cat([rows[self.shots : self.shots + self.queries] for rows in taken])
        labels = torch.arange(self.ways)
        targets, mistaken = self._mislabelled(labels.repeat_interleave(self.shots), generator)
        return Episode(
            self.examples.inputs[support],
            targets,
            self.examples.inputs[queries],
            labels.repeat_interleave(self.queries),
            mistaken,
            seed,
        )

    def _mislabelled(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mistaken = torch.zeros(len(targets), dtype=torch.bool)
        mistaken[torch.randperm(len(targets), generator=generator)[: round(self.wrong * len(targets))]] = True
        steps = torch.randint(1, self.ways, (len(targets),), generator=generator)
        return torch.where(mistaken, (targets + steps) % self.ways, targets), mistaken


def check_new_classes(**parts: Episodes) -> None:
    """Raise `SplitError` where two parts share a class (by its number) or an example (by its content).

    What is learned on some classes is to be judged on classes that it never met.
    """
    check_disjoint(**{name: part.examples for name, part in parts.items()})
    for (one, left), (other, right) in combinations(parts.items(), 2):
        shared = set(left.examples.targets.tolist()) & set(right.examples.targets.tolist())
        if shared:
            raise SplitError(
                f"{one} and {other} share {len(shared)} class{'es' if len(shared) > 1 else ''} "
                f"(number {min(shared)} first): episodes for judging need classes that learning never met",
                splits=(one, other),
                shared=len(shared),
            )
