"""``show``: what a commentary says, in the terminal and as pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from commentary_hub import hub
from commentary_hub.errors import EvidenceError, UsageError
from commentary_hub.manifest import EVIDENCE_NAME, Evidence, Manifest, tensor_digest, verify_folder


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    reference: Annotated[
        str, typer.Argument(help="A folder, or owner/name[@revision] on the hub.", show_default=False)
    ],
    pictures: Annotated[
        Path | None, typer.Option(help="Also draw its pictures (PNG) into this folder; needs the learn and demo parts.")
    ] = None,
    examples: Annotated[
        bool,
        typer.Option(
            "--examples", help="Open the dataset of its recipe too: masks, and examples of highest and lowest weight."
        ),
    ] = False,
    commentary: Annotated[str | None, typer.Option(help="Which one, inside a dataset's own repository.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what a commentary says: kind, dataset, cost, evidence."""
    if examples and pictures is None:
        raise UsageError("--examples adds to the pictures: name a folder for them with --pictures")
    folder = Path(reference) if Path(reference).is_dir() else hub.pull(reference, commentary=commentary)
    manifest = verify_folder(folder)
    evidence = _evidence(folder, manifest)
    drawn = [] if pictures is None else _draw(folder, pictures, examples=examples)
    if as_json:
        answer = {
            "manifest": manifest.model_dump(mode="json", exclude_none=True),
            "evidence": None if evidence is None else evidence.model_dump(mode="json", exclude_none=True),
            "pictures": [str(path) for path in drawn],
        }
        typer.echo(json.dumps(answer))
        return
    console = Console()
    console.print(_facts(manifest, evidence))
    if evidence is not None:
        console.print(measurements_table(evidence))
    for path in drawn:
        console.print(f"drew {path}")


def _evidence(folder: Path, manifest: Manifest) -> Evidence | None:
    path = folder / EVIDENCE_NAME
    if not path.is_file():
        return None
    evidence = Evidence.from_json(path.read_bytes(), where=str(path))
    if evidence.tensor_digest != tensor_digest(manifest.files):
        raise EvidenceError(f"{path} was measured with other tensors: it says nothing about these", path=path)
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
            table.add_row(f"[bold]{name}[/]", value)
    return table


def measurements_table(evidence: Evidence) -> Table:
    """Accuracies and paired differences, a line for each student and arm."""
    table = Table("student", "arm", "accuracy", "commentary minus arm", title="Does it help?")
    for row in evidence.measurements:
        low, high = row.accuracy_ci95
        difference = ""
        if row.difference_mean is not None and row.difference_ci95 is not None:
            difference = f"{row.difference_mean:+.1%} ({row.difference_ci95[0]:+.1%} to {row.difference_ci95[1]:+.1%})"
        table.add_row(row.student, row.control, f"{row.accuracy_mean:.1%} ({low:.1%} to {high:.1%})", difference)
    return table


def _draw(folder: Path, pictures: Path, *, examples: bool) -> list[Path]:
    from commentary_hub import artefact, insight, recipes  # heavy, and only for this option

    if pictures.exists() and not pictures.is_dir():
        raise UsageError(f"{pictures} is a file: name a folder for the pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    stored = artefact.load(folder)
    shown = None
    if examples:
        parts = recipes.open_parts(recipes.recipe_of(stored).data)
        shown = parts.train if stored.rows is not None else parts.test or parts.validation
    drawn = []
    for name, (content, _) in insight.pictures(stored, shown).items():
        (pictures / name).write_bytes(content)
        drawn.append(pictures / name)
    return drawn
