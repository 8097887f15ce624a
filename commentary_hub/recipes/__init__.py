"""Recipes: TOML in, artefact out; the rooms put together for `learn`, `evaluate` and `verify`."""

from commentary_hub.recipes._evaluate import evaluate, verify
from commentary_hub.recipes._run import check, run
from commentary_hub.recipes._save import save
from commentary_hub.recipes._schema import Recipe

__all__ = ["Recipe", "check", "evaluate", "run", "save", "verify"]
