"""A dataset as the learner sees it: in memory, with a key for every example."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.data._keys import KEY_BYTES, TARGET_BYTES, Form, Keys, target_digests
from commentary_hub.errors import InputError, LabelError, ShapeError
from commentary_hub.manifest import DatasetIdentity

IGNORED = -100  # a token without a target, as torch's losses have it
Rows = Sequence[int] | NDArray[Any] | Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled examples in memory.

    ``inputs`` [N, ...] is what the student sees: float32, but int64 token ids [N, L] for text; ``targets`` [N] int64
    class indices, or [N, L] int64 where every token has a target (-100: none), or finite floats [N] or [N, C] for a
    criterion of numbers or of several labels at once.
    ``keys`` uint8 [N, 16] are the content keys of the examples as the dataset holds them, *before* scaling or
    resizing, ``target_digests`` uint8 [N, 8] those of the targets. ``classes`` names the classes, where they have
    names; ``form`` is the keys' canonical form and ``salted`` says whether a salt went into them.

    >>> examples = Examples.of(torch.zeros(3, 2), torch.tensor([0, 1, 1]), keys=np.zeros((3, 16), np.uint8))
    >>> len(examples), examples.duplicates, len(examples.subset([0, 2]))
    (3, 2, 2)
    >>> examples
    Examples('unnamed': 3 of float32 [2], no class names, form 'numeric')
    """

    inputs: Tensor
    targets: Tensor
    keys: Keys
    target_digests: Keys
    classes: tuple[str, ...] | None
    identity: DatasetIdentity
    form: Form
    salt_check: str | None = None

    def __post_init__(self) -> None:
        rows = len(self.inputs)
        wanted = {
            "targets": (tuple(self.targets.shape), (rows, *self.targets.shape[1:2])),
            "keys": (self.keys.shape, (rows, KEY_BYTES)),
            "target_digests": (self.target_digests.shape, (rows, TARGET_BYTES)),
        }
        for name, (found, expected) in wanted.items():
            if found != expected:
                raise ShapeError(
                    f"{name} has shape {list(found)}, expected {list(expected)} for {rows} examples",
                    tensor=name,
                    shape=found,
                )

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        targets: Tensor,
        *,
        keys: Keys,
        classes: Sequence[str] | None = None,
        identity: DatasetIdentity | None = None,
        form: Form = "numeric",
        salt_check: str | None = None,
    ) -> Examples:
        """Examples from tensors; target digests are computed. Raises `InputError`, `LabelError` or `ShapeError`."""
        if len(inputs) == 0:
            raise InputError("there are no examples: a dataset needs at least one")
        _check_targets(targets, classes)
        return cls(
            inputs=inputs,
            targets=targets,
            keys=keys,
            target_digests=target_digests(targets),
            classes=None if classes is None else tuple(classes),
            identity=identity or DatasetIdentity(id="unnamed"),
            form=form,
            salt_check=salt_check,
        )

    @classmethod
    def concatenated(cls, first: Examples, *others: Examples) -> Examples:
        """All examples one after the other; they must share form, salt and classes. The identity is the first's."""
        for other in others:
            if (other.form, other.salt_check, other.classes) != (first.form, first.salt_check, first.classes):
                raise InputError(
                    f"examples of {first.identity.id!r} and {other.identity.id!r} differ in form, salt or classes: "
                    "they cannot be one dataset"
                )
        parts = (first, *others)
        return replace(
            first,
            inputs=torch.cat([part.inputs for part in parts]),
            targets=torch.cat([part.targets for part in parts]),
            keys=np.concatenate([part.keys for part in parts]),
            target_digests=np.concatenate([part.target_digests for part in parts]),
        )

    def __repr__(self) -> str:
        """How many examples of what; no tensors, which would fill the screen."""
        classes = "no class names" if self.classes is None else f"{len(self.classes)} classes"
        shape, dtype = list(self.inputs.shape[1:]), str(self.inputs.dtype).removeprefix("torch.")
        return f"Examples({self.identity.id!r}: {len(self):,} of {dtype} {shape}, {classes}, form {self.form!r})"

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        """One example, as a map-style dataset gives it: (input, target), a number or a tensor of them."""
        target = self.targets[index]
        return self.inputs[index], target if target.dim() else target.item()

    @property
    def class_count(self) -> int:
        """The number of classes: of names where there are names, else the highest label plus one.

        Raises `LabelError` where targets are no class indices.
        """
        if self.targets.is_floating_point():
            raise LabelError(f"targets are {self.targets.dtype} numbers, which have no classes", tensor="targets")
        return len(self.classes) if self.classes is not None else int(self.targets.max()) + 1

    @property
    def duplicates(self) -> int:
        """How many examples have the same content as an earlier one."""
        return len(self) - len(np.unique(self.keys, axis=0))

    def subset(self, rows: Rows) -> Examples:
        """The examples at ``rows`` (indices, or a boolean mask [N]), in that order."""
        index = torch.as_tensor(rows)
        if index.dtype == torch.bool:
            index = index.nonzero().squeeze(1)
        index = index.long()
        at = index.numpy()
        return replace(
            self,
            inputs=self.inputs[index],
            targets=self.targets[index],
            keys=self.keys[at],
            target_digests=self.target_digests[at],
        )

    def with_targets(self, targets: Tensor) -> Examples:
        """The same examples with other targets [N] (and their digests): how labels are corrupted or corrected."""
        _check_targets(targets, self.classes)
        return replace(self, targets=targets, target_digests=target_digests(targets))

    def fingerprint(self) -> str:
        """The dataset's identity by content and order: 32 hex digits over the ordered keys, targets left out."""
        return fingerprint(self.keys)


def fingerprint(keys: Keys) -> str:
    """BLAKE2b-128 over ordered content keys [N, 16], in hex.

    >>> fingerprint(np.zeros((0, 16), np.uint8)) == fingerprint(np.zeros((1, 16), np.uint8))
    False
    """
    return hashlib.blake2b(np.ascontiguousarray(keys).data, digest_size=16, person=b"commentary-fing1").hexdigest()


def _check_targets(targets: Tensor, classes: Sequence[str] | None) -> None:
    if targets.is_floating_point() and classes is None and bool(targets.isfinite().all()):
        return
    if targets.dtype != torch.int64:
        raise LabelError(
            f"targets are {targets.dtype}, expected int64 class indices (map the labels first), or finite floats and "
            "no classes"
        )
    known_targets = targets if targets.dim() == 1 else targets[targets != IGNORED]
    low, high = (int(known_targets.min()), int(known_targets.max())) if known_targets.numel() else (0, 0)
    if low < 0 or (classes is not None and high >= len(classes)):
        known = "" if classes is None else f", but there are {len(classes)} classes (0 to {len(classes) - 1})"
        raise LabelError(f"labels run from {low} to {high}{known}: map or drop the others first", low=low, high=high)
