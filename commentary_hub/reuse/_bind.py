"""Binding: a stored commentary meets a dataset, or says clearly why it doesn't."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.data import Subset

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Criterion, MixtureWeights, Reduction, cross_entropy
from commentary_hub.data import (
    Examples,
    Keys,
    RawExamples,
    Wrapping,
    content_form,
    dataset_keys,
    fingerprint,
    raw_examples,
)
from commentary_hub.errors import BindingError, InputError
from commentary_hub.reuse._binding import Binding, Counts
from commentary_hub.reuse._checks import check_conflicts, check_counts, check_dataset, check_inputs, check_labels
from commentary_hub.reuse._match import KeyIndex, Match
from commentary_hub.reuse._mixture import with_sources
from commentary_hub.reuse._stored import Stored, default_reduction, default_steps, in_order

_log = logging.getLogger("commentary_hub.reuse")
Progressed = Callable[[int], None]
_SOME = 256  # examples that are looked at before all are keyed


def bind(
    commentaries: Stored,
    dataset: Any,
    *,
    threshold: float = 0.99,
    inputs: str | None = None,
    targets: str | None = None,
    sources: str | Sequence[Any] | None = None,
    salt: str | bytes | None = None,
    reduction: Reduction | None = None,
    steps: int | None = None,
    criterion: Criterion = cross_entropy,
    seed: int = 0,
    workers: int = 2,
    cache: bool = True,
    progress: bool | None = None,
) -> Binding:
    """Bind stored commentaries to a map-style ``dataset``; examples are recognised by content, in any order.

    The raw examples are keyed (transforms are seen past; `Examples`, and a binding or ``Subset`` of them, bring their
    keys along) and looked up by key and target digest; strings are read as class names where the commentary has
    classes. Examples without a row, or with another target, get the kind's neutral value and are counted. ``threshold``
    is the share of examples that must be found. Rows of equal content and target that hold different values are
    refused, never averaged. ``reduction`` defaults to the manifest's ``weight_mean`` where that was learned with, else
    to ``mean`` (a stored ``sum`` would tie the learning rate to the batch size). ``steps`` stretches the recorded
    iteration domain over another number of steps. ``inputs`` and ``targets`` name columns; ``salt`` is needed where the
    keys are salted; ``sources`` (a column, or a list of names [N]) where a commentary weighs sources. Validation
    examples of the commentary that are in the dataset are counted as ``leaked`` and warned of.

    ``workers`` processes decode and key the examples, with a bar on a terminal (``progress`` forces it on or off);
    ``cache`` keeps the keys on disk where the dataset says what it holds without being read.

    Raises `WrongDataset` (nothing found, or another form of example), `TooFewRows`, `ClassesDiffer`,
    `ConflictingRows`, `BindingError` (salt, inputs of another size) and `InputError`. Cost: one pass over the raw
    examples, the first time.
    """
    stored = list(in_order(commentaries, threshold))
    keyed: _Keyed | _InMemory
    examples = _opened(dataset)
    if examples is not None:
        keyed = _InMemory(examples)
    else:
        keyed = _Keyed(raw_examples(dataset, inputs=inputs, targets=targets), salt, workers=workers, cache=cache)
    known: dict[int, int] = {}
    for place, one in enumerate(stored):
        check_dataset(one.manifest, form=keyed.form, classes=keyed.classes, salt=salt)
        check_labels(one, classes=keyed.classes, some=keyed.some_targets)
        if isinstance(one.commentary, MixtureWeights):
            stored[place], known[place] = with_sources(one, dataset, sources)
        check_inputs(one.manifest.name, stored[place].commentary, dataset[0])
    with _bar(len(dataset) * keyed.passes(stored), shown=progress) as done:
        matches = [
            _by_position(known[place], len(dataset)) if place in known else _match(one, keyed, threshold, done)
            for place, one in enumerate(stored)
        ]
        leaked = sum(_leaked(one, keyed, done) for one in stored)
    if leaked:
        _log.warning(
            "%d examples of this dataset taught the commentary: train on them, but report no accuracy on them", leaked
        )
    return Binding(
        dataset,
        [one.commentary for one in stored],
        [None if match is None else match.rows for match in matches],
        counts=_counts(next((match for match in matches if match is not None), None), len(dataset), leaked),
        reduction=reduction or default_reduction(stored),
        steps=steps or default_steps(stored),
        criterion=criterion,
        seed=seed,
    )


def _opened(dataset: Any) -> Examples | None:
    """The `Examples` that ``dataset`` is, binds or is a part of; raises `InputError` for an empty part."""
    if isinstance(dataset, Wrapping):
        return _opened(dataset.source)
    if not isinstance(dataset, Subset):
        return dataset if isinstance(dataset, Examples) else None
    whole = _opened(dataset.dataset)
    if whole is not None and len(dataset.indices) == 0:
        raise InputError("the subset is empty: give one with examples")
    return None if whole is None else whole.subset(dataset.indices)


class _InMemory:
    """Examples that were opened for learning: their keys were taken from the raw examples then."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples
        self.form = examples.form
        self.classes = examples.classes
        self.some_targets = examples.targets.tolist()

    def passes(self, stored: Sequence[StoredCommentary]) -> int:
        """How often all examples are read to key them for these commentaries: never."""
        del stored
        return 0

    def of(self, one: StoredCommentary, progress: Progressed) -> tuple[Keys, Keys | None]:
        """Keys [N, 16] and target digests [N, 8]; raises `BindingError` where they were salted otherwise."""
        del progress
        if one.manifest.dataset.key.salt_check != self._examples.salt_check:
            raise BindingError(
                f"{one.manifest.name} and these examples are not salted alike: open the dataset with the salt that "
                "the commentary was made with (salt=)"
            )
        return self._examples.keys, self._examples.target_digests


