"""``learn``: a recipe in, an artefact out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commentary_hub.cli._folders import Overwrite, refuse_to_replace
from commentary_hub.cli._options import AsJson, Device

if TYPE_CHECKING:
    from commentary_hub.learning import Progress


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(learn)


def learn(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The artefact's folder.")] = Path("commentary"),
    check: Annotated[
        bool, typer.Option("--check", help="Only measure the hypergradient's error against the exact float64 one.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart", help="Go on from this recipe's last checkpoint in the folder, or begin anew."
        ),
    ] = True,
    overwrite: Overwrite = False,
    every: Annotated[int, typer.Option(min=1, help="Outer steps between checkpoints.")] = 10,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write scalars for TensorBoard to this folder.", show_default=False)
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Learn a commentary as a recipe says, and save it as an artefact."""
    if not check and not overwrite:
        refuse_to_replace(out)
    from commentary_hub import recipes

    read = recipes.Recipe.read(recipe)
    if check:
        wrong = recipes.check(read, device=device)
        said = f"relative error of the hypergradient against the exact float64 one: {wrong:.2e}"
        typer.echo(json.dumps({"relative_error": wrong}) if as_json else said)
        return
    with _scalars(tensorboard) as scalars:
        progress: tuple[bool | Progress, ...] = (not as_json, *scalars)
        manifest = recipes.run(
            read,
            out,
            recipe_toml=recipe.read_text("utf-8-sig"),
            progress=progress,
            resume=resume,
            checkpoint_every=every,
            device=device,
        )
    if as_json:
        typer.echo(json.dumps({"folder": str(out), "manifest": manifest.model_dump(mode="json", exclude_none=True)}))
    else:
        typer.echo(f"saved {manifest.name} to {out}; next: commentary-hub push {out} OWNER/{manifest.name}")


@contextmanager
def _scalars(folder: Path | None) -> Iterator[tuple[Progress, ...]]:
    """What writes scalars to ``folder`` while it is open; nothing where none is asked for."""
    if folder is None:
        yield ()
        return
    from torch.utils.tensorboard import SummaryWriter

    from commentary_hub.learning import tensorboard

    with SummaryWriter(str(folder)) as writer:
        yield (tensorboard(writer),)
