"""What a recipe says: TOML, validated as a whole before anything runs."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from commentary_hub.commentaries import MixtureWeights, SupportWeights
from commentary_hub.data import LabelNoise
from commentary_hub.errors import RecipeError
from commentary_hub.evidence import digest_of

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Item = TypeVar("Item")
Array = Annotated[tuple[Item, ...], Field(strict=False)]  # strictly, a list is no tuple; its items stay strict

_IN_PYTHON = {
    MixtureWeights.kind: "which cannot say which source each example is of: learn them in Python with "
    "MixtureWeights(sources, row_sources=...)",
    SupportWeights.kind: "which deals no episodes: learn them in Python with learning.learn_episodes",
}
_UNKNOWN = "extra_forbidden"  # pydantic's word for a name that a section doesn't have


class _Section(BaseModel):
    """Strict: neither true nor "3" is a number."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class CommentarySection(_Section):
    """What is learned: ``kind`` with its ``parameters`` (a table's rows are the training examples and not given).

    ``mixture_weights`` and ``support_weights`` are learned in Python only: a recipe opens one dataset, whose examples
    it cannot tell apart by their sources, and deals no episodes.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,94}$")]
    kind: str
    parameters: dict[str, Any] = {}
    description: Annotated[str, Field(max_length=4096)] = ""
    licence: str | None = None

    @field_validator("kind")
    @classmethod
    def _can_be_learned(cls, kind: str) -> str:
        if kind in _IN_PYTHON:
            raise PydanticCustomError("kind", f"{kind} cannot be learned from a recipe, {_IN_PYTHON[kind]}")
        return kind


class CorruptionSection(_Section):
    """Labels made wrong on purpose, for experiments: a ``share`` of the training labels by a model of ``noise``."""

    noise: LabelNoise
    share: Annotated[float, Field(ge=0, le=1)]
    seed: int = 0


class DataSection(_Section):
    """The dataset, and how many of its examples train, teach (``validation``) and stay out for ``evaluate``.

    ``dataset`` is what `open_examples` opens: a Hub id, a file, a folder, ``sklearn:digits``. A relative path begins at
    the working directory (not at the recipe), ``~`` at the home directory. ``known_as`` is the Hub id under which
    others know a local copy. With ``validation_split`` the teaching examples come from that split instead.
    ``selection`` examples choose learning rates in an evaluation, ``test`` examples are reported; neither is touched by
    learning. ``imbalance`` makes the training examples long-tailed: the first class so many times as frequent as the
    last.
    """

    dataset: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None
    known_as: str | None = None
    inputs: str | None = None
    targets: str | None = None
    size: Annotated[tuple[int, int], Field(strict=False)] | None = None
    limit: Count | None = None
    train: Count
    validation: Count
    selection: Annotated[int, Field(ge=0)] = 0
    test: Annotated[int, Field(ge=0)] = 0
    validation_split: str | None = None
    seed: int = 0
    imbalance: Annotated[float, Field(ge=1)] | None = None
    corruption: CorruptionSection | None = None


class NetworkSection(_Section):
    """A student: a ``name`` from the networks' registry and its settings."""

    name: str
    settings: dict[str, Any] = {}


class InnerSection(_Section):
    """How a student trains while the commentary is learned.

    ``schedule`` ``cosine`` lets its learning rate fall to 0 over its life (all inner steps until it is replaced);
    ``augmentation`` ``crop_flip`` shifts and mirrors pictures.
    """

    optimiser: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: Positive
    settings: dict[str, Any] = {}
    steps: Count
    batch_size: Count
    schedule: Literal["constant", "cosine"] = "constant"
    augmentation: Literal["crop_flip"] | None = None
    reduction: Literal["sum", "mean", "weight_mean"] = "weight_mean"


class EarlyStopSection(_Section):
    """Stop when the mean outer loss of the last ``patience`` steps is not ``least`` below that of those before."""

    patience: Count
    least: float = 1e-4


