"""What an experiment says before it runs: question, criterion, and its cases, as TOML beside its code.

::

    title = "Noisy labels with a small trusted set"
    question = "Do learned weights find the wrong labels, and do new students gain?"
    criterion = "helps against every control with a student that learning never met, by evidence's rule"
    hours = 0.1                          # an estimate for this profile: on the CPU, or on one GPU at full profile

    [settings]                           # whatever else the experiment's code wants to be told
    angles = [0, 30, 60]

    [[case]]                             # one commentary to learn and to evaluate
    name = "digits, table"
    recipe = "digits.toml"               # a recipe as `commentary-hub learn` takes it, beside the plan
    set = { "data.corruption.share" = 0.7 }               # changes to it, by dotted path
    each = { "data.validation" = [50, 100], seed = [0, 1] }    # the product of these lists: a case each
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from commentary_hub.recipes import Recipe


@dataclass(frozen=True)
class Case:
    """One commentary of an experiment: ``toml`` is the recipe's text with the case's changes, kept in the artefact."""

    name: str
    recipe: Recipe
    toml: str


@dataclass(frozen=True)
class Plan:
    """A profile of an experiment, read from ``<experiment>/<profile>.toml``."""

    title: str
    question: str
    criterion: str
    hours: float
    settings: Mapping[str, Any]
    cases: tuple[Case, ...]

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Read a plan; raises `RecipeError` for a case that is no recipe, `KeyError` for a plan without its words."""
        said = tomllib.loads(path.read_text())
        cases = [case for one in said.get("case", ()) for case in _cases(path.parent, one)]
        words = {name: said[name] for name in ("title", "question", "criterion", "hours")}
        return cls(**words, settings=said.get("settings", {}), cases=tuple(cases))


def _cases(folder: Path, said: Mapping[str, Any]) -> list[Case]:
    each = said.get("each", {})
    found = []
    for values in itertools.product(*each.values()):
        changes = dict(zip(each, values, strict=True))
        table = tomllib.loads((folder / said["recipe"]).read_text())
        for where, value in {**said.get("set", {}), **changes}.items():
            _put(table, where.split("."), value)
        name = ", ".join([said["name"], *(f"{where.rpartition('.')[2]} {value}" for where, value in changes.items())])
        text = tomli_w.dumps(table)
        found.append(Case(name, Recipe.from_toml(text, where=f"{folder / said['recipe']} ({name})"), text))
    return found


def _put(table: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = value
