"""The arms of a stored commentary: itself, its controls and its competitors, by what it does in a training step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Batch, Commentary, Reduction, Stage
from commentary_hub.data import Examples, check_comparable, check_same_classes, shared_keys
from commentary_hub.errors import EvidenceError, TooFewRows, WrongDataset
from commentary_hub.evidence._arms import COMMENTARY, Arm, bound_arm, standard_arms, with_trusted
from commentary_hub.evidence._competitors import mixup_arm, smoothing_arm, trimming_arm
from commentary_hub.evidence._masks import mask_arms
from commentary_hub.reuse import Binding, Counts, match_rows

THRESHOLD = 0.99
_STAGES = 16
_CHUNK = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A commentary on one split: what is trained on, what chooses learning rates, what is reported.

    ``train`` are the examples as the commentary weighs them (noisy labels and all); ``trusted`` the examples that
    taught it, ``None`` where none did; ``selection`` and ``test`` are untouched by learning. ``filters`` (name → bool
    [N], keep) become competitors; with ``mistaken`` (bool [N], the wrong labels, where an experiment knows them)
    detection is reported for the commentary's weights and for each of ``scores`` (name → [N], low = suspected).
    """

    stored: StoredCommentary
    train: Examples
    trusted: Examples | None
    selection: Examples
    test: Examples
    filters: Mapping[str, Tensor] = field(default_factory=dict)
    mistaken: Tensor | None = None
    scores: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check_leakage()
        parts = {"train": self.train, "trusted": self.trusted, "selection": self.selection, "test": self.test}
        given = {name: part for name, part in parts.items() if part is not None}
        check_comparable(**given)
        check_same_classes(**given)
        if len(self.stored.validation_keys) and self.trusted is None:
            raise EvidenceError(
                f"{self.stored.manifest.name} was taught by {len(self.stored.validation_keys)} examples: give them as "
                "trusted=, or the controls that train on them (clean_only, equal_data) cannot be run"
            )
        if len(self.stored.validation_keys) and self.trusted is not None:
            self._check_trusted(self.trusted)

    def _check_trusted(self, trusted: Examples) -> None:
        """Raise `EvidenceError` for other examples than those that taught: a control would get more or less."""
        taught, given = (np.unique(keys, axis=0) for keys in (self.stored.validation_keys, trusted.keys))
        if not np.array_equal(taught, given):
            shared = shared_keys(taught, given)
            raise EvidenceError(
                f"the trusted examples are not those that taught {self.stored.manifest.name}: it knows {len(taught)}, "
                f"{len(given)} are given, {shared} of them the same; give the very ones (split by the recipe that it "
                "was learned by), or its controls would not train on what it learned from",
                shared=shared,
            )

    def check_leakage(self) -> None:
        """Raise `EvidenceError` where selection or test hold examples that the commentary was learned with."""
        salt = self.stored.manifest.dataset.key.salt_check
        for name, part in (("selection", self.selection), ("test", self.test)):
            if len(self.stored.validation_keys) and part.salt_check != salt:
                raise EvidenceError(
                    f"{self.stored.manifest.name} and the {name} examples are not salted alike, so that leakage could "
                    "not be seen: open them with the salt that the commentary was made with (salt=)",
                    split=name,
                )
            taught = shared_keys(self.stored.validation_keys, part.keys) if len(self.stored.validation_keys) else 0
            weighted = 0 if self.stored.rows is None else shared_keys(self.stored.rows.keys, part.keys)
            if taught or weighted:
                raise EvidenceError(
                    f"leakage: {taught + weighted} of the {len(part)} {name} examples were used to learn "
                    f"{self.stored.manifest.name}: evaluate on examples that it has never met",
                    split=name,
                    shared=taught + weighted,
                )


def arms_of(trial: Trial, *, share: float, competitors: bool | Sequence[str] = True, seed: int = 0) -> tuple[Arm, ...]:
    """The commentary first, then its controls, then its competitors: all, none, or those that are named.

    All kinds have none, equal_data and clean_only (where there are trusted examples), shuffled and random. Weights:
    permuted over examples, and drawn with replacement; competitors are the trial's filters, trimming and label
    smoothing. Blends (and any other change of a batch): the entries of the learned tensors permuted, and drawn with
    replacement; competitor mixup. Masks: see `mask_arms`.
    """
    digest = f"{trial.stored.tensor_digest} {trial.stored.manifest.settings_digest}"
    arms = tuple(
        replace(arm, mark=digest) if (arm.change or arm.sees or arm.wrap) else arm
        for arm in _all_arms(trial, share=share, competitors=bool(competitors), seed=seed)
    )
    if isinstance(competitors, bool):
        return arms
    rivals = {arm.name for arm in arms if arm.role == "competitor"}
    unknown = sorted(set(competitors) - rivals)
    if unknown:
        raise EvidenceError(f"there is no competitor {', '.join(unknown)} here: there are {', '.join(sorted(rivals))}")
    return tuple(arm for arm in arms if arm.role != "competitor" or arm.name in competitors)


