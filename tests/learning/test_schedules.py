"""Schedules are gone through before a run begins: what would fail at its end fails at once, and by name."""

from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

from commentary_hub.errors import InputError
from commentary_hub.learning import SGD, Population
from tests.learning.runs import run


def unstarted(report):
    pytest.fail("the run began")


def late(step):
    if step == 7:
        raise IndexError("no eighth factor")
    return 1.0


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (late, "inner schedule fails at step 7 of a student's 8: IndexError: no eighth factor"),
        (lambda step: 4.0 - step, r"factor at step 5 of 8 is -1\.0: give a finite number"),
        (lambda step: float("nan") if step == 6 else 1.0, "factor at step 6 of 8 is nan"),
        (lambda step: None, "factor at step 0 of 8 is None"),
    ],
)
def test_an_inner_schedule_is_gone_through_first(schedule, words):
    with pytest.raises(InputError, match=words):
        run(inner=SGD(lr=0.5, schedule=schedule), progress=unstarted)


def test_a_factor_may_be_a_tensor():
    half = torch.tensor(0.5)
    one, other = (run(inner=SGD(lr=0.5, schedule=schedule)) for schedule in (lambda step: half, lambda step: 0.5))
    assert torch.allclose(one.commentary.logits, other.commentary.logits)


def test_an_inner_schedule_is_asked_for_a_students_whole_life():
    asked = []
    schedule = lambda step: asked.append(step) or 1.0
    run(inner=SGD(lr=0.5, schedule=schedule), inner_steps=2, population=Population(fresh_every=3, warm_up=1))
    assert max(asked) == 6


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (partial(OneCycleLR, max_lr=0.1, total_steps=4), "at outer step 5 of 6: ValueError: .*4"),
        (partial(OneCycleLR, max_lr=0.1), "to begin with: ValueError"),
        (partial(LambdaLR, lr_lambda=lambda step: [1.0, 0.5, 0.2][step]), "at outer step 3 of 6: IndexError"),
        (lambda optimiser: 0.5, "to begin with: TypeError: it made float"),
    ],
)
def test_an_outer_schedule_is_gone_through_first(build, words):
    with pytest.raises(InputError, match=f"the outer schedule fails {words}"):
        run(outer_schedule=build, progress=unstarted)


@pytest.mark.parametrize("lr", [0.3, torch.tensor(0.3)], ids=["number", "tensor"])
@pytest.mark.parametrize(
    "build",
    [
        partial(CosineAnnealingLR, T_max=6),
        partial(OneCycleLR, max_lr=0.2, total_steps=6),
        partial(ReduceLROnPlateau, patience=0, threshold=0.5),
    ],
)
def test_the_trial_leaves_the_optimiser_as_it_was(build, lr):
    """The rates of the run are those of the schedule stepped by hand."""
    made, rates = [], []

    def outer(parameters):
        made.append(torch.optim.AdamW(parameters, lr=torch.as_tensor(lr).clone() if torch.is_tensor(lr) else lr))
        return made[-1]

    learned = run(
        outer=outer, outer_schedule=build, progress=lambda report: rates.append(float(made[0].param_groups[0]["lr"]))
    )
    optimiser = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, expected = build(optimiser), []
    for line in learned.history:
        optimiser.step()
        scheduler.step(*([line["outer_loss"]] if isinstance(scheduler, ReduceLROnPlateau) else []))
        expected.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx(expected, rel=1e-6)
    assert len(set(rates)) > 1
