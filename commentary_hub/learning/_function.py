"""A student as a pure function of one vector: all its parameters in a row, so that a step is few operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from commentary_hub.errors import InputError, NotDifferentiable
from commentary_hub.learning._optimisers import Tensors


class StudentFunction:
    """``module`` called with other parameters and buffers than its own, which are put back afterwards.

    ``vector`` [P] holds the parameters that require a gradient, one after the other (tied ones once); frozen ones stay
    the module's. The optimiser and the adjoint then work on one tensor instead of one per layer. Raises
    `NotDifferentiable` where every parameter is frozen and `InputError` where they differ in type or place.

    >>> function = StudentFunction(nn.Linear(2, 1))
    >>> function(torch.tensor([1.0, 2.0, 5.0]), (), torch.tensor([[10.0, 1.0]]))
    tensor([[17.]])
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        places: dict[int, list[tuple[dict[str, Tensor | None], str]]] = {}
        self._own: list[Tensor] = []
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is None or not parameter.requires_grad:
                    continue
                if id(parameter) not in places:
                    self._own.append(parameter)
                places.setdefault(id(parameter), []).append((part._parameters, name))  # type: ignore[arg-type]
        if not self._own:
            raise NotDifferentiable("the student has no parameter that requires a gradient")
        kinds = {(str(p.dtype), str(p.device)) for p in self._own}
        if len(kinds) > 1:
            raise InputError(
                f"the student's parameters are of several types ({', '.join(' on '.join(k) for k in sorted(kinds))}): "
                "convert it to one with .to()"
            )
        self._places = list(places.values())
        self._shapes = [p.shape for p in self._own]
        self._sizes = [p.numel() for p in self._own]
        self._buffers = [
            (part._buffers, name) for part in module.modules() for name, b in part._buffers.items() if b is not None
        ]

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return self._own[0].dtype

    def start(self) -> tuple[Tensor, Tensors]:
        """The module's own parameters as a vector [P], and its buffers, as copies."""
        vector = torch.cat([p.detach().reshape(-1) for p in self._own])
        return vector, tuple(held[name].detach().clone() for held, name in self._buffers if held[name] is not None)  # type: ignore[union-attr]

    def __call__(self, vector: Tensor, buffers: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """The module's outputs; what it writes to its buffers is written to ``buffers``."""
        own = [held[name] for held, name in self._buffers]
        try:
            for part, shape, held_at in zip(torch.split(vector, self._sizes), self._shapes, self._places, strict=True):
                view = part.view(shape)
                for held, name in held_at:
                    held[name] = view
            for buffer, (held, name) in zip(buffers, self._buffers, strict=True):
                held[name] = buffer
            outputs: Tensor = self.module(inputs)
        finally:
            for parameter, held_at in zip(self._own, self._places, strict=True):
                for held, name in held_at:
                    held[name] = parameter
            for tensor, (held, name) in zip(own, self._buffers, strict=True):
                held[name] = tensor
        return outputs
