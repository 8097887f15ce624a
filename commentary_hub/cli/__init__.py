"""The command line: parse, call, print. One line for every error, no traceback."""

from commentary_hub.cli._main import build_app, main

__all__ = ["build_app", "main"]
