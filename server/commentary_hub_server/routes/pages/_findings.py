"""What a commentary says, by its kind: the numbers behind the charts of its page."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from commentary_hub.errors import ArtefactError
from commentary_hub_server.routes.pages._charts import MAX_CLASSES
from commentary_hub_server.rules.catalogue import (
    BlendTable,
    Commentary,
    Sample,
    SampleSheet,
    Shelf,
    WeightTable,
    blend_table,
    mixture_shares,
    read_sample_sheet,
    rows_by_range,
    tensor_file,
    weight_table,
)

NEIGHBOURS = 6
_LABELS = 12
_PAIRS = 8
_KEPT_TABLES = 16
Table = TypeVar("Table")


@dataclass(frozen=True, slots=True)
class Weights:
    """A table of weights seen at a threshold, with examples on either side of it.

    The examples are those of the artefact's ``sheet`` of samples, which can be shown, or else the table's own rows
    next to the threshold. ``labels`` are (label, how many below, how many in all).
    """

    table: WeightTable
    threshold: float
    below: tuple[Sample, ...]
    above: tuple[Sample, ...]
    count_below: int
    labels: tuple[tuple[str, int, int], ...]
    sheet: SampleSheet | None = None


@dataclass(frozen=True, slots=True)
class Blend:
    """Shares of the partner, the names of the classes, and the pairs that are blended most."""

    table: BlendTable
    names: tuple[str, ...]
    pairs: tuple[tuple[str, str, float], ...]


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of named sources, the largest first."""

    shares: tuple[tuple[str, float], ...]


Findings = Weights | Blend | Mixture


def findings(shelf: Shelf, found: Commentary, threshold: float) -> Findings | None:
    """What can be drawn of a commentary from its tensors; ``None`` for kinds whose pictures must speak."""
    try:
        match found.manifest.kind:
            case "example_weights":
                return _weights(shelf, found, threshold)
            case "label_blend":
                return _blend(shelf, found)
            case "mixture_weights":
                return _mixture(shelf, found)
            case _:
                return None
    except (ArtefactError, FileNotFoundError):
        return None


def _weights(shelf: Shelf, found: Commentary, threshold: float) -> Weights | None:
    read, header = tensor_file(shelf, found)
    key = _key(found)
    table = _tables.get(key)
    if table is None:
        table = weight_table(read, header, found.manifest)
        if table is None:
            return None
        _tables.put(key, table)
    below, above, count_below = table.split(threshold, NEIGHBOURS)
    sheet = read_sample_sheet(shelf, found)
    if sheet is None:
        sides = [
            tuple(
                Sample(rows_by_range(read, header, table.rows[at], 1).rows[0].key, table.weights[at], table.labels[at])
                for at in side
            )
            for side in (below, above)
        ]
    else:
        sides = list(sheet.beside(threshold, NEIGHBOURS))
    labels = tuple(table.below_by_label(threshold)[:_LABELS])
    return Weights(table, threshold, sides[0], sides[1], count_below, labels, sheet)


def _blend(shelf: Shelf, found: Commentary) -> Blend | None:
    key = _key(found)
    table = _blends.get(key)
    if table is None:
        read, header = tensor_file(shelf, found, holding="commentary.logits")
        table = blend_table(read, header, drawn=MAX_CLASSES, pairs=_PAIRS)
        if table is None:
            return None
        _blends.put(key, table)
    classes = found.manifest.dataset.classes or ()
    names = tuple(classes[at] if at < len(classes) else str(at) for at in range(table.count))
    return Blend(table, names, tuple((names[row], names[at], share) for row, at, share in table.pairs))


def _mixture(shelf: Shelf, found: Commentary) -> Mixture | None:
    shares = mixture_shares(*tensor_file(shelf, found, holding="commentary.logits"))
    names = found.manifest.parameters.get("sources")
    if not shares or not isinstance(names, list) or len(names) != len(shares):
        return None
    lines = sorted(zip(map(str, names), shares, strict=True), key=lambda line: -line[1])
    return Mixture(tuple(lines))


def _key(found: Commentary) -> Hashable:
    """What tables are kept by: the digests that the hub itself took of the tensors, and the names of the classes."""
    named = {found.prefix + name for name in found.manifest.tensor_files}
    return tuple(file.digest for file in found.files if file.path in named), found.manifest.dataset.classes


class _Tables(Generic[Table]):
    """Tables that were read lately."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Table] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> Table | None:
        with self._lock:
            return self._known.get(key)

    def put(self, key: Hashable, table: Table) -> None:
        with self._lock:
            self._known[key] = table
            while len(self._known) > _KEPT_TABLES:
                self._known.popitem(last=False)


_tables: _Tables[WeightTable] = _Tables()
_blends: _Tables[BlendTable] = _Tables()
