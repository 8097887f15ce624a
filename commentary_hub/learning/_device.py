"""Where a run computes: a device that this machine has."""

from __future__ import annotations

import torch

from commentary_hub.errors import InputError


def find_device(name: str | torch.device) -> torch.device:
    """The device ``name`` (``cpu``, ``cuda``, ``cuda:1``); raises `InputError`, naming those there are, for another.

    >>> find_device("cpu")
    device(type='cpu')
    """
    there = _devices()
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or not any(_same(device, one) for one in there):
        raise InputError(
            f"there is no device {str(name)!r} here: choose from {', '.join(map(str, there))} "
            f"(what torch {torch.__version__} finds)",
            device=str(name),
        )
    return device


def _devices() -> list[torch.device]:
    """The CPU, and every accelerator."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    count = 0 if accelerator is None else torch.accelerator.device_count()
    return [torch.device("cpu"), *(torch.device(accelerator.type, at) for at in range(count) if accelerator)]


def _same(device: torch.device, other: torch.device) -> bool:
    """Whether ``device`` is ``other``; without a number it is any of its type."""
    return device.type == other.type and (device.index is None or device.index == (other.index or 0))
