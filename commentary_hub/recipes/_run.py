"""Running a recipe: from the words to an artefact on disk, with checkpoints on the way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from commentary_hub.commentaries import compose, cross_entropy
from commentary_hub.errors import InputError
from commentary_hub.learning import (
    Learned,
    Population,
    Progress,
    Training,
    combine,
    draw_batches,
    find_device,
    hypergradient_error,
    learn,
)
from commentary_hub.manifest import Manifest
from commentary_hub.recipes._build import (
    Parts,
    build_augmentation,
    build_commentary,
    build_early_stop,
    build_inner,
    build_method,
    build_outer,
    build_outer_schedule,
    build_population,
    build_student,
    open_parts,
)
from commentary_hub.recipes._checkpoints import CheckpointFile
from commentary_hub.recipes._save import save, warn_of_name
from commentary_hub.recipes._schema import Recipe

CHECK_STEPS = 10


def run(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    recipe_toml: str | None = None,
    progress: bool | Progress | Sequence[bool | Progress] = False,
    resume: bool = True,
    checkpoint_every: int = 10,
    device: str | torch.device = "cpu",
) -> Manifest:
    """Learn what ``recipe`` describes and save it as an artefact in ``folder``; returns its manifest.

    The last checkpoint of each run lies in ``folder`` until the artefact does; with ``resume`` what was interrupted
    goes on from there, where this recipe wrote it. ``recipe_toml`` is the recipe's text, kept in the artefact.
    ``progress`` as in `learn`; ``True`` also counts the examples that are read. An artefact in ``folder`` is
    replaced. Raises `InputError` (no such device, no folder, another recipe's checkpoint) and `RecipeError` before
    anything runs, and what `learn` and `save` raise.
    """
    where = find_device(device)
    _check_folder(Path(folder))
    digest = recipe.learning_digest()
    files = [CheckpointFile(folder, run=number, recipe=digest) for number in range(recipe.runs)]
    for file in files:
        if resume:
            file.check()
        else:
            file.remove()
    bar = True in progress if isinstance(progress, Sequence) else progress is True
    parts = open_parts(recipe.data, progress=bar)
    warn_of_name(parts.train.identity.id)
    learned = learn_recipe(recipe, parts, progress=progress, sinks=files, every=checkpoint_every, device=where)
    said = recipe.commentary
    manifest = save(
        folder, learned, name=said.name, description=said.description, licence=said.licence, recipe_toml=recipe_toml
    )
    for file in files:
        file.remove()
    return manifest


def _check_folder(folder: Path) -> None:
    """Raise `InputError` where an artefact cannot lie."""
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise InputError(f"{part} is a file, not a folder: choose another --out for the artefact", path=part)


def learn_recipe(
    recipe: Recipe,
    parts: Parts,
    *,
    progress: bool | Progress | Sequence[bool | Progress] = False,
    sinks: Sequence[CheckpointFile] | None = None,
    every: int = 10,
    seed: int | None = None,
    device: str | torch.device = "cpu",
) -> Learned:
    """All runs of a recipe on ``parts``, combined; ``seed`` replaces the recipe's. ``sinks`` are one for each run."""
    chosen = recipe.seed if seed is None else seed
    students = [build_student(one) for one in recipe.students]
    outer = recipe.outer
    learned = []
    for number in range(recipe.runs):
        own = chosen + 1000 * number
        taught = students if recipe.runs == 1 else [students[number % len(students)]]
        sink = None if sinks is None else sinks[number]
        torch.manual_seed(own)  # a commentary that is a network has an initialisation too
        learned.append(
            learn(
                build_commentary(recipe, parts.train),
                taught,
                train=parts.train,
                validation=parts.validation,
                method=build_method(recipe.method),
                inner=build_inner(recipe),
                inner_steps=recipe.inner.steps,
                batch_size=recipe.inner.batch_size,
                reduction=recipe.inner.reduction,
                augmentation=build_augmentation(recipe.inner),
                outer=build_outer(outer),
                outer_schedule=build_outer_schedule(outer),
                clip_norm=outer.clip_norm,
                outer_steps=outer.steps,
                outer_batch_size=outer.batch_size,
                average_last=outer.average_last,
                early_stop=build_early_stop(outer),
                population=build_population(recipe),
                seed=own,
                device=device,
                progress=progress,
                sink=sink,
                sink_every=every,
                resume=None if sink is None else sink.read(),
            )
        )
    return combine(learned)


def check(recipe: Recipe, *, steps: int = CHECK_STEPS, device: str | torch.device = "cpu") -> float:
    """How wrong the recipe's hypergradient is: its relative error against the exact float64 one.

    Measured with the recipe's first student, freshly initialised, over at most ``steps`` inner steps on ``device``. For
    an exact method this is the share of rounding; for an implicit or truncated one mostly bias.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}: check at least one inner step")
    where = find_device(device)
    parts = open_parts(recipe.data)
    count = min(steps, recipe.inner.steps)
    size = min(recipe.inner.batch_size, len(parts.train))
    torch.manual_seed(recipe.seed)
    commentary = build_commentary(recipe, parts.train).to(where)
    population: Population = build_population(recipe)
    problem = Training(
        student=build_student(recipe.students[0]).build().to(where),
        commentaries=compose([commentary]),
        inputs=parts.train.inputs.to(where),
        targets=parts.train.targets.to(where),
        batches=draw_batches(len(parts.train), size, count, seed=recipe.seed).to(where),
        validation_inputs=parts.validation.inputs.to(where),
        validation_targets=parts.validation.targets.to(where),
        inner=build_inner(recipe),
        reduction=recipe.inner.reduction,
        criterion=cross_entropy,
        domain=population.warm_up + recipe.inner.steps * population.fresh_every,
        seed=recipe.seed,
        augmentation=build_augmentation(recipe.inner),
    )
    return hypergradient_error(build_method(recipe.method), problem, problem.start())
