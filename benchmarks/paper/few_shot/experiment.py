"""Experiment 6: MAML on Omniglot with learned weights for the support examples, on alphabets that nobody trained on."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from benchmarks.paper.few_shot.certificate import certificate, student_of
from benchmarks.paper.section import WORDS, Section, Table, percent
from benchmarks.paper.work import Work
from commentary_hub import artefact, evidence, insight
from commentary_hub.commentaries import Batch, Commentary, Stage, SupportWeights
from commentary_hub.data import Examples, open_examples
from commentary_hub.evidence import auroc
from commentary_hub.learning import (
    SGD,
    Adaptation,
    Episodes,
    FewShotLearned,
    Student,
    check_new_classes,
    learn_episodes,
)
from commentary_hub.manifest import Evidence, judge
from commentary_hub.networks import Conv4, network
from commentary_hub.recipes import CheckpointFile, save

OURS = "commentary"
NOTES = {
    "none": "the same MAML begun, then as many steps without weights",
    "shuffled": "our MAML, each episode's weights permuted over its support",
    "random": "our MAML, weights redrawn from the episode's own with replacement",
    "uniform": "our MAML without weights",
    "reused": "the MAML of none, adapted under our weights, which it never met",
}
TEST_SEED = 1_000_000
COLUMNS = ("wrong", "adapted with", "query accuracy, %", "commentary minus this", "by the rule")


def run(work: Work) -> Section:
    """Meta-learn with and without weights, a run for each split of the alphabets; measure both on new alphabets."""
    data = omniglot(work.plan.settings)
    runs = [partial(_run, work, data, number) for number in range(len(work.plan.settings["split"]))]
    work.at_once(runs)
    found = [one() for one in runs]
    stored = artefact.load(work.folder / "artefacts" / "support-weights-0")
    proof = certificate(stored, found, work.plan.settings, NOTES, criterion=work.plan.criterion, device=work.device)
    work.put_card(stored, proof, {"comparison.png": insight.comparison(proof)})
    return _section(work, found, proof)


def _run(work: Work, data: Mapping[str, Examples], number: int) -> dict[str, Any]:
    settings = work.plan.settings
    parts = {name: _of_alphabets(data, names) for name, names in settings["split"][number].items()}
    ways = {"ways": settings["ways"], "shots": settings["shots"]}
    check_new_classes(**{name: Episodes(part, **ways, queries=1) for name, part in parts.items()})
    return work.kept(f"run {number}", [dict(settings), number], partial(_measured_run, work, parts, number))


class Rearranged(Commentary):
    """A control: the weights of another commentary, permuted over the support set, or redrawn with replacement."""

    kind: ClassVar[str] = "rearranged_weights"
    stage: ClassVar[Stage] = Stage.WEIGHT

    def __init__(self, weights: Commentary, *, replacement: bool) -> None:
        super().__init__()
        self.weights, self.replacement = weights, replacement

    def forward(self, batch: Batch, progress: torch.Tensor | float) -> Batch:
        """The same rearrangement in every step of an episode: it follows the content, as the episode's seed does."""
        weights = self.weights(replace(batch, weights=None), progress).weights
        assert weights is not None
        size = len(weights)
        generator = torch.Generator().manual_seed(int(batch.inputs.double().sum() * 1e3) % 2**31)
        order = (
            torch.randint(size, (size,), generator=generator)
            if self.replacement
            else torch.randperm(size, generator=generator)
        )
        return batch.weighted(weights[order])

    def config(self) -> dict[str, Any]:
        """Never stored."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Rearranged:
        """Never loaded."""
        raise NotImplementedError


def omniglot(settings: Mapping[str, Any]) -> dict[str, Examples]:
    """The characters of each alphabet: ink is 1, paper 0; a class is a character of an alphabet."""
    found: dict[str, Examples] = {}
    for part in settings["parts"]:
        opened = partial(open_examples, settings["dataset"], split=part, size=tuple(settings["size"]))
        alphabets, characters = opened(targets="alphabet"), opened(targets="character")
        assert alphabets.classes is not None
        for label, name in enumerate(alphabets.classes):
            if name in found:  # some alphabets are in both sets
                continue
            rows = alphabets.targets == label
            own = characters.subset(rows)
            found[name] = replace(own, inputs=1 - own.inputs, classes=None).with_targets(own.targets + 100 * len(found))
    return found


def _of_alphabets(data: Mapping[str, Examples], names: list[str]) -> Examples:
    return Examples.concatenated(*(data[name] for name in names))


def _taught(work: Work, parts: Mapping[str, Examples], number: int) -> dict[str, FewShotLearned]:
    """Plain MAML first; from there two runs of equal length go on: plain MAML, and MAML with weights."""
    settings = work.plan.settings
    fresh = partial(network, settings["student"]["name"], **settings["student"]["settings"], classes=settings["ways"])
    begun = _learned(work, parts, number, "begun", fresh, steps=settings["first_steps"])
    go_on = partial(_learned, work, parts, number, build=partial(copy.deepcopy, begun.student))
    weights = _weights(begun.student, settings, number)
    found = {"none": go_on("none", steps=settings["more_steps"])}
    found[OURS] = go_on(OURS, steps=settings["more_steps"], weights=weights)
    says = "Weights for support examples of new characters, learned with MAML on episodes with wrong labels."
    save(work.folder / "artefacts" / f"support-weights-{number}", found[OURS].learned, name="omniglot-support-weights",
         description=says)  # fmt: skip
    return found


def _weights(student: nn.Module, settings: Mapping[str, Any], number: int) -> SupportWeights:
    """Weights whose encoder starts as the student's own features."""
    torch.manual_seed(number)
    shape = settings["student"]["settings"]
    weights = SupportWeights(settings["student"]["name"], {**shape, "classes": shape["width"]})
    encoder = weights.encoder.module
    assert isinstance(encoder, Conv4)
    assert isinstance(student, Conv4)
    encoder.features.load_state_dict(student.features.state_dict())
    nn.init.eye_(encoder.head.weight)
    nn.init.zeros_(encoder.head.bias)
    return weights


