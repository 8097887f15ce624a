"""Runs that are resumed end with the same bits, and no other run is taken up."""

import copy
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from commentary_hub.commentaries import ExampleWeights, WeightNetwork, cross_entropy
from commentary_hub.errors import InputError
from commentary_hub.learning import (
    SGD,
    Adam,
    EarlyStop,
    Implicit,
    Neumann,
    Population,
    Student,
    Unrolled,
)
from tests.learning.runs import LINEAR, NORMED, numbers, run, same
from tests.problems import CLASSES, blobs, smooth_student

OUTER = {
    name: getattr(torch.optim, name)
    for name in ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD")
}
SCHEDULES = {
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=6),
    "steps": lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=2, gamma=0.5),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5, threshold=0.5),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.2, total_steps=7, cycle_momentum=False),
}


def resumed_equals_whole(**options):
    """Whether a run that goes on from each of its checkpoints ends with the same bits."""
    kept = []
    whole = run(sink=lambda c: kept.append(copy.deepcopy(c)), sink_every=1, **options)
    assert [one.step for one in kept] == list(range(1, len(whole.history) + 1))
    for one in (kept[0], kept[len(kept) // 2], kept[-1]):
        if not same(numbers(run(resume=one, **options)), numbers(whole)):
            return False
    return True


@pytest.mark.parametrize("name", OUTER)
def test_any_outer_optimiser_of_torch_is_resumed_bit_by_bit(name):
    assert resumed_equals_whole(outer=lambda parameters: OUTER[name](parameters, lr=0.05), inner_steps=2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_any_outer_schedule_of_torch_is_resumed_bit_by_bit(name):
    assert resumed_equals_whole(outer_schedule=SCHEDULES[name], inner_steps=2)


@pytest.mark.parametrize("method", [Unrolled(memory="checkpoints"), Implicit(Neumann(2, 0.05), warm_start=True)])
def test_populations_of_living_students_are_resumed_bit_by_bit(method):
    assert resumed_equals_whole(
        students=[NORMED, LINEAR], population=Population(size=3, fresh_every=2, warm_up=1), inner=Adam(lr=0.05),
        inner_steps=3, method=method, outer_batch_size=7,
    )  # fmt: skip


def test_an_early_stop_is_resumed_to_the_same_end():
    outer = lambda parameters: torch.optim.SGD(parameters, lr=1e-9)
    assert resumed_equals_whole(outer_steps=50, outer=outer, early_stop=EarlyStop(patience=2, least=0.5))


def test_another_run_is_not_resumed():
    kept = []
    run(sink=kept.append, outer_steps=2)
    with pytest.raises(InputError, match="seed = 3, this one has 4"):
        run(resume=kept[-1], outer_steps=2, seed=4)
    with pytest.raises(InputError, match="train = "):
        run(resume=kept[-1], outer_steps=2, data=blobs(seed=1))
    data = blobs()
    other = replace(data, train=data.train.with_targets((data.train.targets + 1) % CLASSES))
    with pytest.raises(InputError, match="train = "):  # the same examples under other labels
        run(resume=kept[-1], outer_steps=2, data=other)
    with pytest.raises(InputError, match="validation = "):
        run(resume=kept[-1], outer_steps=2, data=replace(data, validation=data.validation.subset([0, 1, 2, 3])))
    for name, value in {
        "outer": lambda parameters: torch.optim.Adam(parameters, lr=0.1), "reduction": "mean", "clip_norm": 1.0,
        "average_last": 1.0, "outer_batch_size": 3, "inner": SGD(lr=0.5, weight_decay=0.1),
    }.items():  # fmt: skip
        with pytest.raises(InputError, match="the checkpoint is of a run with"):
            run(resume=kept[-1], outer_steps=2, **{name: value})


def test_a_run_that_began_with_other_values_is_not_resumed():
    data, kept = blobs(), []
    begun = lambda value: ExampleWeights(
        rows=len(data.train), initial=torch.full((len(data.train), 1), value), neutral=0.5
    )
    first = begun(0.5)
    whole = run(sink=lambda c: kept.append(copy.deepcopy(c)), sink_every=1, outer_steps=4, data=data, commentary=first)
    with pytest.raises(InputError, match="other values in the beginning of commentary 0"):
        run(resume=kept[0], outer_steps=4, data=data, commentary=begun(0.25))
    assert same(numbers(run(resume=kept[0], outer_steps=4, data=data, commentary=begun(0.5))), numbers(whole))
    left = begun(0.0)  # as an interrupted run in this process leaves it
    left.load_state_dict({name: kept[1].tensors[f"commentary0.{name}"] for name in left.state_dict()})
    again = run(resume=kept[1], sink=kept.append, outer_steps=4, data=data, commentary=left)
    assert same(numbers(again), numbers(whole))
    assert kept[-1].facts["initial"] == kept[0].facts["initial"]


def scaled(tensor, seed, factor=2.0):
    return factor * tensor


def sharp(outputs, targets, temperature):
    return cross_entropy(outputs / temperature, targets)


def tempered(temperature):
    return lambda outputs, targets: sharp(outputs, targets, temperature)


SAID = {
    "criterion": [
        partial(sharp, temperature=0.5),
        partial(sharp, temperature=0.25),
        tempered(0.5),
        tempered(0.25),
        lambda outputs, targets: cross_entropy(3 * outputs, targets),
        lambda outputs, targets: cross_entropy(2 * outputs, targets),
    ],
    "method": [
        Unrolled(backward_dtype=torch.float64),
        Unrolled(truncate=2),
        Implicit(),
        Implicit(batches=2),
        Implicit(warm_start=True),
    ],
    "augmentation": [scaled, partial(scaled, factor=3.0)],
    "early_stop": [EarlyStop(patience=9), EarlyStop(patience=9, least=1e-3)],
    "outer_schedule": [SCHEDULES["cosine"], lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=7)],
    "inner": [
        SGD(lr=0.5, schedule=lambda step: 0.5 ** sum(step >= at for at in (1, 2))),
        SGD(lr=0.5, schedule=lambda step: 0.5 ** sum(step >= at for at in (4, 5))),
        SGD(lr=0.5, schedule=lambda step, *, base=0.5: base**step),
        SGD(lr=0.5, schedule=lambda step, *, base=0.25: base**step),
    ],
    "students": [Student("mlp", lambda: smooth_student(norm=True))],
}


@pytest.mark.parametrize("name", SAID)
def test_a_finished_run_of_other_settings_is_not_taken_for_this_one(name):
    for one, other in pairwise([{}, *({name: value} for value in SAID[name])]):
        kept = []
        run(sink=kept.append, outer_steps=2, **one)
        json.dumps(kept[-1].facts)
        with pytest.raises(InputError, match=f"the checkpoint is of a run with {name.removesuffix('s')}"):
            run(resume=kept[-1], outer_steps=2, **other)


def test_other_settings_of_a_commentary_are_another_run():
    made = partial(WeightNetwork, labels="index", classes=CLASSES, progress=False)
    mlp = lambda smooth: made("mlp", settings={"inputs": 6, "hidden": [4], "smooth": smooth})
    own = lambda width: made(nn.Sequential(nn.Linear(6, width), nn.Linear(width, CLASSES)))
    for one, other in ((mlp(True), mlp(False)), (own(4), own(5))):
        kept = []
        run(sink=kept.append, outer_steps=2, commentary=one)
        json.dumps(kept[-1].facts)
        with pytest.raises(InputError, match="of a run with commentaries = "):
            run(resume=kept[-1], outer_steps=2, commentary=other)
