"""A commentary bound to a stream: examples are recognised as they come, and nothing is read ahead but a first look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Batch, Criterion, MixtureWeights, Reduction, cross_entropy
from commentary_hub.data import ROW, Keys, StreamReader, Wrapping, content_keys, numbered, target_digests
from commentary_hub.reuse._application import Application, is_training
from commentary_hub.reuse._checks import check_conflicts, check_counts, check_dataset, check_inputs, check_labels
from commentary_hub.reuse._match import NO_ROW, KeyIndex, Match
from commentary_hub.reuse._mixture import StreamSources
from commentary_hub.reuse._samples import carrying
from commentary_hub.reuse._stored import Stored, default_reduction, default_steps, in_order

_PEEK = 256
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What training has met so far: ``examples`` in all, ``found`` of them with a row in every table."""

    examples: int
    found: int


class StreamBinding(Wrapping, IterableDataset[Any]):
    """Commentaries bound to a stream; itself a stream whose samples carry their table rows (-1 for none).

    ``dataset`` is the same as a Hugging Face ``IterableDataset`` with the column ``commentary_row`` where the stream
    is one, so that shuffling, mapping and interleaving go on. With several tables the row is a vector, one for each.
    Workers and shards are the stream's own affair; examples are recognised where they are read.

    As the data are not known as a whole, weights are divided by their mean over the whole table, and the shares of a
    mixture's sources are those met so far, unless they were said. Progress is counted as by `Binding`. ``source`` is
    the stream that was bound, as it was; a length is there where the stream has one.
    """

    def __init__(self, stream: Any, finder: _Finder, application: Application) -> None:
        super().__init__()
        self.application = application
        self.source = stream
        self._finder = finder
        self._examples = 0
        self._found = 0

    def __len__(self) -> int:
        return len(self.source)

    @property
    def dataset(self) -> Any:
        """The stream with rows attached."""
        if not isinstance(self.source, datasets.IterableDataset):
            return self
        formatting = self.source._formatting
        with_rows = self.source.with_format(None).map(self._finder.column, batched=True, batch_size=_BATCH)
        return with_rows.with_format(None if formatting is None else formatting.format_type)

    @property
    def seen(self) -> Seen:
        """What `loss` has met in training mode so far."""
        return Seen(self._examples, self._found)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.source, datasets.IterableDataset):
            yield from self.dataset
            return
        waiting: list[Any] = []
        for sample in self.source:
            waiting.append(sample)
            if len(waiting) == _BATCH:
                yield from self._finder.carrying(waiting)
                waiting = []
        if waiting:
            yield from self._finder.carrying(waiting)

    def step(self, inputs: Tensor, targets: Tensor, rows: Tensor, progress: float, *, seed: int | None = None) -> Batch:
        """The batch after all commentaries, in the fixed order of their stages."""
        return self.application.step(inputs, targets, self._finder.split(rows), progress, seed)

    def loss(
        self,
        student: Callable[[Tensor], Any],
        inputs: Tensor,
        targets: Tensor,
        rows: Tensor,
        *,
        progress: float | None = None,
    ) -> Tensor:
        """The training loss (scalar) of one batch, as `Binding.loss`."""
        split = self._finder.split(rows)
        if is_training(student):
            self._examples += len(rows)
            self._found += int((rows.reshape(len(rows), -1) >= 0).all(dim=1).sum())
            self._finder.meet(split, self.application)
        return self.application.loss(student, inputs, targets, split, progress)

    def progress_at(self, step: int) -> float:
        """i/T in [0, 1] at training step ``step``; 0 where no commentary knows its steps."""
        return self.application.progress_at(step)

    @property
    def step_count(self) -> int:
        """i, the training steps taken so far; may be set when a training run is resumed."""
        return self.application.step_count

    @step_count.setter
    def step_count(self, steps: int) -> None:
        self.application.step_count = steps


