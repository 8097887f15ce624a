"""From the words of a recipe to the values that the rooms take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch.nn import Parameter

from commentary_hub.commentaries import Commentary, kind_class
from commentary_hub.data import (
    Examples,
    RawExamples,
    check_disjoint,
    corrupt_labels,
    long_tailed,
    open_examples,
    open_raw,
    split_examples,
)
from commentary_hub.errors import CommentaryHubError, RecipeError
from commentary_hub.learning import (
    SGD,
    Adam,
    AdamW,
    Augmentation,
    ConjugateGradient,
    EarlyStop,
    Identity,
    Implicit,
    InnerOptimiser,
    Method,
    Neumann,
    Population,
    Student,
    Unrolled,
    crop_and_flip,
)
from commentary_hub.networks import network
from commentary_hub.recipes._schema import (
    DataSection,
    InnerSection,
    MethodSection,
    NetworkSection,
    OuterSection,
    Recipe,
)

Built = TypeVar("Built")

_INNER: dict[str, Callable[..., InnerOptimiser]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
_OUTER: dict[str, Callable[..., torch.optim.Optimizer]] = {
    name.lower(): cls
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
}
for _unfit in ("optimizer", "lbfgs", "sparseadam"):  # abstract, needs a closure, needs sparse gradients
    _OUTER.pop(_unfit, None)
_SCHEDULES: dict[str, type[torch.optim.lr_scheduler.LRScheduler]] = {
    name: cls
    for name, cls in vars(torch.optim.lr_scheduler).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.lr_scheduler.LRScheduler) and not name.startswith("_")
}
_AUGMENTATIONS: dict[str | None, Augmentation | None] = {None: None, "crop_flip": crop_and_flip}
_INVERSES = {"neumann": Neumann, "conjugate_gradient": ConjugateGradient, "identity": Identity}


@dataclass(frozen=True, slots=True)
class Parts:
    """The examples of a recipe: ``mistaken`` bool [N] marks training labels that were made wrong on purpose."""

    train: Examples
    validation: Examples
    selection: Examples | None
    test: Examples | None
    mistaken: torch.Tensor | None


def open_parts(section: DataSection, *, progress: bool = False) -> Parts:
    """Open the dataset and split it as the recipe says; no two parts share an example.

    ``progress`` counts the examples on standard error while they are read, where that is a terminal. Raises what
    `open_examples`, `split_examples` and `corrupt_labels` raise.
    """
    with _count(shown=progress) as count:
        parts = _split(section, count)
    if section.imbalance is not None:
        parts["train"] = long_tailed(parts["train"], section.imbalance, seed=section.seed)
    mistaken = None
    if (corruption := section.corruption) is not None:
        parts["train"], mistaken = corrupt_labels(
            parts["train"], corruption.share, noise=corruption.noise, seed=corruption.seed
        )
    return Parts(parts["train"], parts["validation"], parts.get("selection"), parts.get("test"), mistaken)


def open_whole(section: DataSection, *, validation: bool = False) -> RawExamples:
    """The raw examples of the split that the parts are of, or ``validation`` is of: its rows are the dataset's.

    Raises what `open_raw` raises.
    """
    split = section.validation_split if validation else None
    raw, _ = open_raw(
        _expanded(section.dataset),
        split=split or section.split,
        config=section.config,
        revision=section.revision,
        inputs=section.inputs,
        targets=section.targets,
    )
    return raw


def _split(section: DataSection, count: Callable[[int], None]) -> dict[str, Examples]:
    opened = partial(
        open_examples,
        _expanded(section.dataset),
        config=section.config,
        revision=section.revision,
        inputs=section.inputs,
        targets=section.targets,
        size=section.size,
        known_as=section.known_as,
        progress=count,
    )
    sizes = {"train": section.train, "selection": section.selection, "test": section.test}
    if section.validation_split is None:
        sizes["validation"] = section.validation
    examples = opened(split=section.split, limit=section.limit)
    parts = split_examples(examples, {name: size for name, size in sizes.items() if size}, seed=section.seed)
    if section.validation_split is not None:
        teaching = opened(split=section.validation_split, classes=examples.classes)
        parts |= split_examples(teaching, {"validation": section.validation}, seed=section.seed)
        check_disjoint(**parts)
    return parts


def _expanded(dataset: str) -> str:
    """``~`` at the start of a path is the home directory."""
    try:
        return str(Path(dataset).expanduser()) if dataset.startswith("~") else dataset
    except RuntimeError as error:
        raise RecipeError(f"data.dataset: {dataset!r}: {error} Give the whole path", place="data.dataset") from None


@contextmanager
def _count(*, shown: bool) -> Iterator[Callable[[int], None]]:
    """A line on a terminal that counts what is read, gone when done; how much there will be is not known before."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("reading examples", total=None)
        yield lambda number: bar.advance(task, number)


