"""Weights of sources, reused either way: as probabilities of drawing from a source, or as weights of its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import datasets
import torch

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
    numbers = {source: number for number, source in enumerate(mixture.sources)}
    row_sources = torch.tensor([numbers.get(source, -1) for source in sources])
    known = int((row_sources >= 0).sum())
    if not known:
        raise BindingError(
            f"no example is of a source that {name} knows ({', '.join(mixture.sources)}): name the sources alike"
        )
    return replace(one, commentary=mixture.assigned(row_sources)), known