class OuterSection(_Section):
    """How the commentary is updated; ``average_last`` is the share of outer steps whose mean is kept.

    ``optimiser`` is any of torch.optim by its name. ``schedule`` ``cosine`` lets the learning rate fall to 0 over all
    steps; any other is a class of torch.optim.lr_scheduler with ``schedule_settings``. ``clip_norm`` bounds the
    hypergradient.
    """

    optimiser: str = "adam"
    learning_rate: Positive
    settings: dict[str, Any] = {}
    schedule: str = "constant"
    schedule_settings: dict[str, Any] = {}
    clip_norm: Positive | None = None
    steps: Count
    batch_size: Count | None = None
    average_last: Annotated[float, Field(ge=0, le=1)] = 0.25
    early_stop: EarlyStopSection | None = None


class InverseSection(_Section):
    """How the inverse Hessian is applied."""

    name: Literal["neumann", "conjugate_gradient", "identity"]
    settings: dict[str, Any] = {}


class MethodSection(_Section):
    """``unrolled`` or ``implicit`` with the settings of `Unrolled` or `Implicit`."""

    name: Literal["unrolled", "implicit"]
    settings: dict[str, Any] = {}
    inverse: InverseSection | None = None


class EvaluationSection(_Section):
    """How ``evaluate`` measures: new students, the same budget and the same grid for every arm.

    ``learning_runs`` counts commentaries, each learned on a split of its own; ``competitors`` adds the plain rivals of
    the kind to the controls (all, or those that are named). ``optimiser`` and ``schedule`` (``cosine`` lets the rate
    fall to 0) are the students', ``tuning_seeds`` the runs that choose each learning rate, ``points`` how
    often a run is measured.
    """

    students: Annotated[Array[NetworkSection], Field(min_length=1)]
    steps: Count
    batch_size: Count
    learning_rates: Annotated[Array[Positive], Field(min_length=1)]
    optimiser: Literal["sgd", "adam"] = "sgd"
    schedule: Literal["constant", "cosine"] = "constant"
    seeds: Annotated[int, Field(ge=2)] = 10
    tuning_seeds: Count = 3
    points: Count = 25
    learning_runs: Count = 1
    competitors: bool | Array[str] = True
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None


class Recipe(_Section):
    """Learning (and, where given, its evaluation) from beginning to end.

    ``runs`` > 1 learns several times, each time with a seed of its own and in turn one of the students, and keeps the
    mean; the artefact then holds mean and variance of example weights over seeds and architectures.
    """

    commentary: CommentarySection
    data: DataSection
    students: Annotated[Array[NetworkSection], Field(min_length=1)]
    method: MethodSection
    inner: InnerSection
    outer: OuterSection
    population: dict[str, int] = {}
    runs: Count = 1
    seed: int = 0
    evaluation: EvaluationSection | None = None

    @classmethod
    def from_toml(cls, text: str, *, where: str = "recipe.toml") -> Recipe:
        """Read a recipe; raises `RecipeError` naming the first wrong place and what it should be.

        An unknown name comes before all else: where one is misspelt, another one is missing.
        """
        try:
            return cls.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"{where} is not TOML: {error}", where=where) from None
        except ValidationError as error:
            first = min(error.errors(include_url=False), key=lambda one: one["type"] != _UNKNOWN)
            place = ".".join(str(part) for part in first["loc"]) or "recipe"
            said = _unknown(first["loc"]) if first["type"] == _UNKNOWN else first["msg"]
            raise RecipeError(f"{where}: {place}: {said}", where=where, place=place) from None

    def learning_digest(self) -> str:
        """32 hex digits over all that learning depends on: not names, words about it, or the evaluation."""
        said = self.model_dump(
            mode="json",
            exclude={"commentary": {"name", "description", "licence"}, "data": {"known_as"}, "evaluation": True},
        )
        return digest_of(json.dumps(said, sort_keys=True))

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe from a file in UTF-8; raises as `from_toml`, and where there is no such file."""
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}", where=str(path)) from None
        return cls.from_toml(text, where=str(path))


def _unknown(place: tuple[int | str, ...]) -> str:
    """What to say of a name that its section doesn't have."""
    section: type[_Section] = Recipe
    *above, name = place
    for part in above:
        if isinstance(part, str):  # a number is a place in an array
            inside = section.model_fields[part].annotation
            section = next(
                one for one in (inside, *get_args(inside)) if isinstance(one, type) and issubclass(one, _Section)
            )
    nearest = get_close_matches(str(name), section.model_fields, n=1)
    return "there is no such name; " + (
        f"did you mean {nearest[0]}?" if nearest else f"known here are {', '.join(section.model_fields)}"
    )
