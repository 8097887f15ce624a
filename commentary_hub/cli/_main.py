"""The command line as a whole: our commands, those that other packages bring, and what happens when one fails."""

from __future__ import annotations

import json
import logging
import sys
from importlib import metadata

import typer
from rich.console import Console
from rich.logging import RichHandler

from commentary_hub.cli import _evaluate, _hub, _interchange, _learn, _show
from commentary_hub.cli._missing import missing_extra
from commentary_hub.cli._printed import printable
from commentary_hub.errors import CommentaryHubError, ReferenceSyntaxError, UsageError

_COMMANDS = "commentary_hub.commands"


def build_app() -> typer.Typer:
    """All commands; packages join through the entry point group ``commentary_hub.commands`` (a function of the app)."""
    app = typer.Typer(
        name="commentary-hub",
        help="Learn, share and reuse commentaries: learned meta-information that helps to train models on a dataset.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for room in (_learn, _show, _evaluate, _hub, _interchange):
        room.register(app)
    for entry in metadata.entry_points(group=_COMMANDS):
        entry.load()(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(metadata.version("commentary-hub"))
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and leave.", callback=_print_version, is_eager=True
    ),
) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Run the command line; exit code 0 for done, 1 for failed, 2 for wrong use."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_time=False, show_path=False)],
    )
    try:
        build_app()()
    except CommentaryHubError as error:
        raise SystemExit(_said(error)) from None
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        raise SystemExit(_said(missing)) from None
    except BrokenPipeError:
        raise SystemExit(1) from None


def _said(error: CommentaryHubError) -> int:
    """The exit code, after the one line that says what went wrong (and JSON, where that is asked for)."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": type(error).__name__, "message": error.message}))
    typer.secho(f"error: {printable(error.message)}", fg=typer.colors.RED, err=True)
    return 2 if isinstance(error, UsageError | ReferenceSyntaxError) else 1
