"""Scores by position become weights by content: an artefact like any other, with its origin in the manifest."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from commentary_hub import artefact
from commentary_hub.artefact import Rows
from commentary_hub.commentaries import ExampleWeights
from commentary_hub.data import RawExamples, class_names, content_form, dataset_keys, fingerprint, open_raw, salt_check
from commentary_hub.errors import InputError
from commentary_hub.interchange._scores import Scores, Values
from commentary_hub.manifest import MAX_MANIFEST_BYTES, NAME, DatasetBinding, FileDigest, KeyScheme, Manifest, Parent

Scale = Literal["share", "rank"]
_LONGEST_NAME = 4096  # in a manifest
_EDGE = 1e-4  # weights lie in (0, 1): sigmoid of a finite number


def import_scores(
    folder: str | os.PathLike[str],
    scores: Scores,
    dataset: Any,
    *,
    name: str,
    useful: bool | None = None,
    scale: Scale | None = None,
    ids: str | Sequence[object] | None = None,
    split: str = "train",
    config: str | None = None,
    revision: str | None = None,
    known_as: str | None = None,
    inputs: str | None = None,
    targets: str | None = None,
    salt: str | bytes | None = None,
    licence: str | None = None,
) -> Manifest:
    """Write ``scores`` as an artefact of kind ``example_weights`` to ``folder``; from then on it is bound by content.

    ``dataset`` is the one that was scored, as `open_examples` takes it (with ``split``, ``config`` …), in the order in
    which it was scored; or in any order, where the tool used names: ``ids`` is the column that holds them, or a list of
    them. Examples without a score get no row. How scores become weights: see `weights_of`. ``manifest.parents`` records
    the file's name and SHA-256, the tool and the measure.

    Raises `InputError` where scores and dataset do not fit, for a name that no commentary can have, or where nobody
    says what a high score means. Cost: one pass over the raw examples, two where targets are strings.
    """
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"{name!r} is no name of a commentary: give up to 96 letters, digits, dots, dashes and underscores, a "
            "letter or digit first (name=)"
        )
    weights = weights_of(scores, useful=useful, scale=scale)
    raw, identity = open_raw(
        dataset, split=split, config=config, revision=revision, known_as=known_as, inputs=inputs, targets=targets
    )
    positions = scores.positions(len(raw), raw.column(ids) if isinstance(ids, str) else ids)
    classes = _classes(raw)
    keys, digests = dataset_keys(raw, classes=classes, salt=salt)
    if digests is None:
        raise InputError("the dataset has no targets: name the column that holds them (targets=)")
    table = ExampleWeights(rows=len(weights))
    with torch.no_grad():
        table.logits.copy_(torch.logit(torch.from_numpy(weights))[:, None])
    binding = DatasetBinding(
        identity=identity,
        fingerprint=fingerprint(keys),
        rows=len(raw),
        key=KeyScheme(
            form=content_form(raw.read(np.array([0]))[0][0]),
            salted=salt is not None,
            salt_check=None if salt is None else salt_check(salt),
        ),
        classes=classes,
    )
    origin = f"{scores.tool} {scores.measure}"
    return artefact.save(
        folder,
        table,
        name=name,
        dataset=binding,
        loss_reduction="mean",
        rows=Rows(np.ascontiguousarray(keys[positions]), np.ascontiguousarray(digests[positions])),
        parents=[Parent(reference=scores.path.name, digest=FileDigest.of_file(scores.path).sha256, origin=origin)],
        licence=licence,
        description=f"Weights from the scores of another tool ({origin}) for {len(weights):,} examples; not learned.",
    )


def _classes(raw: RawExamples) -> tuple[str, ...] | None:
    """The classes' names; ``None`` for targets that are texts to be written, which no manifest has room for."""
    names = class_names(raw)
    longest = max(map(len, names or ()), default=0)
    fits = longest <= _LONGEST_NAME and len(json.dumps(names)) < MAX_MANIFEST_BYTES // 2
    return names if names == raw.classes or fits else None


def weights_of(scores: Scores, *, useful: bool | None = None, scale: Scale | None = None) -> Values:
    """Weights [N] in (0, 1), high for good examples.

    ``share`` takes scores in [0, 1] as they are; ``rank`` takes their order alone, (r + ½)/N for rank r from below
    (equal scores share the mean of their ranks). By default scores that are shares by definition stay shares, all
    others become ranks. ``useful`` says whether high scores mark good examples: needed where the tool leaves it open,
    and it overrules the tool elsewhere. Bad examples are weighed by 1 − share, or by the opposite order.

    >>> from pathlib import Path
    >>> margins = np.array([-1.0, 5.0, 0.5, 0.5])
    >>> scores = Scores("aum", "aum", Path("aum_values.csv"), margins, range(4), useful=True, unit=False)
    >>> weights_of(scores).tolist(), weights_of(scores, useful=False)[1].item()
    ([0.125, 0.875, 0.5, 0.5], 0.125)
    """
    high_is_good = scores.useful if useful is None else useful
    if high_is_good is None:
        raise InputError(
            f"{scores.path}: does a high value of {scores.measure!r} mark a good or a bad example? Say so (useful=, on "
            "the command line --useful or --harmful)"
        )
    if scale not in {None, "share", "rank"}:
        raise InputError(f"scale is {scale!r}: choose 'share' or 'rank'")
    if (scale or ("share" if scores.unit else "rank")) == "share":
        low, high = float(scores.values.min()), float(scores.values.max())
        if low < 0 or high > 1:
            raise InputError(
                f"{scores.path}: {scores.measure} runs from {low:g} to {high:g} and is no share in [0, 1]: use the "
                "order of the scores instead (scale='rank')"
            )
        shares = scores.values
    else:
        shares = (_ranks(scores.values) + 0.5) / len(scores.values)
    return np.clip(shares if high_is_good else 1.0 - shares, _EDGE, 1.0 - _EDGE)


def _ranks(values: Values) -> NDArray[np.float64]:
    """Ranks from 0, the mean of them for equal values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    first = np.cumsum(counts) - counts
    means: NDArray[np.float64] = (first + (counts - 1) / 2)[inverse]
    return means
