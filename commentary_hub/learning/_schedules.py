"""Schedules of learning rates, gone through before a run begins: a mistake at step 900 shows at step 0."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch

from commentary_hub.errors import InputError
from commentary_hub.learning._optimisers import InnerOptimiser, check_number

Scheduler = torch.optim.lr_scheduler.LRScheduler
OuterSchedule = Callable[[torch.optim.Optimizer], Scheduler]


def check_inner_schedule(inner: InnerOptimiser, steps: int) -> None:
    """Raise `InputError` where the factor of one of a student's ``steps`` is no finite number of at least 0."""
    schedule = getattr(inner, "schedule", None)
    if schedule is None:
        return
    for step in range(steps):
        try:
            factor = schedule(step)
        except Exception as error:  # a caller's function may raise anything
            raise InputError(
                f"the inner schedule fails at step {step} of a student's {steps}: {_said(error)}", step=step
            ) from error
        number = factor.item() if isinstance(factor, torch.Tensor) and factor.numel() == 1 else factor
        check_number(f"the inner schedule's factor at step {step} of {steps}", number)


def outer_scheduler(build: OuterSchedule | None, optimiser: torch.optim.Optimizer, steps: int) -> Scheduler | None:
    """The schedule of ``optimiser``, after a double of both went through all ``steps``; `InputError` where it fails."""
    if build is None:
        return None
    double = copy.copy(optimiser)
    double.param_groups = [{name: _own(value) for name, value in group.items()} for group in optimiser.param_groups]
    step = 0
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            scheduler = build(double)
            if not isinstance(scheduler, Scheduler):
                raise TypeError(f"it made {type(scheduler).__name__}, give one of torch.optim.lr_scheduler")
            for step in range(1, steps + 1):  # noqa: B007 (named in the message)
                advance_scheduler(scheduler, 0.0)
    except Exception as error:  # a caller's function may raise anything
        when = f"at outer step {step} of {steps}" if step else "to begin with"
        raise InputError(f"the outer schedule fails {when}: {_said(error)}", step=step) from error
    return build(optimiser)


def advance_scheduler(scheduler: Scheduler | None, loss: float) -> None:
    """One step of it; `ReduceLROnPlateau` sees the outer loss."""
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(loss)
    elif scheduler is not None:
        scheduler.step()


def _own(value: object) -> object:
    """A learning rate that is a tensor is changed in place: the double needs its own."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
