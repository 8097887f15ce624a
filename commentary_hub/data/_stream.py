"""Streams: datasets that are read once, in their own order, and never held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import datasets

from commentary_hub.data._columns import Columns, find_columns, pick, sample_columns
from commentary_hub.data._keys import Form, content_form
from commentary_hub.data._raw import check_opened, decode_image
from commentary_hub.errors import InputError


class StreamReader:
    """Tells the raw (values, targets) of a stream's samples; ``peeked`` are the first of them, ``form`` their form.

    A stream's transforms can't be seen past: it must yield raw examples, and what changes them comes afterwards.
    """

    classes: tuple[str, ...] | None = None

    def __init__(self, stream: Any, *, inputs: str | None, targets: str | None, peek: int) -> None:
        self._columns: Columns | None = None
        self._names: tuple[str, str | None] | None = None
        check_opened(stream)
        if not isinstance(stream, Iterable):
            raise InputError(f"{type(stream).__name__} is no stream: give an iterable of samples")
        if iter(stream) is stream:
            raise InputError(
                f"this {type(stream).__name__} can be read only once, so that a first look would cost training its "
                "samples: give an iterable that starts anew each time, as a class with __iter__ does"
            )
        plain = stream.with_format(None) if isinstance(stream, datasets.IterableDataset) else stream
        self.peeked = list(islice(iter(plain), peek))
        if not self.peeked:
            raise InputError("the stream is empty: there is nothing to bind")
        features = getattr(stream, "features", None)
        if isinstance(stream, datasets.IterableDataset) and features is not None:
            self._columns = find_columns(features, inputs=inputs, targets=targets)
            self.classes = self._columns.classes
        elif isinstance(self.peeked[0], Mapping):
            self._names = sample_columns(self.peeked[0], inputs=inputs, targets=targets)
        self.form: Form = content_form(self.read(self.peeked[:1])[0][0])

    def read(self, samples: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The raw values and targets of samples, one by one as the stream yields them."""
        if self._columns is not None:
            return self.read_columns({name: [sample[name] for sample in samples] for name in samples[0]})
        pairs = [pick(sample, self._names) for sample in samples]
        return [value for value, _ in pairs], [target for _, target in pairs]

    def read_columns(self, batch: Mapping[str, Sequence[Any]]) -> tuple[list[Any], list[Any]]:
        """The raw values and targets of a batch of columns."""
        if self._columns is not None:
            values, target = self._columns.values(batch), self._columns.target
            if self._columns.form == "image":
                values = [decode_image(cell) for cell in values]
        else:
            assert self._names is not None
            values, target = list(batch[self._names[0]]), self._names[1]
        return values, list(batch[target]) if target is not None else [None] * len(values)


def numbered(targets: Sequence[Any], classes: Sequence[str] | None) -> list[Any]:
    """Targets with the names in ``classes`` replaced by their indices.

    >>> numbered(["dog", 0, "cow"], ["cat", "dog"])
    [1, 0, 'cow']
    """
    numbers = {name: number for number, name in enumerate(classes or ())}
    return [numbers.get(target, target) if isinstance(target, str) else target for target in targets]
