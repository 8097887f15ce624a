"""The files that other tools write, one reader for each; pickles are never read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from commentary_hub.errors import InputError
from commentary_hub.interchange._scores import Scores, Values, column

_CARTOGRAPHY = {"confidence": True, "correctness": True, "variability": True, "threshold_closeness": True}
_QUALITIES = ("label_score", "label_quality")
"""How Datalab and CleanLearning call what they say of a label."""
_INDICES = ("", "Unnamed: 0", "__index_level_0__", "index")
"""How a table's columns are called that pandas made of its index."""
_LABELS = frozenset({"label", "labels", "targets", "y"})
_PLACES = frozenset({"id", "ids", "idx", "index", "indices", "positions"})


def read_scores(tool: str, path: str | Path, *, measure: str | None = None) -> Scores:
    """The scores in a file that ``tool`` wrote (see `TOOLS`); ``measure`` chooses among several in one file.

    ============  ==============================================  ======================================================
    tool          file                                            measures (the first is the default)
    ============  ==============================================  ======================================================
    cleanlab      ``Datalab.save``'s folder or its issues.csv,    ``label_score`` (``find_label_issues``:
                  ``get_issues()`` or ``find_label_issues()`` as  ``label_quality``), any other ``*_score``: shares in
                  CSV or parquet, sorted and filtered only with   [0, 1], high is good
                  its index
    cartography   ``td_metrics.jsonl``                            ``confidence`` [0, 1], ``correctness``,
                                                                  ``variability``, ``threshold_closeness``: high is
                                                                  kept; ``forgetfulness``: low is kept
    aum           ``aum_values.csv``                              ``aum``, a margin: high is good
    trak          ``scores/<experiment>.mmap`` (or any ``.npy``)  ``mean`` over the targets of [train, targets], or
                                                                  the number of a target: high helps these targets
    npz           a NumPy archive, or a ``.npy`` of one axis      the only array of numbers with one axis that is no
                                                                  ``labels``, else name it; what high means is open
    ============  ==============================================  ======================================================

    Tables that name their examples (``guid``, ``sample_id``, the index of cleanlab's) may be in any order; the others
    are in the dataset's. Raises `InputError` for a file that is none of this, and what `Scores` raises.
    """
    if tool not in TOOLS:
        raise InputError(f"no reader for {tool!r}: choose one of {', '.join(TOOLS)}", tool=tool)
    found = Path(path)
    if not found.exists():
        raise InputError(f"{found} does not exist: name the file with the scores", path=found)
    try:
        return TOOLS[tool](found, measure)
    except (OSError, ValueError, LookupError, TypeError, EOFError, pa.ArrowException) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{found} is no file of {tool}: {reason}", path=found, tool=tool) from None


def _cleanlab(path: Path, measure: str | None) -> Scores:
    file = path / "issues.csv" if path.is_dir() else path
    table = _table(file)
    name = measure or next((each for each in _QUALITIES if each in table), None)
    if name is None:
        others = ", ".join(each for each in table if each.endswith("_score"))
        advice = f"choose another of {others} (measure=)" if others else "give the issues that cleanlab found"
        raise InputError(f"{file} has no 'label_score' or 'label_quality', so nobody looked for label issues: {advice}")
    values, places = _by_index(file, table, column(file, table, name))
    return Scores(
        "cleanlab", name, file, values, places, useful=True, unit=name in _QUALITIES or name.endswith("_score")
    )


def _by_index(path: Path, table: Mapping[str, Any], values: Values) -> tuple[Values, Sequence[Any]]:
    """The values and the examples that they are of, as the table's index says, which is the order without one."""
    indices = [table[name] for name in _INDICES if name in table]
    if not indices:
        return values, range(len(values))
    if any(other != indices[0] for other in indices):
        names = ", ".join(repr(name) for name in _INDICES if name in table)
        raise InputError(f"{path} has several indices ({names}): keep the one that holds the dataset's positions")
    places = indices[0]
    if set(places) != set(range(len(values))):
        return values, places
    # No place is left out, so this is a whole dataset: as a range it is refused for a larger one, as another split is.
    return values[np.argsort(places)], range(len(values))


