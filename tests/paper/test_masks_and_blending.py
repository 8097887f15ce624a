"""Experiments 2 and 3 run from their plans to their sections, on data and budgets that are small enough for a test."""

from dataclasses import replace

import pytest
import torch

from benchmarks.paper.blending import experiment as blending
from benchmarks.paper.masks import data as derived
from benchmarks.paper.masks import experiment as masks
from benchmarks.paper.plan import Case, Plan
from benchmarks.paper.run import HERE
from benchmarks.paper.work import Work, among_local_copies
from commentary_hub.data import Examples, content_keys

SMALL = {"train": 60, "validation": 30, "selection": 20, "test": 20}


def small(case, **data):
    """The case's recipe with the smallest sizes and budgets."""
    recipe = case.recipe
    evaluation = recipe.evaluation.model_copy(
        update={"steps": 2, "batch_size": 8, "learning_rates": (0.01,), "seeds": 2, "tuning_seeds": 1, "points": 2,
                "learning_runs": 1}
    )  # fmt: skip
    changed = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=SMALL | data),
            "inner": recipe.inner.model_copy(update={"steps": 2, "batch_size": 8}),
            "outer": recipe.outer.model_copy(update={"steps": 2, "batch_size": None}),
            "population": {"warm_up": 1},
            "evaluation": evaluation,
        }
    )
    return Case(case.name, changed, changed.model_dump_json())


def work_of(name, tmp_path, cases, monkeypatch):
    plan = Plan.read(HERE / name / "cpu.toml")
    monkeypatch.setenv("COMMENTARY_HUB_DATASETS", "")
    work = Work(
        name, "cpu", replace(plan, cases=tuple(cases(plan))), root=tmp_path, results=tmp_path / "results", device="cpu"
    )
    among_local_copies(work.datasets)
    return work


@pytest.fixture
def source(monkeypatch):
    def opened(name, *, split, limit):
        side, channels = (28, 1) if "mnist" in name else (32, 3)
        inputs = torch.rand(limit, channels, side, side, generator=torch.Generator().manual_seed(1))
        keys = content_keys(inputs.numpy())
        return Examples.of(inputs, torch.arange(limit) % 10, keys=keys, classes=[str(n) for n in range(10)])

    monkeypatch.setattr(derived, "open_examples", opened)
    builders = {name: lambda folder, build=build: build(folder, size=140) for name, build in derived.BUILDERS.items()}
    monkeypatch.setattr(masks, "BUILDERS", builders)


@pytest.mark.filterwarnings("ignore:.*divided by zero.*")
def test_masks_are_learned_measured_and_reported(tmp_path, monkeypatch, source):
    work = work_of("masks", tmp_path, lambda plan: [small(plan.cases[0])], monkeypatch)
    section = masks.run(work)
    looks, compared, swapped = section.tables
    assert looks.rows[0][:2] == ["coloured digits", "1"]
    assert 0 < float(looks.rows[0][2].strip("*")) < 36
    arms = {row[1].removesuffix(" (competitor)").strip("*") for row in compared.rows}
    assert {"commentary", "none", "equal_data", "shuffled", "random", "fixed", "joint"} <= arms
    assert [row[0] for row in swapped.rows] == list(masks.SEEN_SWAPPED)
    assert {name.rpartition("-")[2] for name, _ in section.figures} == {"masks.png", "curves.png"}
    assert "student cnn" in section.verdict


def test_blends_are_learned_measured_and_reported(tmp_path, monkeypatch):
    def cases(plan):
        case = small(plan.cases[0], dataset="sklearn:digits", config=None, imbalance=5.0, limit=None)
        recipe = case.recipe
        mlp = recipe.students[0].model_copy(update={"settings": {"inputs": 64, "hidden": [4], "classes": 10}})
        evaluation = recipe.evaluation.model_copy(update={"students": (mlp.model_copy(update={"name": "mlp"}),)})
        changed = recipe.model_copy(update={"students": (mlp,), "evaluation": evaluation})
        return [Case(case.name, changed, changed.model_dump_json())]

    work = work_of("blending", tmp_path, cases, monkeypatch)
    work.plan = replace(work.plan, settings={**work.plan.settings, "student": "mlp"})
    section = blending.run(work)
    arms = {row[1].removesuffix(" (competitor)").strip("*") for row in section.tables[0].rows}
    assert {"commentary", "none", "equal_data", "shuffled", "random", "mixup"} <= arms
    assert {name.rpartition("-")[2] for name, _ in section.figures} == {"ratios.png", "curves.png"}
    assert section.remedies
