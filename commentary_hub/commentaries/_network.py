"""A network inside a commentary: built from a name and settings, so that an artefact can say what it is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from commentary_hub.errors import InputError, ShapeError
from commentary_hub.networks import network


class Inner(nn.Module):
    """A network of the registry (``name`` with ``settings``), or a caller's ``module``, inside a commentary.

    Batch normalisation always uses the statistics of the batch and keeps none (``batch_norm: "train"`` in manifests):
    learning and reuse see the same function, and no hidden state moves while a derivative is taken. The price is that
    what such a network says of an example depends on its batch; networks without it, or with group normalisation,
    judge each example alone.

    It keeps the precision it has, whatever the student's: a kind hands it ``fitted`` inputs, works on in that precision
    and gives a batch's inputs back in the precision they came in.

    Its ``name`` is what an artefact says of it. A caller's module (changed in place, where it normalises) can be
    learned and applied but has no name to store: asking for it is an `InputError` that says how to give it one.
    """

    def __init__(self, source: str | nn.Module, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if not isinstance(source, str | nn.Module):
            raise InputError(f"network is {source!r}: give the name of a network, or a module of your own")
        self._name = source if isinstance(source, str) else None
        self.module = network(source, **settings) if isinstance(source, str) else source
        for part in self.module.modules():
            if isinstance(part, _BatchNorm):
                part.track_running_stats = False
                part.running_mean = part.running_var = part.num_batches_tracked = None

    @property
    def name(self) -> str:
        """Its name in the registry of networks."""
        if self._name is None:
            kind = type(self.module).__name__
            raise InputError(
                f"a commentary with a module of your own ({kind}) cannot be described: call "
                f"commentary_hub.networks.register_network(name, {kind}), build the commentary by that name with "
                "settings, and hand it the learned tensors with load_state_dict"
            )
        return self._name

    def fitted(self, inputs: Tensor) -> Tensor:
        """``inputs`` in the network's precision; what holds no fractions (token ids) stays as it is."""
        own = next(chain(self.module.parameters(), self.module.buffers()), inputs)
        return inputs.to(own.dtype) if inputs.is_floating_point() and own.is_floating_point() else inputs

    def forward(self, inputs: Tensor) -> Tensor:
        """What the network says; inputs that it cannot take are a `ShapeError`."""
        try:
            outputs: Tensor = self.module(inputs)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
                raise
            raise ShapeError(
                f"the commentary's network {self._name or type(self.module).__name__} cannot take inputs "
                f"{list(inputs.shape)} ({str(error).splitlines()[0]}): give it what it was built for",
                tensor="inputs",
                shape=tuple(inputs.shape),
            ) from error
        return outputs


def planes(inputs: Tensor, values: Tensor) -> Tensor:
    """``inputs`` [B, C, …] with ``values`` [B, E] as E more channels that are constant over the rest: [B, C + E, …]."""
    wide = values.reshape(*values.shape, *[1] * (inputs.dim() - 2)).expand(*values.shape, *inputs.shape[2:])
    return torch.cat([inputs, wide], dim=1)
