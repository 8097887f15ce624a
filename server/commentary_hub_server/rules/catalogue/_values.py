"""What a commentary says, as numbers for charts: read from its bytes, never run."""

from __future__ import annotations

import hashlib
import heapq
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from commentary_hub.manifest import STATE_PREFIX, TARGETS_TENSOR, Manifest
from commentary_hub_server.rules.catalogue._safetensors import Header, Read, TensorView, read_rows

MAX_ROWS = 10_000  # a share of them is within 1 point of the whole table's, 95 times in 100
MAX_VALUES = 160_000  # rows times stages; of 64 stages 2,500 rows, whose shares are within 2 points
MAX_STAGES = 64
MAX_CLASSES = 1000
_BLOCKS = 10
_BLEND_ROWS = 100  # of at most as many thousand numbers at once
_DIGEST_BYTES = 8
_INTEGER_LABELS = 1000
_LOGITS = f"{STATE_PREFIX}logits"


@dataclass(frozen=True)
class WeightTable:
    """Weights of a table of examples, of all ``total`` rows or of an even sample of them.

    ``rows`` are the drawn rows' numbers, ``weights`` [rows] the mean of each over training, ``labels`` the name of the
    target each was learned with (empty where unknown), ``quartiles`` [stages][3] the lower quartile, the median and
    the upper quartile at each stage.
    """

    total: int
    rows: tuple[int, ...]
    weights: tuple[float, ...]
    labels: tuple[str, ...]
    quartiles: tuple[tuple[float, float, float], ...]

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Positions in ``rows`` from the lowest weight to the highest."""
        return tuple(sorted(range(len(self.weights)), key=self.weights.__getitem__))

    def split(self, threshold: float, neighbours: int) -> tuple[list[int], list[int], int]:
        """Positions next below and next above ``threshold``, nearest first, and how many of the drawn lie below."""
        below = bisect_left(self.order, threshold, key=self.weights.__getitem__)
        return list(self.order[max(0, below - neighbours) : below][::-1]), list(self.order[below:][:neighbours]), below

    def below_by_label(self, threshold: float) -> list[tuple[str, int, int]]:
        """(label, how many below ``threshold``, how many in all), the largest share below first."""
        everything = Counter(self.labels)
        low = Counter(label for label, weight in zip(self.labels, self.weights, strict=True) if weight < threshold)
        lines = [(label, low[label], count) for label, count in everything.items() if label]
        return sorted(lines, key=lambda line: (-line[1] / line[2], line[0]))


@dataclass(frozen=True, slots=True)
class BlendTable:
    """How much of a partner is mixed into an example, by the classes of the two: shares 1 − λ from low to high.

    ``shares`` are those of the first classes [drawn][drawn], ``pairs`` (class, partner, share) the largest of all.
    """

    count: int
    shares: tuple[tuple[float, ...], ...]
    pairs: tuple[tuple[int, int, float], ...]
    low: float
    high: float


def weight_table(read: Read, header: Header, manifest: Manifest) -> WeightTable | None:
    """The weights of an ``example_weights`` commentary, w = sigmoid(logits); ``None`` for a table of another form.

    More than 10,000 rows (fewer of more than 16 stages) are sampled in 10 equal blocks, so that a page costs a bounded
    read and a tenth of a second: rows are sorted by digests, so that a block is as good as a draw, the same each time.
    """
    tensor = header.find(_LOGITS)
    if tensor is None or len(tensor.shape) != 2 or not 0 < tensor.shape[1] <= MAX_STAGES or not tensor.shape[0]:
        return None
    total = tensor.shape[0]
    shown = min(MAX_ROWS, MAX_VALUES // tensor.shape[1])
    blocks = [(0, total)] if total <= shown else [(total * at // _BLOCKS, shown // _BLOCKS) for at in range(_BLOCKS)]
    targets = header.find(TARGETS_TENSOR)
    if targets is not None and (targets.shape != (total, _DIGEST_BYTES) or targets.dtype != "U8"):
        targets = None
    names = _names(manifest.dataset.classes)
    rows: list[int] = []
    table: list[list[float]] = []
    labels: list[str] = []
    for first, count in blocks:
        for at, line in enumerate(read_rows(read, tensor, first, count)):
            if None not in line:
                rows.append(first + at)
                table.append([_sigmoid(value) for value in line])
        labels += _labels(read, targets, first, count, names)
    if not table:
        return None
    if len(labels) != len(table):
        labels = [""] * len(table)
    last = len(table) - 1
    columns = [sorted(column) for column in zip(*table, strict=True)]
    return WeightTable(
        total,
        tuple(rows),
        tuple(sum(line) / len(line) for line in table),
        tuple(labels),
        tuple((column[last // 4], column[last // 2], column[3 * last // 4]) for column in columns),
    )


def blend_table(read: Read, header: Header, *, drawn: int, pairs: int) -> BlendTable | None:
    """What a ``label_blend`` says, 1 − λ = ½ sigmoid(Φ): ``drawn`` classes and so many ``pairs``; else ``None``.

    Of a thousand classes there are a million pairs: they are gone through in blocks of rows, and few are kept.
    """
    tensor = header.find(_LOGITS)
    if tensor is None or len(tensor.shape) != 2 or tensor.shape[0] != tensor.shape[1]:
        return None
    count = tensor.shape[0]
    if not 0 < count <= MAX_CLASSES:
        return None
    lows, highs, shares, most = [], [], [], []
    for first in range(0, count, _BLEND_ROWS):
        for row, read_line in enumerate(read_rows(read, tensor, first, _BLEND_ROWS), first):
            line = [value or 0.0 for value in read_line]
            lows.append(min(line))
            highs.append(max(line))
            if row < drawn:
                shares.append(tuple(_share(value) for value in line[:drawn]))
            partners = heapq.nlargest(pairs + 1, range(count), key=line.__getitem__)
            most += [(-line[at], row, at) for at in partners if at != row]
    kept = tuple((row, at, _share(-value)) for value, row, at in heapq.nsmallest(pairs, most))
    return BlendTable(count, tuple(shares), kept, _share(min(lows)), _share(max(highs)))


def mixture_shares(read: Read, header: Header) -> list[float]:
    """P [sources] of ``mixture_weights``: softmax(logits); empty for another form."""
    tensor = header.find(_LOGITS)
    if tensor is None or len(tensor.shape) != 1 or not 0 < tensor.shape[0] <= MAX_CLASSES:
        return []
    logits = [value or 0.0 for value in read_rows(read, tensor, 0, MAX_CLASSES)]
    powers = [math.exp(value - max(logits)) for value in logits]
    return [power / sum(powers) for power in powers]


def target_digest(target: int | str) -> bytes:
    """The digest that tables keep of a class or a class name, equal to the library's (which needs torch).

    >>> target_digest(3).hex(), target_digest("3").hex()
    ('b64216c480c06f77', 'baa99850fbb92bc6')
    """
    text = b"text\0" + target.encode() if isinstance(target, str) else b"int\0" + str(target).encode()
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, person=b"commentary-tgt-1").digest()


def _names(classes: Sequence[str] | None) -> dict[bytes, str]:
    known = list(classes) if classes else [str(number) for number in range(_INTEGER_LABELS)]
    return {target_digest(number): name for number, name in enumerate(known)}


def _labels(read: Read, targets: TensorView | None, first: int, count: int, names: dict[bytes, str]) -> list[str]:
    if targets is None:
        return []
    data = read(targets.start + first * _DIGEST_BYTES, count * _DIGEST_BYTES)
    return [names.get(data[at : at + _DIGEST_BYTES], "") for at in range(0, len(data), _DIGEST_BYTES)]


def _share(logit: float) -> float:
    return 0.5 * _sigmoid(logit)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