def _cartography(path: Path, measure: str | None) -> Scores:
    table = _table(path)
    name = measure or "confidence"
    values = column(path, table, name)
    if "guid" not in table:
        raise InputError(f"{path} has no 'guid': give the td_metrics.jsonl that the tool wrote")
    useful = False if name == "forgetfulness" else _CARTOGRAPHY.get(name)
    return Scores("cartography", name, path, values, list(table["guid"]), useful=useful, unit=name == "confidence")


def _aum(path: Path, measure: str | None) -> Scores:
    table = _table(path)
    if "sample_id" not in table or "margin" in table:
        raise InputError(f"{path} is not aum_values.csv (sample_id, aum): give that file, one line for each example")
    name = measure or "aum"
    return Scores("aum", name, path, column(path, table, name), list(table["sample_id"]), useful=True, unit=False)


def _trak(path: Path, measure: str | None) -> Scores:
    scores = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(scores, np.ndarray) or scores.ndim != 2 or scores.dtype.kind != "f":
        raise InputError(f"{path} holds no scores [train, targets]: give scores/<experiment>.mmap of TRAK's folder")
    name = measure or "mean"
    if name != "mean" and not (name.isdecimal() and int(name) < scores.shape[1]):
        raise InputError(f"{path} has {scores.shape[1]} targets: choose 'mean' or a number below that (measure=)")
    values = scores.mean(axis=1, dtype=np.float64) if name == "mean" else scores[:, int(name)].astype(np.float64)
    return Scores("trak", name, path, values, range(len(values)), useful=True, unit=False)


def _npz(path: Path, measure: str | None) -> Scores:
    arrays = _arrays(path)
    numbers = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "iuf"]
    candidates = [name for name in numbers if name not in _LABELS | _PLACES]
    if measure is None and len(candidates) != 1:
        raise InputError(f"{path} holds {', '.join(candidates) or 'no arrays of scores'}: choose one (measure=)")
    name = measure or candidates[0]
    values = column(path, arrays, name)
    for other in _PLACES & set(numbers) - {name}:
        # Places of the scores or their order from the best on: what it is decides which example gets which score.
        if len(arrays[other]) == len(values) and not np.array_equal(arrays[other], np.arange(len(values))):
            raise InputError(
                f"{path} holds {other!r} beside {name!r}, which may say whose score is where: save the scores without "
                "it, in the dataset's order"
            )
    return Scores("npz", name, path, values, range(len(values)), useful=None, unit=False)


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of a NumPy archive, or the one of a ``.npy`` file under the file's name."""
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    if loaded.ndim != 1:
        raise InputError(
            f"{path} holds an array of shape {list(loaded.shape)}, expected one number for each example: give such an "
            "array, or use the reader 'trak' for scores [train, targets]"
        )
    return {path.stem: loaded}


def _table(path: Path) -> Mapping[str, Any]:
    """A CSV, JSON lines or parquet file as columns of Python values; "" is the index of a pandas table."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = pyarrow.csv.read_csv(path)
    elif suffix in {".json", ".jsonl"}:
        table = pyarrow.json.read_json(path)
    elif suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
    elif suffix in {".npy", ".npz"}:
        raise InputError(f"{path} is no .csv, .jsonl or .parquet file: use the reader 'npz' for arrays", path=path)
    else:
        raise InputError(f"{path} is no .csv, .jsonl or .parquet file: export the scores as one of these", path=path)
    return {name: table[name].to_pylist() for name in table.column_names} | _noted_index(table)


def _noted_index(table: pa.Table) -> dict[str, list[Any]]:
    """The index that pandas notes in a parquet file, under the name that it has in a CSV file."""
    noted = (table.schema.pandas_metadata or {}).get("index_columns", [])
    if len(noted) != 1:
        return {}
    if isinstance(noted[0], str):
        return {"": table[noted[0]].to_pylist()}
    steps = range(noted[0]["start"], noted[0]["stop"], noted[0]["step"])
    # pandas notes the order of any table as an index; it is none where a column holds an earlier one (reset_index).
    default = steps == range(len(table)) and not set(_INDICES).isdisjoint(table.column_names)
    return {"": list(steps)} if len(steps) == len(table) and not default else {}


TOOLS: Mapping[str, Callable[[Path, str | None], Scores]] = {
    "cleanlab": _cleanlab,
    "cartography": _cartography,
    "aum": _aum,
    "trak": _trak,
    "npz": _npz,
}
"""The tools whose files can be read, by name."""
