"""Evaluating and verifying from a recipe: the splits come from its words, not from files that could have changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from commentary_hub import artefact, evidence
from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Stage
from commentary_hub.data import Examples
from commentary_hub.errors import RecipeError
from commentary_hub.evidence import (
    Comparison,
    NetworkStudent,
    PieceFolder,
    Progress,
    Settings,
    Trial,
    TunedAdam,
    TunedSGD,
)
from commentary_hub.learning import find_device
from commentary_hub.manifest import MANIFEST_NAME, RECIPE_NAME, Evidence, Verification
from commentary_hub.recipes._build import Parts, open_parts
from commentary_hub.recipes._run import run
from commentary_hub.recipes._schema import EvaluationSection, NetworkSection, Recipe


def evaluate(
    stored: StoredCommentary,
    recipe: Recipe | None = None,
    *,
    students: Sequence[str] | None = None,
    seeds: int | None = None,
    learning_runs: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    keep: str | os.PathLike[str] | None = None,
) -> Evidence:
    """Measure whether ``stored`` helps new students, as the ``[evaluation]`` of its recipe says.

    ``recipe`` defaults to the one in the artefact. ``students`` (names from the recipe), ``seeds`` and
    ``learning_runs`` replace what it says. Every learning run after the first learns the commentary again, on another
    split, with other corruption and another seed, so that the intervals cover learning, split and student. What is
    finished is kept in the folder ``keep`` (commentaries, checkpoints, runs): the same call goes on from there.

    Raises `InputError` for a ``device`` that is not there, `RecipeError` where the recipe has no evaluation or its
    splits no selection and test examples, and what `commentary_hub.evidence.evaluate` raises. Cost:
    ``learning_runs`` − 1 learning runs and the comparisons.
    """
    where = find_device(device)
    chosen = recipe or recipe_of(stored)
    section = _section(chosen)
    if seeds is not None:
        section = section.model_copy(update={"seeds": seeds})
    runs = learning_runs or section.learning_runs
    named = [_student(one) for one in _students(chosen, section, students)]
    settings = _settings(section)
    with _kept(keep) as folder:
        pieces = PieceFolder(folder)
        trials = []
        for number in range(runs):
            if progress is not None and number:
                progress(number - 1, runs - 1, f"learning run {number + 1} of {runs}")
            trials.append(_trial(stored, chosen, number, named, settings, folder, where))
        return evidence.evaluate(
            trials,
            named,
            settings,
            data=chosen.data.model_dump(mode="json", exclude_none=True),
            device=where,
            progress=progress,
            pieces=pieces,
        )


def measure_trial(
    recipe: Recipe,
    number: int,
    *,
    stored: StoredCommentary | None = None,
    keep: str | os.PathLike[str],
    device: str | torch.device = "cpu",
) -> Comparison:
    """Trial ``number`` of `evaluate`, by itself: learned (but for trial 0, which is of ``stored``) and measured.

    It is kept in ``keep``, where `evaluate` finds it: so the trials of one evaluation can run in several processes.
    Raises what `evaluate` raises. Cost: one learning run and one comparison.
    """
    section = _section(recipe)
    named = [_student(one) for one in section.students]
    settings = _settings(section)
    trial = _trial(stored, recipe, number, named, settings, Path(keep), device)
    arms = evidence.arms_of(trial, share=settings.trusted_share, competitors=settings.competitors)
    return evidence.run_trial(trial, arms, named, settings, number, device=device, pieces=PieceFolder(keep))


def verify(
    stored: StoredCommentary,
    recipe: Recipe | None = None,
    *,
    account: str,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    keep: str | os.PathLike[str] | None = None,
) -> Verification:
    """Run the recorded evaluation of ``stored`` again, from the artefact and the dataset alone.

    ``keep`` as in `evaluate`. Raises `InputError` for a ``device`` that is not there, and what
    `commentary_hub.evidence.verify` raises. Cost: one trial of the evaluation.
    """
    where = find_device(device)
    evidence.check_repeatable(stored)
    parts = open_parts((recipe or recipe_of(stored)).data)
    selection, test = _measured(parts)
    with _kept(keep) as folder:
        return evidence.verify(
            stored,
            train=parts.train,
            trusted=parts.validation,
            selection=selection,
            test=test,
            account=account,
            device=where,
            progress=progress,
            pieces=PieceFolder(folder),
        )


def recipe_of(stored: StoredCommentary) -> Recipe:
    """The recipe that lies in the artefact; raises `RecipeError` where there is none."""
    path = stored.folder / RECIPE_NAME
    if not path.is_file():
        raise RecipeError(
            f"{stored.manifest.name} carries no {RECIPE_NAME}: give the recipe that says how its data is split",
            where=str(path),
        )
    return Recipe.read(path)


def _section(recipe: Recipe) -> EvaluationSection:
    if recipe.evaluation is None:
        raise RecipeError("the recipe has no [evaluation]: say which students, steps, batch_size and learning_rates")
    return recipe.evaluation


def _students(recipe: Recipe, section: EvaluationSection, names: Sequence[str] | None) -> list[NetworkSection]:
    if names is None:
        return list(section.students)
    known = {one.name: one for one in (*recipe.students, *section.students)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise RecipeError(f"the recipe knows no student {', '.join(unknown)}: it has {', '.join(sorted(known))}")
    return [known[name] for name in names]


def _student(section: NetworkSection) -> NetworkStudent:
    return NetworkStudent(section.name, section.name, section.settings)


def _settings(section: EvaluationSection) -> Settings:
    settings = Settings(
        steps=section.steps,
        batch_size=section.batch_size,
        learning_rates=section.learning_rates,
        seeds=section.seeds,
        optimiser=TunedAdam() if section.optimiser == "adam" else TunedSGD(),
        schedule=section.schedule,
        tuning_seeds=section.tuning_seeds,
        points=section.points,
        competitors=section.competitors,
    )
    return settings if section.target_accuracy is None else replace(settings, target_accuracy=section.target_accuracy)


def _trial(
    stored: StoredCommentary | None,
    recipe: Recipe,
    number: int,
    students: Sequence[NetworkStudent],
    settings: Settings,
    folder: Path,
    device: str | torch.device,
) -> Trial:
    """The commentary (but for number 0 one that is learned again) on its own split.

    Weights meet cleanlab's filter, which gets the first student's every chance. What would be refused when all trials
    are learned and filtered is refused before.
    """
    if number or stored is None:
        stored, parts = learning_run(recipe, number, keep=folder, device=device)
    else:
        parts = open_parts(recipe.data)
        _check_split(stored, parts)
    selection, test = _measured(parts)
    trial = Trial(stored, parts.train, parts.validation, selection, test, mistaken=parts.mistaken)
    rivals = settings.competitors
    weighs = stored.commentary.stage is Stage.WEIGHT
    everything = {"cleanlab": torch.ones(len(parts.train), dtype=torch.bool)} if weighs else {}
    evidence.check_trial(replace(trial, filters=everything), students, settings)
    if not weighs or not (rivals if isinstance(rivals, bool) else "cleanlab" in rivals):
        return trial
    filtered = evidence.cleanlab_filter(
        students[0],
        parts.train,
        parts.validation,
        selection,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rates=settings.learning_rates,
        optimiser=settings.optimiser,
        schedule=settings.schedule,
        device=device,
        pieces=PieceFolder(folder),
    )
    return replace(trial, filters={"cleanlab": filtered.keep}, scores={"cleanlab": filtered.quality})


def _check_split(stored: StoredCommentary, parts: Parts) -> None:
    """Raise `RecipeError` where nothing stored could show that test examples were trained on in learning.

    A table brings the keys of its examples along; any other kind only a fingerprint of all of them.
    """
    known = stored.manifest.dataset.fingerprint
    if stored.rows is None and known is not None and known != parts.train.fingerprint():
        raise RecipeError(
            f"the recipe's training examples are not those that {stored.manifest.name} was learned with, and which "
            "those were cannot be told: evaluate it with the recipe that it was learned by, or learn it again",
            place="data",
        )


def _measured(parts: Parts) -> tuple[Examples, Examples]:
    """The selection and the test examples, neither of which learning met."""
    if parts.selection is None or parts.test is None:
        raise RecipeError("data.selection and data.test: an evaluation needs both, examples that learning never met")
    return parts.selection, parts.test


def learning_run(
    recipe: Recipe, number: int, *, keep: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> tuple[StoredCommentary, Parts]:
    """Learning run ``number`` of an evaluation, with its examples: another split, other mistakes, another seed.

    It is kept below the folder ``keep``, and taken from there where an evaluation has learned it before. Raises what
    `run` raises. Cost: one learning run.
    """
    data = recipe.data
    corruption = data.corruption and data.corruption.model_copy(update={"seed": data.corruption.seed + number})
    other = recipe.model_copy(
        update={
            "data": data.model_copy(update={"seed": data.seed + number, "corruption": corruption}),
            "seed": recipe.seed + number,
        }
    )
    learns = other.model_copy(update={"evaluation": None})
    folder = Path(keep) / "learned" / evidence.digest_of(learns.model_dump_json())
    if not (folder / MANIFEST_NAME).is_file():
        run(learns, folder, device=device)
    return artefact.load(folder), open_parts(other.data)


@contextmanager
def _kept(keep: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder for what is finished; one that lives no longer than the call where nobody named one."""
    if keep is not None:
        yield Path(keep)
        return
    with tempfile.TemporaryDirectory(prefix="commentary-hub-") as name:
        yield Path(name)
