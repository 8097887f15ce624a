"""``push``, ``pull`` and ``find``: commentaries to and from a hub."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from commentary_hub import hub
from commentary_hub.cli._options import AsJson
from commentary_hub.cli._printed import cell

_OUTCOMES = {
    "helps": "[green]helps[/]",
    "hurts": "[red]hurts[/]",
    "no_difference": "no difference",
    None: "no evidence",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(push)
    app.command()(pull)
    app.command()(find)


def push(
    folder: Annotated[Path, typer.Argument(help="The artefact's folder.", show_default=False)],
    reference: Annotated[str, typer.Argument(help="owner/name, or owner/name@branch.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    into_dataset: Annotated[
        bool, typer.Option("--into-dataset", help="Store it under commentaries/ of a dataset's own repository.")
    ] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="The commit's message.")] = None,
    as_json: AsJson = False,
) -> None:
    """Push an artefact to the hub (HF_ENDPOINT, HF_TOKEN). Safe to repeat."""
    pushed = hub.push(folder, reference, private=private or None, into_dataset=into_dataset, message=message)
    typer.echo(json.dumps(asdict(pushed)) if as_json else f"pushed {pushed}\n{pushed.url}")


def pull(
    reference: Annotated[str, typer.Argument(help="owner/name, or owner/name@revision.", show_default=False)],
    folder: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to put it (default: the Hugging Face cache).")
    ] = None,
    commentary: Annotated[str | None, typer.Option(help="Which one, inside a dataset's own repository.")] = None,
    as_json: AsJson = False,
) -> None:
    """Pull a commentary from the hub, check every digest, and print its folder."""
    path = hub.pull(reference, folder, commentary=commentary)
    typer.echo(json.dumps({"reference": reference, "folder": str(path)}) if as_json else str(path))


def find(
    dataset: Annotated[str | None, typer.Argument(help="The dataset's id, such as ylecun/mnist.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as example_weights.")] = None,
    search: Annotated[str | None, typer.Option(help="Words in name, dataset or card.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Find commentaries for a dataset, the best measured first."""
    found = hub.find(dataset, kind=kind, search=search, limit=limit)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    if not found:
        typer.echo("no commentaries found")
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("commentary", no_wrap=True, min_width=max(len(_name(one)) for one in found))  # to be copied whole
    for title in ("kind", "dataset", "evidence", "gain"):
        table.add_column(title)
    for one in found:
        gain = "" if one.gain is None else f"{one.gain:+.1%}"
        if one.gain_ci95 is not None:
            gain += f" [{one.gain_ci95[0]:+.1%}, {one.gain_ci95[1]:+.1%}]".replace("[", r"\[")
        verified = " (verified)" if one.verified else ""
        table.add_row(
            cell(_name(one)),
            cell(one.kind or ""),
            cell(one.dataset or ""),
            _OUTCOMES.get(one.outcome, "") + verified,
            gain,
        )
    Console().print(table)


def _name(one: hub.Found) -> str:
    return "/".join(part for part in (one.repo_id, one.folder) if part)