def _learned(
    work: Work,
    parts: Mapping[str, Examples],
    number: int,
    arm: str,
    build: Callable[[], nn.Module],
    *,
    steps: int,
    weights: SupportWeights | None = None,
) -> FewShotLearned:
    """One meta-learning run; it goes on from its checkpoint, and one that has ended is read from it at once."""
    settings = work.plan.settings
    episodes = partial(Episodes, ways=settings["ways"], shots=settings["shots"], queries=settings["queries"])
    said = repr((arm, number, steps, sorted(dict(settings).items())))
    checkpoints = CheckpointFile(work.folder / "learned" / evidence.digest_of(said))
    work.say(f"run {number}: {arm}")
    return learn_episodes(
        Student(settings["student"]["name"], build),
        train=[episodes(parts["train"], wrong=wrong) for wrong in settings["taught"]],
        validation=episodes(parts["validation"], wrong=settings["validated"]),
        adaptation=Adaptation(SGD(lr=settings["inner_rate"]), steps=settings["inner_steps"]),
        outer_steps=steps,
        commentary=() if weights is None else weights,
        tasks=settings["tasks"],
        outer=partial(_optimiser, settings["outer_rates"], weights),
        validate_every=settings["validate_every"],
        validation_tasks=settings["validation_tasks"],
        seed=number,
        device=work.device,
        sink=checkpoints,
        resume=checkpoints.read(),
    )