def build_commentary(recipe: Recipe, train: Examples) -> Commentary:
    """The kind that the recipe names; a kind with a row per example gets as many rows as there are."""
    cls = kind_class(recipe.commentary.kind)
    parameters = dict(recipe.commentary.parameters)
    if cls.row_tensors:
        _refuse_doubled(parameters, "commentary.parameters", rows="data.train")
        parameters["rows"] = len(train)
    return _built(partial(cls, **parameters), "commentary.parameters")


def build_student(section: NetworkSection) -> Student:
    """A student from the networks' registry; its settings are checked by building it once."""
    build = partial(network, section.name, **section.settings)
    _built(build, f"students.{section.name}")
    return Student(section.name, build)


def build_method(section: MethodSection) -> Method:
    """`Unrolled` or `Implicit`."""
    settings = dict(section.settings)
    if section.name == "unrolled":
        if section.inverse is not None:
            raise RecipeError("method.inverse: only the implicit method has an inverse, leave it out for unrolled")
        if "backward_dtype" in settings:
            settings["backward_dtype"] = _precision(settings["backward_dtype"])
        return _built(partial(Unrolled, **settings), "method.settings")
    _refuse_doubled(settings, "method.settings", inverse="method.inverse = { name = …, settings = { … } }")
    if section.inverse is not None:
        inverse = _INVERSES[section.inverse.name]
        settings["inverse"] = _built(partial(inverse, **section.inverse.settings), "method.inverse.settings")
    return _built(partial(Implicit, **settings), "method.settings")


def build_inner(recipe: Recipe) -> InnerOptimiser:
    """The student's optimiser."""
    section, population = recipe.inner, build_population(recipe)
    life = population.warm_up + section.steps * population.fresh_every
    _refuse_doubled(section.settings, "inner.settings", lr="inner.learning_rate", schedule="inner.schedule")
    settings = dict(section.settings)
    if section.schedule == "cosine":
        settings["schedule"] = lambda step: 0.5 * (1 + math.cos(math.pi * min(step / life, 1)))
    build = partial(_INNER[section.optimiser], lr=section.learning_rate, **settings)
    return _built(build, "inner.settings")


def build_augmentation(section: InnerSection) -> Augmentation | None:
    """What happens to the inputs of a batch."""
    return _AUGMENTATIONS[section.augmentation]


def build_outer(section: OuterSection) -> Callable[[Iterable[Parameter]], torch.optim.Optimizer]:
    """The commentary's optimiser, waiting for its parameters."""
    cls = _OUTER.get(section.optimiser.lower())
    if cls is None:
        raise RecipeError(f"outer.optimiser: {section.optimiser!r} is none of {', '.join(_OUTER)}", place="outer")
    _refuse_doubled(section.settings, "outer.settings", lr="outer.learning_rate")
    build = partial(cls, lr=section.learning_rate, **section.settings)
    _built(partial(build, [Parameter(torch.zeros(1, 1))]), "outer.settings")
    return build


def build_outer_schedule(
    section: OuterSection,
) -> Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None:
    """The schedule of the commentary's learning rate, waiting for its optimiser."""
    if section.schedule == "constant":
        return None
    settings, place = dict(section.schedule_settings), "outer.schedule_settings"
    name = section.schedule
    if name == "cosine":
        _refuse_doubled(settings, place, T_max="outer.steps")
        name, settings["T_max"] = "CosineAnnealingLR", section.steps
    cls = _SCHEDULES.get(name)
    if cls is None:
        known = ", ".join(("constant", "cosine", *_SCHEDULES))
        raise RecipeError(f"outer.schedule: {name!r} is none of {known}", place="outer.schedule")
    build = partial(cls, **settings)
    _built(partial(build, build_outer(section)([Parameter(torch.zeros(1, 1))])), place)
    return build


def build_early_stop(section: OuterSection) -> EarlyStop | None:
    """When the outer loop stops early."""
    stop = section.early_stop
    return None if stop is None else EarlyStop(patience=stop.patience, least=stop.least)


def build_population(recipe: Recipe) -> Population:
    """Which students teach the commentary."""
    return _built(partial(Population, **recipe.population), "population")


def _precision(name: Any) -> torch.dtype:
    if name != "float64":
        raise RecipeError(
            f'method.settings: backward_dtype is {name!r}: give "float64", or leave it out', place="method.settings"
        )
    return torch.float64


def _refuse_doubled(settings: Mapping[str, Any], place: str, **elsewhere: str) -> None:
    """Raise `RecipeError` for one of ``settings`` that is said ``elsewhere`` in a recipe."""
    for name in settings.keys() & elsewhere.keys():
        raise RecipeError(f"{place}: {name} is not set here, but by {elsewhere[name]}", place=place)


def _built(build: Callable[[], Built], place: str) -> Built:
    """Call ``build``; what it doesn't accept is the recipe's mistake, named by its place."""
    try:
        return build()
    except CommentaryHubError as error:
        raise RecipeError(f"{place}: {error}", place=place) from error
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise RecipeError(f"{place}: {error}", place=place) from None
