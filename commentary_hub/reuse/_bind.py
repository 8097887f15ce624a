"""Binding: a stored commentary meets a dataset, or says clearly why it doesn't."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from commentary_hub.artefact import StoredCommentary
from commentary_hub.commentaries import Criterion, Reduction, cross_entropy
from commentary_hub.data import (
    Keys,
    RawExamples,
    content_form,
    content_keys,
    fingerprint,
    raw_examples,
    salt_check,
    shared_keys,
    target_digests,
)
from commentary_hub.errors import BindingError, ClassesDiffer, ConflictingRows, InputError, TooFewRows, WrongDataset
from commentary_hub.manifest import Manifest
from commentary_hub.reuse._binding import Binding, Counts
from commentary_hub.reuse._match import Match, match_rows

_log = logging.getLogger("commentary_hub.reuse")


def bind(
    commentaries: StoredCommentary | Sequence[StoredCommentary],
    dataset: Any,
    *,
    threshold: float = 0.99,
    inputs: str | None = None,
    targets: str | None = None,
    salt: str | bytes | None = None,
    reduction: Reduction | None = None,
    steps: int | None = None,
    criterion: Criterion = cross_entropy,
    seed: int = 0,
) -> Binding:
    """Bind stored commentaries to a map-style ``dataset``; examples are recognised by content, in any order.

    The raw examples are keyed (transforms are seen past) and looked up by key and target digest; strings are read as
    class names where the commentary has classes. Examples without a row, or with another target, get the kind's
    neutral value and are counted. ``threshold`` is the share of examples that must be found. Rows of equal content
    and target that hold different values are refused, never averaged. ``reduction`` defaults to the manifest's
    ``weight_mean`` where that was learned with, else to ``mean`` (a stored ``sum`` would tie the learning rate to the
    batch size). ``steps`` stretches the recorded iteration domain over another number of steps. ``inputs`` and
    ``targets`` name columns; ``salt`` is needed where the keys are salted. Validation examples of the commentary that
    are in the dataset are counted as ``leaked`` and warned of.

    Raises `WrongDataset` (nothing found, or another form of example), `TooFewRows`, `ClassesDiffer`,
    `ConflictingRows`, and `InputError`. Cost: one pass over the raw examples.
    """
    stored = (commentaries,) if isinstance(commentaries, StoredCommentary) else tuple(commentaries)
    if not stored:
        raise InputError("there is no commentary to bind: give at least one")
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}: give a share from 0 to 1")
    stored = tuple(sorted(stored, key=lambda one: one.commentary.stage))
    raw = raw_examples(dataset, inputs=inputs, targets=targets)
    for one in stored:
        _check_kind(one.manifest, raw, salt)
    matches: list[Match | None] = [None] * len(stored)
    leaked = 0
    if any(one.rows is not None or len(one.validation_keys) for one in stored):
        keys, digests = _keys_of(raw, stored[0].manifest, salt)
        matches = [_match(one, keys, digests, threshold) for one in stored]
        leaked = sum(shared_keys(one.validation_keys, keys) for one in stored if len(one.validation_keys))
    if leaked:
        _log.warning(
            "%d examples of this dataset taught the commentary: train on them, but report no accuracy on them", leaked
        )
    return Binding(
        dataset,
        [one.commentary for one in stored],
        [None if match is None else match.rows for match in matches],
        counts=_counts(next((match for match in matches if match is not None), None), len(raw), leaked),
        reduction=reduction or ("weight_mean" if stored[0].manifest.loss_reduction == "weight_mean" else "mean"),
        steps=steps or next((one.manifest.iterations.steps for one in stored if one.manifest.iterations), None),
        criterion=criterion,
        seed=seed,
    )


def _counts(match: Match | None, size: int, leaked: int) -> Counts:
    if match is None:  # no table: every example is covered by the commentary's function
        return Counts(found=size, missing=0, other_target=0, leaked=leaked)
    return Counts(match.found, match.missing, match.other_target, leaked)


def _check_kind(manifest: Manifest, raw: RawExamples, salt: str | bytes | None) -> None:
    scheme, learned = manifest.dataset.key, manifest.dataset.identity.id
    if scheme.salted and salt is None:
        raise BindingError(f"{manifest.name} has salted keys: give the salt that its owner holds (salt=)")
    if scheme.salted and salt is not None and scheme.salt_check not in {None, salt_check(salt)}:
        raise BindingError(f"this is not the salt that {manifest.name} was made with: ask its owner")
    form = content_form(raw.read(np.array([0]))[0][0])
    if scheme.form not in {"none", form}:
        raise WrongDataset(
            f"{manifest.name} was learned on {scheme.form} examples of {learned}, this dataset holds {form} ones: "
            "bind the dataset before its transforms, or another commentary",
            expected=scheme.form,
            found=form,
        )
    known, here = manifest.dataset.classes, raw.classes
    if known is not None and here is not None and known != here:
        raise ClassesDiffer(
            f"{manifest.name} knows {len(known)} classes ({', '.join(known[:5])} …), the dataset has {len(here)} "
            f"({', '.join(here[:5])} …): give them the same names in the same order",
            expected=known,
            found=here,
        )


def _keys_of(raw: RawExamples, manifest: Manifest, salt: str | bytes | None) -> tuple[Keys, Keys | None]:
    """Keys and target digests of all examples; class names become the indices that the commentary was learned with."""
    numbers = {name: number for number, name in enumerate(manifest.dataset.classes or ())}
    keys, digests = [], []
    labelled = True
    for values, targets in raw.chunks():
        keys.append(content_keys(values, salt=salt if manifest.dataset.key.salted else None))
        labelled = labelled and targets[0] is not None
        digests.append(target_digests([numbers.get(t, t) if isinstance(t, str) else t for t in targets]))
    return np.concatenate(keys), np.concatenate(digests) if labelled else None


def _match(one: StoredCommentary, keys: Keys, digests: Keys | None, threshold: float) -> Match | None:
    if one.rows is None:
        return None
    match = match_rows(one.rows.keys, one.rows.targets, keys, digests)
    _check_conflicts(one, match.rows, labelled=digests is not None)
    size, learned = len(keys), one.manifest.dataset.identity.id
    same = one.manifest.dataset.fingerprint == fingerprint(keys)
    facts = {"found": match.found, "missing": match.missing, "other_target": match.other_target, "size": size}
    if match.found + match.other_target == 0:
        raise WrongDataset(
            f"none of the {size:,} examples is known to {one.manifest.name}, which was learned on {learned}: "
            "bind that dataset, before its transforms",
            **facts,
        )
    if match.found < threshold * size:
        raise TooFewRows(
            f"{one.manifest.name} knows {match.found:,} of {size:,} examples ({match.missing:,} are missing, "
            f"{match.other_target:,} have another target{'; the examples are the same' if same else ''}), the "
            f"threshold is {threshold:.0%}: bind the dataset it was learned on ({learned}) or lower threshold=",
            **facts,
        )
    return match


def _check_conflicts(one: StoredCommentary, rows: NDArray[np.int64], *, labelled: bool) -> None:
    """A table's neighbours of equal key (and target, where targets are known) must hold the same values."""
    table = one.rows
    assert table is not None
    used = np.unique(rows[rows >= 0])
    used = used[used + 1 < len(table.keys)]
    twin = (table.keys[used] == table.keys[used + 1]).all(axis=1)
    if labelled:
        twin &= (table.targets[used] == table.targets[used + 1]).all(axis=1)
    state = one.commentary.state_dict()
    for name in one.commentary.row_tensors:
        values = state[name]
        differ = used[twin][(values[used[twin]] != values[used[twin] + 1]).flatten(1).any(dim=1).numpy()]
        if len(differ):
            what = "content and target" if labelled else "content"
            advice = "save it again, which merges them" if labelled else "bind the dataset with its targets (targets=)"
            raise ConflictingRows(
                f"{one.manifest.name} holds different values for {len(differ):,} examples of equal {what}: {advice}",
                rows=differ.tolist()[:10],
            )
