"""``evaluate`` and ``verify``: does a commentary help, and does the proof hold when it is run again."""

from __future__ import annotations

import getpass
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from commentary_hub import hub, manifest
from commentary_hub.cli._options import AsJson, Device
from commentary_hub.errors import EvidenceError, UsageError

if TYPE_CHECKING:
    import torch

    from commentary_hub.artefact import StoredCommentary

Reference = Annotated[str, typer.Argument(help="A folder, or owner/name[@revision] on the hub.", show_default=False)]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="Another recipe than the one in the artefact.", show_default=False)
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="For a commentary from a hub: the folder to write it to, with its evidence (a folder gets it in place).",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(verify)


def evaluate(
    reference: Reference,
    students: Annotated[
        str | None, typer.Option(help="Names from the recipe, with commas between (default: all it evaluates).")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Training runs of each arm (default: the recipe's).")] = None,
    learning_runs: Annotated[
        int | None,
        typer.Option(min=1, help="Commentaries learned, each on a split of its own (default: the recipe's)."),
    ] = None,
    recipe: RecipeFile = None,
    out: Out = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Train new students with and without a commentary, tuned alike, and attach the certificate. Can be resumed."""
    from commentary_hub import artefact, recipes

    where = recipes.find_device(device)
    folder = _writable(reference, out)
    stored = artefact.load(folder)
    kept = _unfinished("evaluations", folder, stored, where)
    with _bar(hidden=as_json) as bar:
        found = recipes.evaluate(
            stored,
            None if recipe is None else recipes.Recipe.read(recipe),
            students=None if students is None else [name.strip() for name in students.split(",")],
            seeds=seeds,
            learning_runs=learning_runs,
            device=where,
            progress=_progress(bar, "evaluating"),
            keep=kept,
        )
    artefact.attach(folder, evidence=found)
    shutil.rmtree(kept, ignore_errors=True)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "evidence": found.model_dump(mode="json", exclude_none=True)}))
        return
    from commentary_hub.cli._show import measurements_table

    Console().print(measurements_table(found))
    typer.echo(
        f"{found.summary}\nattached to {folder}; next: commentary-hub push {folder} OWNER/{stored.manifest.name}"
    )


def verify(
    reference: Reference,
    account: Annotated[
        str | None, typer.Option(help="Who verifies (default: the hub's account, else the user of this machine).")
    ] = None,
    recipe: RecipeFile = None,
    out: Out = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Run the recorded evaluation again and attach a record that says whether it agrees; exit code 1 if it does not."""
    from commentary_hub import artefact, evidence, recipes

    where = recipes.find_device(device)
    folder = _writable(reference, out)
    stored = artefact.load(folder)
    who = account or hub.account() or getpass.getuser()
    kept = _unfinished("verifications", folder, stored, where)
    with _bar(hidden=as_json) as bar:
        record = recipes.verify(
            stored,
            None if recipe is None else recipes.Recipe.read(recipe),
            account=who,
            device=where,
            progress=_progress(bar, "verifying"),
            keep=kept,
        )
    assert stored.evidence is not None  # otherwise there was nothing to run again
    artefact.attach(folder, evidence=evidence.verified(stored.evidence, record))
    shutil.rmtree(kept, ignore_errors=True)  # the next one must run everything again
    said = "agrees" if record.agrees else "does not agree"
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "verification": record.model_dump(mode="json")}))
    else:
        typer.echo(f"{said}: {record.detail}\nrecorded in {folder} as {who}, {record.date}, {record.hardware}")
    if not record.agrees:
        raise EvidenceError(f"the evidence of {stored.manifest.name} does not hold here: {record.detail}")


def _unfinished(room: str, folder: Path, stored: StoredCommentary, device: torch.device) -> Path:
    """Where finished pieces lie while not all are: in the user's own cache.

    Pieces that came with a folder would be its author's word for what was measured here.
    """
    from commentary_hub.data import cache_folder
    from commentary_hub.evidence import digest_of

    said = (str(folder.resolve()), stored.tensor_digest, stored.manifest.settings_digest, str(device))
    return cache_folder(room) / digest_of("\n".join(said))


def _writable(reference: str, out: Path | None) -> Path:
    """The artefact's folder, where evidence can be written: what comes from the hub needs a folder of its own."""
    if Path(reference).is_dir():
        if out is not None:
            raise UsageError(f"{reference} is a folder, its evidence is written in place: leave out --out")
        return Path(reference)
    manifest.Reference.parse(reference)  # raises `ReferenceSyntaxError` for what can be on no hub
    if out is None:
        raise UsageError(f"{reference} comes from the hub: say with --out where the artefact with its evidence goes")
    return hub.pull(reference, out)


def _bar(*, hidden: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, disable=hidden)


def _progress(bar: Progress, verb: str) -> Any:
    task = bar.add_task(verb, total=None)

    def show(done: int, total: int, what: str) -> None:
        bar.update(task, completed=done, total=total, description=f"{verb} {what}")

    return show
