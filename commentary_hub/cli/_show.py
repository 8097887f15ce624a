"""``show``: what a commentary says, in the terminal and as pictures."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from commentary_hub import hub
from commentary_hub.cli._options import AsJson
from commentary_hub.cli._printed import cell
from commentary_hub.errors import EvidenceError, UsageError
from commentary_hub.manifest import EVIDENCE_NAME, Evidence, Manifest, verify_folder

if TYPE_CHECKING:
    from commentary_hub.data import Examples, RawExamples
    from commentary_hub.insight import Ranked


@dataclass(frozen=True, slots=True)
class _Opened:
    """Examples, and the dataset as it holds them: ``whole`` says that they are all of it in its order."""

    examples: Examples
    raw: RawExamples
    whole: bool

    def rows(self, positions: list[int]) -> dict[int, int]:
        """The dataset's rows with the examples at ``positions``; of equal examples the first, as a split takes it."""
        if self.whole or not positions:
            return {position: position for position in positions}
        from commentary_hub import data

        keys, _ = data.dataset_keys(self.raw, classes=self.raw.classes)
        return {at: int((keys == self.examples.keys[at]).all(axis=1).argmax()) for at in positions}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    reference: Annotated[
        str, typer.Argument(help="A folder, or owner/name[@revision] on the hub.", show_default=False)
    ],
    *,
    dataset: Annotated[
        str | None, typer.Option(help="Open this dataset too, and show the examples of highest and lowest weight.")
    ] = None,
    split: Annotated[str, typer.Option(help="The dataset's split.")] = "train",
    config: Annotated[str | None, typer.Option(help="The dataset's configuration.")] = None,
    examples: Annotated[bool, typer.Option("--examples", help="As --dataset, with the dataset of its recipe.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many examples of each end to list.")] = 5,
    pictures: Annotated[
        Path | None, typer.Option(help="Also draw its pictures (PNG) into this folder; needs the learn and demo parts.")
    ] = None,
    attach: Annotated[bool, typer.Option("--attach", help="Also draw its pictures into the folder's card.")] = False,
    commentary: Annotated[str | None, typer.Option(help="Which one, inside a dataset's own repository.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a commentary says: kind, dataset, cost, evidence; with its dataset also about which examples."""
    if examples and dataset is not None:
        raise UsageError("--examples opens the dataset of the recipe: leave it out, or leave --dataset out")
    local = Path(reference).is_dir()
    if attach and not local:
        raise UsageError(
            f"--attach changes a folder, {reference} is on the hub: pull it into a folder with --out first"
        )
    folder = Path(reference) if local else hub.pull(reference, commentary=commentary)
    manifest = verify_folder(folder)
    evidence = _evidence(folder, manifest)
    opened = _opened(folder, dataset, split=split, config=config, recipe=examples)
    ends = {} if opened is None else _ends(folder, opened, top)
    drawn = _draw(folder, opened, pictures, attach=attach) if pictures is not None or attach else []
    if as_json:
        answer = {
            "manifest": manifest.model_dump(mode="json", exclude_none=True),
            "evidence": None if evidence is None else evidence.model_dump(mode="json", exclude_none=True),
            "pictures": [str(path) for path in drawn],
            "examples": ends,
        }
        typer.echo(json.dumps(answer))
        return
    console = Console()
    console.print(_facts(manifest, evidence))
    if evidence is not None:
        console.print(measurements_table(evidence))
    for end, found in ends.items():
        if found:
            console.print(_examples_table(end, found))
    for path in drawn:
        console.print(f"drew {path}")


def _evidence(folder: Path, manifest: Manifest) -> Evidence | None:
    path = folder / EVIDENCE_NAME
    if not path.is_file():
        return None
    evidence = Evidence.from_json(path.read_bytes(), where=str(path))
    if not evidence.describes(manifest):
        raise EvidenceError(f"{path} was measured with another commentary: it says nothing about this one", path=path)
    return evidence


def _facts(manifest: Manifest, evidence: Evidence | None) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    dataset = manifest.dataset
    verdict = "no evidence: nobody has measured it" if evidence is None else evidence.summary
    recipe, cost, steps = manifest.recipe, manifest.cost, manifest.iterations
    for name, value in (
        ("name", manifest.name),
        ("kind", manifest.kind),
        ("dataset", f"{dataset.identity.id}, {dataset.rows:,} examples, {dataset.validation_rows:,} of them taught it"),
        ("evidence", verdict),
        ("status", manifest.status.reason if manifest.status.state == "deprecated" else ""),
        ("method", "" if recipe is None else f"{recipe.method}; students {', '.join(recipe.students)}"),
        ("learned over", "" if steps is None else f"{steps.steps:,} steps of {steps.batch_size} examples"),
        ("cost", "" if cost is None else f"{cost.seconds:.1f} s on {cost.device}, {cost.inner_steps:,} inner steps"),
        ("licence", manifest.licence or ""),
        ("description", manifest.description),
    ):
        if value:
            table.add_row(f"[bold]{name}[/]", cell(value))
    return table


def measurements_table(evidence: Evidence) -> Table:
    """Accuracies and paired differences, a line for each student and arm."""
    table = Table("student", "arm", "accuracy", "commentary minus arm", title="Does it help?")
    for row in evidence.measurements:
        low, high = row.accuracy_ci95
        difference = ""
        if row.difference_mean is not None and row.difference_ci95 is not None:
            difference = f"{row.difference_mean:+.1%} ({row.difference_ci95[0]:+.1%} to {row.difference_ci95[1]:+.1%})"
        table.add_row(
            cell(row.student), cell(row.control), f"{row.accuracy_mean:.1%} ({low:.1%} to {high:.1%})", difference
        )
    return table


def _examples_table(end: str, found: list[dict[str, Any]]) -> Table:
    table = Table("row", "label", "weight", "what it is", title=f"The {len(found)} examples of {end} weight")
    for one in found:
        table.add_row(f"{one['position']:,}", cell(one["label"]), f"{one['weight']:.3f}", cell(one["summary"]))
    return table


def _opened(folder: Path, dataset: str | None, *, split: str, config: str | None, recipe: bool) -> _Opened | None:
    """The examples that are asked for: a dataset, or the part of the recipe's that the commentary speaks of."""
    if dataset is None and not recipe:
        return None
    from commentary_hub import artefact, data, recipes  # heavy, and only for this option

    if dataset is not None:
        raw, _ = data.open_raw(dataset, split=split, config=config)
        return _Opened(data.open_examples(dataset, split=split, config=config), raw, whole=True)
    stored = artefact.load(folder)
    section = recipes.recipe_of(stored).data
    parts = recipes.open_parts(section)
    shown = parts.train if stored.rows is not None else parts.test or parts.validation
    return _Opened(shown, recipes.open_whole(section, validation=shown is parts.validation), whole=False)


def _ends(folder: Path, opened: _Opened, top: int) -> dict[str, list[dict[str, Any]]]:
    from commentary_hub import artefact, insight

    highest, lowest = insight.ranked(artefact.load(folder), opened.examples, top)
    rows = opened.rows([one.position for one in highest + lowest])

    def said(one: Ranked) -> dict[str, Any]:
        row = rows[one.position]
        return asdict(one) | {"position": row, "summary": _summary(opened.raw[row][0])}

    return {"highest": [said(one) for one in highest], "lowest": [said(one) for one in lowest]}


def _summary(value: Any) -> str:
    """A raw example in a few words: the text itself, or what kind of picture or numbers it is."""
    import numpy as np
    from PIL import Image

    if isinstance(value, str):
        return textwrap.shorten(value, 60, placeholder=" …")
    if isinstance(value, Image.Image):
        return f"picture {value.width}×{value.height}, {value.mode}"
    shape = np.shape(value)
    return f"{shape[0]} numbers" if len(shape) == 1 else f"numbers {list(shape)}"


def _draw(folder: Path, opened: _Opened | None, pictures: Path | None, *, attach: bool) -> list[Path]:
    from commentary_hub import artefact, insight

    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise UsageError(f"{pictures} is a file: name a folder for the pictures")
    drawn = insight.pictures(artefact.load(folder), None if opened is None else opened.examples)
    written = []
    if attach and drawn:
        artefact.attach(folder, plots=drawn)
        written += [folder / "plots" / name for name in drawn]
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        for name, (content, _) in drawn.items():
            (pictures / name).write_bytes(content)
            written.append(pictures / name)
    return written