def _optimiser(
    rates: Mapping[str, float], weights: SupportWeights | None, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Adam with rates for the student's initialisation, the weights' encoder, and their score."""
    rate_of = {} if weights is None else {id(p): rates["score"] for p in weights.score.parameters()}
    rate_of |= {} if weights is None else {id(p): rates["encoder"] for p in weights.encoder.parameters()}
    return torch.optim.Adam([{"params": [p], "lr": rate_of.get(id(p), rates["student"])} for p in parameters])


def _measured_run(work: Work, parts: Mapping[str, Examples], number: int) -> dict[str, Any]:
    return _measured(work.plan.settings, parts["test"], _taught(work, parts, number))


def _measured(settings: Mapping[str, Any], test: Examples, learned: Mapping[str, FewShotLearned]) -> dict[str, Any]:
    """Accuracies {wrong: {arm: [episodes]}} on the same episodes for every arm, and how well weights find mistakes."""
    began = time.monotonic()
    ours, plain = learned[OURS], learned["none"]
    weights = ours.learned.commentary
    arms = {
        OURS: (ours, [weights]),
        "none": (plain, []),
        "shuffled": (ours, [Rearranged(weights, replacement=False)]),
        "random": (ours, [Rearranged(weights, replacement=True)]),
        "uniform": (ours, []),
        "reused": (plain, [weights]),
    }
    seeds = range(TEST_SEED, TEST_SEED + settings["episodes"])
    accuracies, detected = {}, {}
    for wrong in settings["measured"]:
        episodes = Episodes(test, settings["ways"], settings["shots"], settings["test_queries"], wrong)
        accuracies[str(wrong)] = {
            name: student.accuracies(episodes, seeds, commentary=chosen).tolist()
            for name, (student, chosen) in arms.items()
        }
        if wrong:
            detected[str(wrong)] = float(np.mean(list(_detection(weights, episodes, seeds))))
    return {"accuracies": accuracies, "detected": detected, "seconds": time.monotonic() - began}


@torch.no_grad()
def _detection(weights: Commentary, episodes: Episodes, seeds: range) -> Iterator[float]:
    """AUROC of the weights for right labels, episode by episode."""
    for seed in seeds:
        episode = episodes.draw(seed)
        found = weights(Batch(episode.inputs, episode.targets), 0.0).weights
        assert found is not None
        yield auroc(found, ~episode.mistaken)


def _section(work: Work, found: list[dict[str, Any]], proof: Evidence) -> Section:
    settings = work.plan.settings
    deciding, rows, said = student_of(settings, settings["decides"]), [], []
    shares = {student_of(settings, wrong): f"{wrong:.0%}" for wrong in settings["measured"]}
    for one in proof.measurements:
        level, paired = percent(one.accuracy_mean, one.accuracy_ci95), one.difference_ci95
        if paired is None:
            rows.append([shares[one.student], f"**{one.control}**", level, "", ""])
            continue
        points = percent(one.difference_mean or 0.0, paired, signed=True)
        rows.append([shares[one.student], one.control, level, points, WORDS[judge(paired)]])
        if one.student == deciding and one.control in settings["against"]:
            said.append(f"{one.control} {points}")
    detected = {w: np.mean([one["detected"][w] for one in found]) for w in found[0]["detected"]}
    says = ", ".join(f"{value:.2f} with {float(wrong):.0%} wrong" for wrong, value in detected.items())
    caption = (
        f"{settings['ways']}-way {settings['shots']}-shot, {len(found)} learning runs × alphabet splits, "
        f"{settings['episodes']} episodes an arm and share of wrong support labels"
    )
    return work.section(
        outcome=proof.outcome,
        verdict=f"Commentary minus control with {settings['decides']:.0%} wrong support labels, points: "
        f"{', '.join(said)}.",
        tables=[
            Table(caption, ("wrong", "adapted with", "query accuracy, %", "commentary minus this", "by the rule"), rows)
        ],
        notes=[
            "Controls: " + "; ".join(f"{name}: {note}" for name, note in NOTES.items()) + ".",
            f"AUROC of the weights for right labels on new alphabets, mean over episodes: {says}.",
        ],
        remedies=settings.get("remedies", ()),
    )
