"""Recipes: TOML in, artefact out; the rooms put together for `learn`, `evaluate` and `verify`."""

from commentary_hub.learning import find_device
from commentary_hub.recipes._build import Parts, open_parts, open_whole
from commentary_hub.recipes._checkpoints import CheckpointFile
from commentary_hub.recipes._evaluate import evaluate, learning_run, measure_trial, recipe_of, verify
from commentary_hub.recipes._run import check, run
from commentary_hub.recipes._save import save
from commentary_hub.recipes._schema import Recipe

__all__ = [
    "CheckpointFile",
    "Parts",
    "Recipe",
    "check",
    "evaluate",
    "find_device",
    "learning_run",
    "measure_trial",
    "open_parts",
    "open_whole",
    "recipe_of",
    "run",
    "save",
    "verify",
]
