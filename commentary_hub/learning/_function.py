"""A student as a pure function of one vector: all its parameters in a row, so that a step is few operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import disable_saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel

from commentary_hub.errors import InputError, NotDifferentiable
from commentary_hub.learning._optimisers import Tensors

CHECKPOINTED = (
    "it runs parts of itself again on the way back (gradient checkpointing), which would meet other parameters than "
    "those of the step: turn that off, the memory= of the method bounds memory"
)


class StudentFunction:
    """``module`` called with other parameters and buffers than its own, which are put back afterwards.

    ``vector`` [P] holds the parameters that require a gradient, one after the other (tied ones once); frozen ones stay
    the module's. The optimiser and the adjoint then work on one tensor instead of one per layer. Raises
    `NotDifferentiable` where every parameter is frozen, `InputError` where they differ in type or place, and what
    `guarded` does.

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
        held = [(path, part._buffers, name) for path, part in module.named_modules() for name in part._buffers]
        held = [(path, buffers, name) for path, buffers, name in held if buffers[name] is not None]
        self._buffers = [(buffers, name) for _, buffers, name in held]
        self.buffer_names = [f"{path}.{name}" if path else name for path, _, name in held]

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return self._own[0].dtype

    def start(self) -> tuple[Tensor, Tensors]:
        """The module's own parameters as a vector [P], and its buffers, as copies."""
        vector = torch.cat([p.detach().reshape(-1) for p in self._own])
        return vector, tuple(held[name].detach().clone() for held, name in self._buffers if held[name] is not None)

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
            outputs = guarded(self.module, lambda: self.module(inputs))
        finally:
            for parameter, held_at in zip(self._own, self._places, strict=True):
                for held, name in held_at:
                    held[name] = parameter
            for tensor, (held, name) in zip(own, self._buffers, strict=True):
                held[name] = tensor
        return outputs


def guarded(student: nn.Module, call: Callable[[], Any]) -> Tensor:
    """The outputs of a ``call`` of the student, under parameters that are its own only while it lasts.

    Attention is computed by plain operations: PyTorch's fused ones have no second derivative. Raises
    `NotDifferentiable` for gradient checkpointing, and `InputError` for outputs that are no tensor.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH), disable_saved_tensors_hooks(CHECKPOINTED):
            outputs = call()
    except RuntimeError as error:
        if str(error) != CHECKPOINTED:
            raise
        raise NotDifferentiable(f"the student {type(student).__name__} cannot be taught: {error}") from None
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"the student returned a {type(outputs).__name__}, expected a tensor of logits: wrap it in a module "
            "that picks them out (return model(inputs).logits, say)"
        )
    return outputs
