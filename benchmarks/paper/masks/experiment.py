"""Experiment 2: where to look. Masks learned with one architecture, laid over the pictures of students of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor

from benchmarks.paper.figures import draw_curves, panels
from benchmarks.paper.masks.data import BUILDERS
from benchmarks.paper.plan import Case
from benchmarks.paper.section import Section, Table, comparison, decided, percent
from benchmarks.paper.work import Work
from commentary_hub import evidence, insight, recipes
from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import AttentionMask
from commentary_hub.data import Examples, open_examples
from commentary_hub.evidence import COMMENTARY, Budget, NetworkStudent, Trial, TunedAdam

SEEN_SWAPPED = ("equal_data", "fixed", "joint", COMMENTARY)
SHOWN = ("none", "equal_data", "fixed", "joint", COMMENTARY)


@dataclass(frozen=True)
class Scene:
    """A case's parts, and what is known of its test pictures: the same objects in other surroundings, and where."""

    parts: recipes.Parts
    swapped: Tensor
    middles: Tensor

    @classmethod
    def of(cls, work: Work, case: Case, parts: recipes.Parts) -> Scene:
        data = case.recipe.data
        plain, swapped = (
            open_examples(data.dataset, config=config, inputs=data.inputs, targets=data.targets)
            for config in ("plain", "swapped")
        )
        place = {key.tobytes(): row for row, key in enumerate(plain.keys)}
        assert parts.test is not None
        rows = [place[key.tobytes()] for key in parts.test.keys]
        table = pq.read_table(work.datasets / data.dataset / "plain" / "train.parquet", columns=["row", "column"])
        middles = torch.tensor([table["row"].to_pylist(), table["column"].to_pylist()]).T[rows]
        return cls(parts, swapped.inputs[rows], middles)

    @property
    def test(self) -> Examples:
        """The test examples."""
        assert self.parts.test is not None
        return self.parts.test


def run(work: Work) -> Section:
    """Learn, evaluate, measure where the masks look and what becomes of answers when the surroundings are swapped."""
    settings = work.plan.settings
    for case in work.plan.cases:
        work.dataset(case.recipe.data.dataset, BUILDERS[case.recipe.data.dataset])
    tables, looks, decisions = [], [], {}
    for case in work.plan.cases:
        stored = work.evaluated(case)
        assert stored.evidence is not None
        runs = [(one, Scene.of(work, case, parts)) for one, parts in work.learning_runs(case)]
        found = [
            work.kept(f"{case.name}: centres", one.tensor_digest, lambda s=one, c=other: centres(s, c))
            for one, other in runs
        ]
        looks += [[case.name, str(number), *(one[name] for name in CENTRES)] for number, one in enumerate(found, 1)]
        scene, student = runs[0][1], _student(case)
        tables.append(comparison(case.name, stored.evidence))
        answers = work.kept(
            f"{case.name}: swapped surroundings",
            [stored.tensor_digest, case.toml, settings["swapped_seeds"]],
            lambda s=stored, c=scene, k=case: swapped(s, c, k, settings["swapped_seeds"]),
        )
        tables.append(Table(f"{case.name}: the same objects in other surroundings, %", SWAPPED, answers["rows"]))
        decisions[case.name] = decided(stored.evidence, student, settings["against"])
        short = case.recipe.commentary.name
        picture, says = insight.pictures(stored, scene.test)["masks.png"]
        work.picture(f"{short}-masks", picture, f"{case.name}: {says}")
        caption = f"{case.name}: test accuracy of new students while they train, mean over seeds (first split)."
        figure, (axes,) = panels(1)
        draw_curves(axes, stored.evidence, student, SHOWN)
        work.figure(f"{short}-curves", figure, caption)
    work.card(next(case for case in work.plan.cases if case.name == settings["case"]))
    outcome, verdict = decisions[settings["case"]]
    tables.insert(
        0, Table("Where the masks look, on pictures that nobody trained on", ["case", "run", *CENTRES], looks)
    )
    others = [f"{name}: {said}" for name, (_, said) in decisions.items() if name != settings["case"]]
    return work.section(
        outcome=outcome,
        verdict=verdict,
        tables=tables,
        notes=[*settings.get("notes", ()), *others],
        remedies=settings.get("remedies", ()),
    )


def _student(case: Case) -> str:
    """The architecture that is tested, which taught nothing."""
    assert case.recipe.evaluation is not None
    return case.recipe.evaluation.students[0].name


CENTRES = (
    "median distance to the object's middle, pixels",
    "within a quarter of its side",
    "untrained network",
    "middle of the picture",
)
SWAPPED = ("trained with", "accuracy", "accuracy, swapped", "answers that stay")


@torch.no_grad()
def centres(stored: StoredCommentary, scene: Scene) -> dict[str, Any]:
    """How far the masks' centres are from the objects' middles."""
    learned = stored.commentary
    assert isinstance(learned, AttentionMask)
    torch.manual_seed(0)
    inputs = scene.test.inputs
    reach = {"digits": 14, "cifar10": 20}[stored.manifest.dataset.identity.id.rpartition("-")[2]] / 4

    def away(found: Tensor) -> Tensor:
        return (found - scene.middles).norm(dim=1)

    own = away(_centre(learned, inputs))
    middle = (torch.tensor(inputs.shape[2:]) - 1) / 2
    untrained = away(_centre(AttentionMask.from_config(learned.config()), inputs))
    values = (
        f"**{own.median():.2f}**",
        percent(float((own <= reach).float().mean())) + " %",
        f"{untrained.median():.2f}",
        f"{away(middle.expand(len(inputs), 2)).median():.2f}",
    )
    return dict(zip(CENTRES, values, strict=True))


def _centre(attention: AttentionMask, inputs: Tensor) -> Tensor:
    return torch.cat([attention.centre(part) for part in inputs.split(250)])


def swapped(stored: StoredCommentary, scene: Scene, case: Case, seeds: int) -> dict[str, Any]:
    """Accuracy on the test objects in their own and in other surroundings, and the share of answers that stay."""
    section, parts = case.recipe.evaluation, scene.parts
    assert section is not None
    assert parts.selection is not None
    assert stored.evidence is not None
    trial = Trial(stored, parts.train, parts.validation, parts.selection, scene.test)
    arms = {arm.name: arm for arm in evidence.arms_of(trial, share=0.2, competitors=section.competitors)}
    one = section.students[0]
    results = stored.evidence.protocol.parameters["trials"][0]["results"]
    rates = {result["arm"]: result["learning_rate"] for result in results if result["student"] == one.name}
    rows = []
    for name in SEEN_SWAPPED:
        trained = evidence.train(
            NetworkStudent(one.name, one.name, one.settings),
            arms[name],
            seeds=range(2000, 2000 + seeds),
            rates=[rates[name]],
            budget=Budget(section.steps, section.batch_size, TunedAdam(), section.schedule),
            classes=scene.test.class_count,
            probes={"own": (scene.test.inputs, scene.test.targets), "swapped": (scene.swapped, scene.test.targets)},
            at=(section.steps,),
        )
        answers = [trained.outputs[probe].argmax(-1) for probe in ("own", "swapped")]
        right = [float((answer == scene.test.targets).float().mean()) for answer in answers]
        rows.append([name, *map(percent, right), percent(float((answers[0] == answers[1]).float().mean()))])
    return {"rows": rows}
