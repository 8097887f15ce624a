"""Running a recipe: from the words to an artefact on disk, with checkpoints on the way."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from commentary_hub.commentaries import compose, cross_entropy
from commentary_hub.errors import InputError
from commentary_hub.learning import (
    Learned,
    Population,
    Progress,
    Training,
    draw_batches,
    hypergradient_error,
    learn,
)
from commentary_hub.manifest import Manifest
from commentary_hub.recipes._build import (
    Parts,
    build_commentary,
    build_inner,
    build_method,
    build_outer,
    build_population,
    build_student,
    open_parts,
)
from commentary_hub.recipes._checkpoints import CheckpointFile
from commentary_hub.recipes._save import save
from commentary_hub.recipes._schema import Recipe

CHECK_STEPS = 10


def run(
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    recipe_toml: str | None = None,
    progress: bool | Progress = False,
    resume: bool = True,
    checkpoint_every: int = 10,
    device: str | torch.device = "cpu",
) -> Manifest:
    """Learn what ``recipe`` describes and save it as an artefact in ``folder``; returns its manifest.

    The last checkpoint lies in ``folder`` until the artefact does; with ``resume`` a run that was interrupted goes on
    from it. ``recipe_toml`` is the recipe's text, kept in the artefact. Raises `RecipeError` before anything runs, and
    what `learn` and `save` raise.
    """
    checkpoints = CheckpointFile(Path(folder))
    if not resume:
        checkpoints.remove()
    parts = open_parts(recipe.data)
    learned = learn_recipe(recipe, parts, progress=progress, sink=checkpoints, every=checkpoint_every, device=device)
    said = recipe.commentary
    manifest = save(
        folder, learned, name=said.name, description=said.description, licence=said.licence, recipe_toml=recipe_toml
    )
    checkpoints.remove()
    return manifest


def learn_recipe(
    recipe: Recipe,
    parts: Parts,
    *,
    progress: bool | Progress = False,
    sink: CheckpointFile | None = None,
    every: int = 10,
    seed: int | None = None,
    device: str | torch.device = "cpu",
) -> Learned:
    """`learn` with a recipe's settings on ``parts``; ``seed`` replaces the recipe's (another learning run)."""
    chosen = recipe.seed if seed is None else seed
    inner, outer = recipe.inner, recipe.outer
    torch.manual_seed(chosen)  # a commentary that is a network has an initialisation too
    return learn(
        build_commentary(recipe, parts.train),
        [build_student(one) for one in recipe.students],
        train=parts.train,
        validation=parts.validation,
        method=build_method(recipe.method),
        inner=build_inner(inner),
        inner_steps=inner.steps,
        batch_size=inner.batch_size,
        reduction=inner.reduction,
        outer=build_outer(outer),
        outer_schedule=partial(CosineAnnealingLR, T_max=outer.steps) if outer.schedule == "cosine" else None,
        clip_norm=outer.clip_norm,
        outer_steps=outer.steps,
        outer_batch_size=outer.batch_size,
        average_last=outer.average_last,
        population=build_population(recipe),
        seed=chosen,
        device=device,
        progress=progress,
        sink=sink,
        sink_every=every,
        resume=None if sink is None else sink.read(),
    )


def check(recipe: Recipe, *, steps: int = CHECK_STEPS) -> float:
    """How wrong the recipe's hypergradient is: its relative error against the exact float64 one.

    Measured with the recipe's first student, freshly initialised, over at most ``steps`` inner steps. For an exact
    method this is the share of rounding; for an implicit or truncated one mostly bias.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}: check at least one inner step")
    parts = open_parts(recipe.data)
    count = min(steps, recipe.inner.steps)
    size = min(recipe.inner.batch_size, len(parts.train))
    torch.manual_seed(recipe.seed)
    commentary = build_commentary(recipe, parts.train)
    population: Population = build_population(recipe)
    problem = Training(
        student=build_student(recipe.students[0]).build(),
        commentaries=compose([commentary]),
        inputs=parts.train.inputs,
        targets=parts.train.targets,
        batches=draw_batches(len(parts.train), size, count, seed=recipe.seed),
        validation_inputs=parts.validation.inputs,
        validation_targets=parts.validation.targets,
        inner=build_inner(recipe.inner),
        reduction=recipe.inner.reduction,
        criterion=cross_entropy,
        domain=population.warm_up + recipe.inner.steps * population.fresh_every,
        seed=recipe.seed,
    )
    return hypergradient_error(build_method(recipe.method), problem, problem.start())