class _Keyed:
    """A dataset's keys, computed when a commentary first asks, once for each way of reading class names and salting."""

    def __init__(self, raw: RawExamples, salt: str | bytes | None, **options: Any) -> None:
        self._raw = raw
        self._salt = salt
        self._options = options
        self._known: dict[Any, tuple[Keys, Keys | None]] = {}
        values, self.some_targets = raw.read(np.arange(min(_SOME, len(raw))))
        self.form = content_form(values[0])
        self.classes = raw.classes

    def passes(self, stored: Sequence[StoredCommentary]) -> int:
        """How often all examples are read to key them for these commentaries."""
        return len({_way(one) for one in stored if one.rows is not None or len(one.validation_keys)})

    def of(self, one: StoredCommentary, progress: Progressed) -> tuple[Keys, Keys | None]:
        """Keys [N, 16] and target digests [N, 8] as ``one`` was learned with them."""
        dataset, way = one.manifest.dataset, _way(one)
        if way not in self._known:
            salt = self._salt if dataset.key.salted else None
            self._known[way] = dataset_keys(
                self._raw, classes=dataset.classes, salt=salt, progress=progress, **self._options
            )
        return self._known[way]


def _way(one: StoredCommentary) -> tuple[tuple[str, ...] | None, bool]:
    """What keys and target digests depend on beside the examples."""
    return one.manifest.dataset.classes, one.manifest.dataset.key.salted


def _match(one: StoredCommentary, keyed: _Keyed | _InMemory, threshold: float, progress: Progressed) -> Match | None:
    if one.rows is None:
        return None
    keys, digests = keyed.of(one, progress)
    match = KeyIndex(one.rows.keys, one.rows.targets).match(keys, digests)
    check_conflicts(one, match.rows, labelled=digests is not None)
    enough = match.found >= threshold * len(match.rows)
    check_counts(
        one.manifest, match, threshold, same=not enough and one.manifest.dataset.fingerprint == fingerprint(keys)
    )
    return match


def _by_position(known: int, size: int) -> Match:
    """Rows of a commentary that looks examples up by their place in this dataset."""
    return Match(np.arange(size), known, size - known, 0)


def _leaked(one: StoredCommentary, keyed: _Keyed | _InMemory, progress: Progressed) -> int:
    """How many of the examples that taught the commentary are in this dataset."""
    if not len(one.validation_keys):
        return 0
    rows = KeyIndex(np.unique(one.validation_keys, axis=0), None).match(keyed.of(one, progress)[0], None).rows
    return len(np.unique(rows[rows >= 0]))


def _counts(match: Match | None, size: int, leaked: int) -> Counts:
    if match is None:  # no table: every example is covered by the commentary's function
        return Counts(found=size, missing=0, other_target=0, leaked=leaked)
    return Counts(match.found, match.missing, match.other_target, leaked)


@contextmanager
def _bar(size: int, *, shown: bool | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, gone when done; by default where that is a terminal. None for no examples."""
    console = Console(stderr=True, force_terminal=shown or None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disabled = not size or not (console.is_terminal if shown is None else shown)
    with Progress(*columns, console=console, transient=True, disable=disabled) as bar:
        task = bar.add_task("recognising examples", total=size)
        yield lambda count: bar.advance(task, count)
