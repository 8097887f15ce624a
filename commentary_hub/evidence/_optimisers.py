"""Optimisers of evaluated students: values without a learning rate, because that is tuned for every arm.

Each exists twice: as arithmetic on stacked parameters (one leading axis over students), and as the optimiser of
``torch.optim`` that a student trained alone gets. Tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Schedule = Literal["constant", "cosine"]
Stacked = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class TunedSGD:
    """Stochastic gradient descent as `torch.optim.SGD`: g ← g + wd·θ; b ← m·b + g; θ ← θ − lr·b."""

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    @torch.no_grad()
    def step(self, parameters: Stacked, gradients: Stacked, state: Stacked, rates: Tensor, count: int) -> None:
        """One step in place; ``rates`` [K] are the students' learning rates, ``count`` is 1 at the first step."""
        del count
        for name, theta in parameters.items():
            gradient = gradients[name]
            if self.weight_decay:
                gradient = gradient.add(theta, alpha=self.weight_decay)
            if self.momentum:
                buffer = state.setdefault(name, torch.zeros_like(theta)).mul_(self.momentum).add_(gradient)
                gradient = gradient.add(buffer, alpha=self.momentum) if self.nesterov else buffer
            theta.sub_(_along(rates, theta) * gradient)

    def alone(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """The same rule for one student."""
        return torch.optim.SGD(
            parameters, lr=rate, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )


@dataclass(frozen=True, slots=True)
class TunedAdam:
    """Adam with decoupled weight decay, as `torch.optim.AdamW` (plain Adam where ``weight_decay`` is 0)."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    @torch.no_grad()
    def step(self, parameters: Stacked, gradients: Stacked, state: Stacked, rates: Tensor, count: int) -> None:
        """One step in place; ``rates`` [K] are the students' learning rates, ``count`` is 1 at the first step."""
        first, second = self.betas
        for name, theta in parameters.items():
            gradient, rate = gradients[name], _along(rates, theta)
            mean = state.setdefault(f"mean.{name}", torch.zeros_like(theta)).lerp_(gradient, 1 - first)
            square = state.setdefault(f"square.{name}", torch.zeros_like(theta))
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            if self.weight_decay:
                theta.mul_(1 - rate * self.weight_decay)
            scale = square.sqrt().div_(math.sqrt(1 - second**count)).add_(self.eps)
            theta.sub_(rate / (1 - first**count) * mean / scale)

    def alone(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """The same rule for one student."""
        return torch.optim.AdamW(parameters, lr=rate, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


TunedOptimiser: TypeAlias = TunedSGD | TunedAdam


def decayed(schedule: Schedule, step: int, steps: int) -> float:
    """The factor on the learning rate at ``step`` of ``steps``: 1, or ½(1 + cos(π·step/steps)).

    >>> [round(decayed("cosine", step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / steps))


def _along(rates: Tensor, theta: Tensor) -> Tensor:
    return rates.reshape(-1, *[1] * (theta.dim() - 1))
