"""Weights of sources, reused either way: as probabilities of drawing from a source, or as weights of its examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import datasets
import torch
from torch import Tensor

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import MixtureWeights
from commentary_hub.errors import BindingError, InputError

AnySource = TypeVar("AnySource", datasets.Dataset, datasets.IterableDataset)


def interleave(stored: StoredCommentary, parts: Mapping[str, AnySource], **options: Any) -> AnySource:
    """One dataset that draws from each of ``parts`` (name of a source → its dataset) with its learned probability.

    As ``datasets.interleave_datasets``, whose ``options`` (``seed``, ``stopping_strategy``) are passed on; sources that
    the mixture knows and ``parts`` lacks take no part, the others' probabilities add up to 1. Training then uses no
    weights: the mixture has done its work. Raises `InputError` for a source that the mixture does not know.
    """
    mixture = stored.commentary
    if not isinstance(mixture, MixtureWeights):
        raise InputError(
            f"{stored.manifest.name} is of kind {stored.manifest.kind!r}, only 'mixture_weights' has probabilities of "
            "sources: bind it instead"
        )
    if not isinstance(parts, Mapping):
        raise InputError(f"give each dataset under the name of its source: {{{mixture.sources[0]!r}: dataset, …}}")
    shares = mixture.probabilities(list(parts))
    mixed: AnySource = datasets.interleave_datasets(
        list(parts.values()), probabilities=list(shares.values()), **options
    )
    return mixed


def with_sources(
    one: StoredCommentary, dataset: Any, sources: str | Sequence[Any] | None
) -> tuple[StoredCommentary, int]:
    """A stored mixture with the source of each example of ``dataset``, and how many have one.

    ``sources`` names the column that holds them, or is a list of names [N]. Raises `BindingError` where nobody says it,
    or no example is of a source that the mixture knows.
    """
    mixture, name = one.commentary, one.manifest.name
    assert isinstance(mixture, MixtureWeights)
    if isinstance(sources, str):
        if sources not in (getattr(dataset, "column_names", None) or ()):
            raise InputError(f"the dataset has no column {sources!r}: name the one with the sources, or give a list")
        sources = dataset[sources]
    if sources is None:
        raise BindingError(
            f"{name} weighs the sources {', '.join(mixture.sources)}: say which one each example is of (sources=), or "
            "draw from them with interleave"
        )
    if len(sources) != len(dataset):
        raise InputError(f"there are {len(sources):,} sources for {len(dataset):,} examples: give one for each")
    row_sources = _numbers(mixture, sources)
    known = int((row_sources >= 0).sum())
    if not known:
        raise BindingError(
            f"no example is of a source that {name} knows ({', '.join(mixture.sources)}): name the sources alike"
        )
    return replace(one, commentary=mixture.assigned(row_sources)), known


class StreamSources:
    """The sources of a stream's samples as numbers, and how much of the stream each of them is.

    Where nobody says the shares, they are those among the samples that training has met; until it has met as many as
    the ``peeked``, which it will meet again, those among the peeked.
    Raises as `with_sources` where the samples do not say their source, or name none that the mixture knows.
    """

    def __init__(
        self,
        one: StoredCommentary,
        peeked: Sequence[Any],
        sources: str | None,
        shares: Mapping[str, float] | None,
    ) -> None:
        mixture, name = one.commentary, one.manifest.name
        assert isinstance(mixture, MixtureWeights)
        if sources is None:
            raise BindingError(
                f"{name} weighs the sources {', '.join(mixture.sources)}: name the column of the stream that says a "
                "sample's source (sources=), or draw from one stream for each with interleave"
            )
        if not isinstance(peeked[0], Mapping) or sources not in peeked[0]:
            raise InputError(f"the stream's samples have no entry {sources!r}: let it yield dictionaries that have")
        self.column = sources
        self._mixture = mixture
        found = self.numbers([sample[sources] for sample in peeked])
        if not (found >= 0).any():
            raise BindingError(
                f"none of the first {len(peeked):,} samples is of a source that {name} knows "
                f"({', '.join(mixture.sources)}): name the sources alike"
            )
        if unknown := sorted(set(shares or ()) - set(mixture.sources)):
            raise InputError(
                f"{name} knows no source {', '.join(map(repr, unknown))}: it is of {', '.join(mixture.sources)}"
            )
        told = self._peeked = self._counted(found)
        self._counts = torch.zeros_like(told) if shares is None else None
        if shares is not None:
            told = torch.tensor([float(shares.get(each, 0)) for each in mixture.sources], dtype=torch.float64)
        if bool((told[found[found >= 0]] == 0).any()):
            raise InputError(f"the stream has samples of sources that shares= leaves out: give all of {name}'s there")
        self.commentary = mixture.streamed(told)

    def numbers(self, sources: Sequence[Any]) -> Tensor:
        """Source numbers int64 [n], -1 for what the mixture does not know."""
        return _numbers(self._mixture, sources)

    def meet(self, numbers: Tensor, commentary: MixtureWeights) -> None:
        """Count a batch, before it is weighed by ``commentary``; nothing where the shares were said."""
        if self._counts is not None:
            self._counts += self._counted(numbers.cpu())
            few = self._counts.sum() < self._peeked.sum()
            commentary.tell(torch.maximum(self._counts, self._peeked) if few else self._counts)

    def _counted(self, numbers: Tensor) -> Tensor:
        return torch.bincount(numbers[numbers >= 0], minlength=len(self._mixture.sources)).double()


def _numbers(mixture: MixtureWeights, sources: Iterable[Any]) -> Tensor:
    numbers = {source: number for number, source in enumerate(mixture.sources)}
    return torch.tensor([numbers.get(source, -1) for source in sources])
