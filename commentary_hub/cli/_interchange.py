"""``import`` and ``export``: scores of other tools in, tables of weights out."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from commentary_hub.cli._folders import Overwrite, refuse_to_replace
from commentary_hub.cli._options import AsJson


class Tool(StrEnum):
    """Whose files can be read."""

    cleanlab = "cleanlab"
    cartography = "cartography"
    aum = "aum"
    trak = "trak"
    npz = "npz"


class Scale(StrEnum):
    """How scores become weights."""

    share = "share"
    rank = "rank"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_)
    app.command()(export)


def import_(
    tool: Annotated[Tool, typer.Argument(help="The tool that wrote the file.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The file (or the folder of Datalab.save).", show_default=False)],
    *,
    dataset: Annotated[
        str, typer.Option(help="The dataset that was scored: a Hub id, a file or a folder.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The artefact's folder.")] = Path("commentary"),
    name: Annotated[str | None, typer.Option(help="The commentary's name (default: the folder's).")] = None,
    measure: Annotated[str | None, typer.Option(help="Which scores, where the file holds several.")] = None,
    useful: Annotated[
        bool | None, typer.Option("--useful/--harmful", help="What a high score says of an example.")
    ] = None,
    scale: Annotated[Scale | None, typer.Option(help="Scores as shares in 0 to 1, or their order alone.")] = None,
    split: Annotated[str, typer.Option(help="The dataset's split.")] = "train",
    config: Annotated[str | None, typer.Option(help="The dataset's configuration.")] = None,
    known_as: Annotated[str | None, typer.Option(help="The Hub id of a local copy.")] = None,
    ids: Annotated[
        str | None,
        typer.Option(help="The dataset's column of the names that the tool used, where these are no positions."),
    ] = None,
    targets: Annotated[str | None, typer.Option(help="The column of the labels, where it cannot be told.")] = None,
    licence: Annotated[str | None, typer.Option(help="The scores' licence.")] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Turn another tool's scores into a commentary of example weights, bound by content from then on."""
    if not overwrite:
        refuse_to_replace(out)
    from commentary_hub import interchange

    manifest = interchange.import_scores(
        out,
        interchange.read_scores(tool.value, file, measure=measure),
        dataset,
        name=name or out.resolve().name,
        useful=useful,
        scale=None if scale is None else scale.value,
        split=split,
        config=config,
        known_as=known_as,
        ids=ids,
        targets=targets,
        licence=licence,
    )
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "manifest": manifest.model_dump(mode="json", exclude_none=True)}))
    else:
        typer.echo(f"saved {manifest.name} to {out}: {manifest.parameters['rows']:,} weights")


def export(
    reference: Annotated[
        str, typer.Argument(help="A folder, or owner/name[@revision] on the hub.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="The table: .parquet or .csv.", show_default=False)],
    dataset: Annotated[
        str | None, typer.Option(help="A line for each example of this dataset, in its order, instead of each row.")
    ] = None,
    split: Annotated[str, typer.Option(help="The dataset's split.")] = "train",
    config: Annotated[str | None, typer.Option(help="The dataset's configuration.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The share of examples that must be known.")] = 0.99,
    as_json: AsJson = False,
) -> None:
    """Write the weights of a commentary as a table for other tools.

    Each row of the commentary's table has its weights as they are stored, between 0 and 1, under its key and target;
    with --dataset each example has its weight divided by the mean over the examples found, so that their mean is 1,
    under its position in the dataset, with the row that it has in the commentary's table (-1 for none).
    """
    from commentary_hub import interchange

    if dataset is None:
        lines = interchange.export(reference, out)
    else:
        from commentary_hub import data

        raw, _ = data.open_raw(dataset, split=split, config=config)
        lines = interchange.export(reference, out, raw, threshold=threshold)
    typer.echo(json.dumps({"file": str(out), "lines": lines}) if as_json else f"wrote {lines:,} lines to {out}")
