"""The files that other tools write, one reader for each; pickles are never read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from commentary_hub.errors import InputError
from commentary_hub.interchange._scores import Scores, column

_CARTOGRAPHY = {"confidence": True, "correctness": True, "variability": True, "threshold_closeness": True}


def read_scores(tool: str, path: str | Path, *, measure: str | None = None) -> Scores:
    """The scores in a file that ``tool`` wrote (see `TOOLS`); ``measure`` chooses among several in one file.

    ============  ==============================================  ======================================================
    tool          file                                            measures (the first is the default)
    ============  ==============================================  ======================================================
    cleanlab      ``Datalab.save``'s folder or its issues.csv,    ``label_score``, any other ``*_score``: shares in
                  or ``get_issues()`` as CSV or parquet           [0, 1], high is good
    cartography   ``td_metrics.jsonl``                            ``confidence`` [0, 1], ``correctness``,
                                                                  ``variability``, ``threshold_closeness``: high is
                                                                  kept; ``forgetfulness``: low is kept
    aum           ``aum_values.csv``                              ``aum``, a margin: high is good
    trak          ``scores/<experiment>.mmap`` (or any ``.npy``)  ``mean`` over the targets of [train, targets], or
                                                                  the number of a target: high helps these targets
    npz           a NumPy archive                                 the only array of numbers with one axis that is no
                                                                  ``labels``, else name it; what high means is open
    ============  ==============================================  ======================================================

    Raises `InputError` for a file that is none of this, and what `Scores` raises.
    """
    if tool not in TOOLS:
        raise InputError(f"no reader for {tool!r}: choose one of {', '.join(TOOLS)}", tool=tool)
    found = Path(path)
    if not found.exists():
        raise InputError(f"{found} does not exist: name the file with the scores", path=found)
    try:
        return TOOLS[tool](found, measure)
    except (OSError, ValueError, EOFError, pa.ArrowInvalid) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{found} is no file of {tool}: {reason}", path=found, tool=tool) from None


def _cleanlab(path: Path, measure: str | None) -> Scores:
    file = path / "issues.csv" if path.is_dir() else path
    table = _table(file)
    name = measure or "label_score"
    if name not in table and measure is None:
        others = ", ".join(each for each in table if each.endswith("_score"))
        advice = f"choose another of {others} (measure=)" if others else "give the issues that cleanlab's Datalab found"
        raise InputError(f"{file} has no 'label_score', so nobody looked for label issues: {advice}")
    values = column(file, table, name)
    return Scores("cleanlab", name, file, values, range(len(values)), useful=True, unit=name.endswith("_score"))


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
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is not a NumPy archive (.npz): give one, or use the reader 'trak' for .npy")
    with archive:
        arrays = {name: archive[name] for name in archive.files}
    numbers = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "iuf"]
    candidates = [name for name in numbers if name not in {"label", "labels", "targets", "y"}]
    if measure is None and len(candidates) != 1:
        raise InputError(f"{path} holds {', '.join(candidates) or 'no arrays of scores'}: choose one (measure=)")
    name = measure or candidates[0]
    values = column(path, arrays, name)
    return Scores("npz", name, path, values, range(len(values)), useful=None, unit=False)


def _table(path: Path) -> Mapping[str, Any]:
    """A CSV, JSON lines or parquet file as columns of Python values."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = pyarrow.csv.read_csv(path)
    elif suffix in {".json", ".jsonl"}:
        table = pyarrow.json.read_json(path)
    elif suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
    else:
        raise InputError(f"{path} is no .csv, .jsonl or .parquet file: export the scores as one of these", path=path)
    return {name: table[name].to_pylist() for name in table.column_names}


TOOLS: Mapping[str, Callable[[Path, str | None], Scores]] = {
    "cleanlab": _cleanlab,
    "cartography": _cartography,
    "aum": _aum,
    "trak": _trak,
    "npz": _npz,
}
"""The tools whose files can be read, by name."""