def _all_arms(trial: Trial, *, share: float, competitors: bool, seed: int) -> tuple[Arm, ...]:
    stored, train, trusted = trial.stored, trial.train, trial.trusted
    both = train if trusted is None else with_trusted(train, trusted, share)
    stage = stored.commentary.stage
    keep = dict(trial.filters) if competitors else {}
    if stage is Stage.WEIGHT:
        weights, reduction = example_weights(stored, train), reduction_of(stored)
        arms = standard_arms(train, trusted, weights, share=share, reduction=reduction, keep=keep, seed=seed)
        return (*arms, trimming_arm(both), smoothing_arm(both)) if competitors else arms
    plain = [Arm("none", train, note="no commentary")]
    if trusted is not None:
        plain.append(Arm("clean_only", trusted, note="the examples that taught the commentary alone"))
        plain.append(Arm("equal_data", both, note="the commentary's examples, no commentary"))
    if stage is Stage.MASK:
        return mask_arms(stored.commentary, both, plain, competitors=competitors, seed=seed)
    found = [
        bound_arm(COMMENTARY, both, binding_of(stored, both)),
        *plain,
        bound_arm("shuffled", both, binding_of(stored, both, permuted(stored.commentary, seed)), role="control"),
        bound_arm("random", both, binding_of(stored, both, redrawn(stored.commentary, seed)), role="control"),
    ]
    return (*found, mixup_arm(both)) if competitors else tuple(found)


def reduction_of(stored: StoredCommentary) -> Reduction:
    """As binding chooses it: ``weight_mean`` where the commentary was learned with it, else ``mean``."""
    return "weight_mean" if stored.manifest.loss_reduction == "weight_mean" else "mean"


def rows_of(stored: StoredCommentary, examples: Examples) -> NDArray[np.int64] | None:
    """The table's row of each example, -1 for none; ``None`` for a commentary without a table."""
    if stored.rows is None:
        return None
    scheme = stored.manifest.dataset.key
    if (scheme.form, scheme.salt_check) != (examples.form, examples.salt_check):
        raise WrongDataset(
            f"{stored.manifest.name} has keys of {scheme.form} examples, these are {examples.form} ones (or salted "
            "otherwise): open the dataset as it was opened for learning"
        )
    return match_rows(stored.rows.keys, stored.rows.targets, examples.keys, examples.target_digests).rows


@torch.no_grad()
def example_weights(stored: StoredCommentary, examples: Examples) -> Tensor:
    """The weights [S, N] that a commentary gives to ``examples``, for S stages of equal length over the training.

    S is the table's number of stages; 1 for a function that does not look at the progress, else 16, at the middle of
    each. Raises `TooFewRows` where a table knows less than 99 % of the examples, `WrongDataset` for other keys.
    """
    rows = rows_of(stored, examples)
    if rows is not None and (rows >= 0).mean() < THRESHOLD:
        raise TooFewRows(
            f"{stored.manifest.name} knows {int((rows >= 0).sum()):,} of {len(rows):,} training examples with these "
            "targets: evaluate it on the data it was learned on"
        )
    at = None if rows is None else torch.from_numpy(rows)
    stages = int(stored.commentary.config().get("stages", 1))
    if rows is None:
        begin, end = (_weights_at(stored.commentary, examples, at, progress) for progress in (0.0, 1.0))
        stages = 1 if torch.equal(begin, end) else _STAGES
    return torch.stack(
        [_weights_at(stored.commentary, examples, at, (stage + 0.5) / stages) for stage in range(stages)]
    )


def _weights_at(commentary: Commentary, examples: Examples, rows: Tensor | None, progress: float) -> Tensor:
    parts = []
    # Parts of nearly one size: batch normalisation has nothing to say of a last example alone.
    for part in torch.arange(len(examples)).tensor_split(-(-len(examples) // _CHUNK)):
        own = None if rows is None else rows[part]
        batch = commentary(Batch(examples.inputs[part], examples.targets[part], rows=own), progress)
        if batch.weights is None:
            raise EvidenceError(f"a commentary of kind {commentary.kind!r} gave no weights: it cannot be a weight kind")
        parts.append(batch.weights.float())
    return torch.cat(parts)


def binding_of(stored: StoredCommentary, examples: Examples, commentary: Commentary | None = None) -> Binding:
    """The commentary (or a control made of it) bound to examples, as anybody who reuses it would bind it."""
    rows = rows_of(stored, examples)
    found = len(examples) if rows is None else int((rows >= 0).sum())
    iterations = stored.manifest.iterations
    return Binding(
        examples,
        [commentary or stored.commentary],
        [rows],
        counts=Counts(found=found, missing=len(examples) - found, other_target=0, leaked=0),
        reduction=reduction_of(stored),
        steps=None if iterations is None else iterations.steps,
    )


def permuted(commentary: Commentary, seed: int) -> Commentary:
    """A copy with the entries of each learned tensor permuted: the same numbers, each at another place."""
    return _rearranged(commentary, seed, replacement=False)


def redrawn(commentary: Commentary, seed: int) -> Commentary:
    """A copy with each learned tensor's entries drawn from its own entries with replacement."""
    return _rearranged(commentary, seed, replacement=True)


@torch.no_grad()
def _rearranged(commentary: Commentary, seed: int, *, replacement: bool) -> Commentary:
    generator = torch.Generator().manual_seed(seed)
    changed = copy.deepcopy(commentary)
    for parameter in changed.parameters():
        size = parameter.numel()
        order = (
            torch.randint(size, (size,), generator=generator)
            if replacement
            else torch.randperm(size, generator=generator)
        )
        parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
    return changed