def bind_stream(
    commentaries: Stored,
    stream: Any,
    *,
    threshold: float = 0.99,
    inputs: str | None = None,
    targets: str | None = None,
    sources: str | None = None,
    shares: Mapping[str, float] | None = None,
    salt: str | bytes | None = None,
    reduction: Reduction | None = None,
    steps: int | None = None,
    criterion: Criterion = cross_entropy,
    seed: int = 0,
) -> StreamBinding:
    """Bind stored commentaries to a ``stream``: a Hugging Face ``IterableDataset`` or any iterable of samples.

    As `bind`, but only the first 256 samples are looked at before training and held to ``threshold``. The stream must
    yield raw examples, as keys are taken from them; what transforms them comes after (``binding.dataset.map``, or a
    collate function). Where a commentary weighs sources, ``sources`` names the entry of a sample that says its source,
    and ``shares`` how much of the stream is of each (counts will do; those left out take no part); without them the
    samples are counted as training meets them, in this process. Raises what `bind` raises.
    """
    stored = list(in_order(commentaries, threshold))
    reader = StreamReader(stream, inputs=inputs, targets=targets, peek=_PEEK)
    drawn: dict[int, StreamSources] = {}
    for place, one in enumerate(stored):
        check_dataset(one.manifest, form=reader.form, classes=reader.classes, salt=salt)
        if isinstance(one.commentary, MixtureWeights):
            drawn[place] = StreamSources(one, reader.peeked, sources, shares)
            stored[place] = replace(one, commentary=drawn[place].commentary)
        check_labels(one, classes=reader.classes, some=reader.read(reader.peeked)[1])
        check_inputs(one.manifest.name, stored[place].commentary, reader.peeked[0])
    finder = _Finder(stored, reader, salt, drawn)
    for one, match in finder.match(*reader.read(reader.peeked)):
        check_counts(one.manifest, match, threshold, same=False)
        check_conflicts(one, match.rows, labelled=finder.labelled)
    application = Application(
        [one.commentary for one in stored],
        # A mixture's weights have mean 1 by themselves: there are no rows to take a mean over.
        [torch.empty(0, dtype=torch.int64) if place in drawn else None for place in range(len(stored))],
        reduction=reduction or default_reduction(stored),
        steps=steps or default_steps(stored),
        criterion=criterion,
        seed=seed,
    )
    return StreamBinding(stream, finder, application)


class _Finder:
    """Rows of samples, as [n] for one table and [n, K] for K of them; a mixture's row is the number of the source."""

    def __init__(
        self,
        stored: Sequence[StoredCommentary],
        reader: StreamReader,
        salt: str | bytes | None,
        drawn: Mapping[int, StreamSources],
    ) -> None:
        self._stored = stored
        self._reader = reader
        self._salt = salt
        self._drawn = drawn
        self._indexes = {
            place: KeyIndex(one.rows.keys, one.rows.targets) for place, one in enumerate(stored) if one.rows is not None
        }
        self._places = sorted([*self._indexes, *drawn])
        self.labelled = reader.read(reader.peeked[:1])[1][0] is not None

    def match(self, values: Sequence[Any], targets: Sequence[Any]) -> Iterator[tuple[StoredCommentary, Match]]:
        """Each commentary with a table, and how it meets these examples."""
        keys: dict[bool, Keys] = {}
        for place, index in self._indexes.items():
            dataset = self._stored[place].manifest.dataset
            salted = dataset.key.salted
            if salted not in keys:
                keys[salted] = content_keys(values, salt=self._salt if salted else None)
            digests = target_digests(numbered(targets, dataset.classes)) if self.labelled else None
            yield self._stored[place], index.match(keys[salted], digests)

    def _rows(self, values: Sequence[Any], targets: Sequence[Any], entry: Callable[[str], list[Any]]) -> NDArray[Any]:
        """The rows of examples; -1 for all where nothing looks them up. ``entry``: all that they say under a name."""
        found = {
            place: match.rows for place, (_, match) in zip(self._indexes, self.match(values, targets), strict=True)
        } | {place: sources.numbers(entry(sources.column)).numpy() for place, sources in self._drawn.items()}
        columns = [found[place] for place in self._places]
        if not columns:
            return np.full(len(values), NO_ROW, dtype=np.int64)
        return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)

    def carrying(self, samples: Sequence[Any]) -> Iterator[Any]:
        """Samples with their rows."""
        found = self._rows(*self._reader.read(samples), lambda name: [sample[name] for sample in samples])
        for sample, row in zip(samples, torch.from_numpy(found), strict=True):
            yield carrying(sample, row if row.dim() else int(row))

    def column(self, batch: dict[str, list[Any]]) -> dict[str, Any]:
        """The column of rows of a batch of columns."""
        return {ROW: self._rows(*self._reader.read_columns(batch), batch.__getitem__).tolist()}

    def split(self, rows: Tensor) -> tuple[Tensor | None, ...]:
        """Rows of a batch for each commentary, ``None`` for those that look nothing up."""
        columns = iter(rows.reshape(len(rows), -1).unbind(dim=1))
        return tuple(next(columns) if place in self._places else None for place in range(len(self._stored)))

    def meet(self, split: Sequence[Tensor | None], application: Application) -> None:
        """Let mixtures count the sources of a training batch."""
        for place, sources in self._drawn.items():
            commentary, numbers = application.commentaries[place], split[place]
            assert isinstance(commentary, MixtureWeights)
            assert numbers is not None
            sources.meet(numbers, commentary)
