"""From what was learned to an artefact: the learner's result meets the manifest."""

from __future__ import annotations

import logging
import os
from functools import cache

from torch import nn

from commentary_hub import artefact
from commentary_hub.artefact import Rows
from commentary_hub.commentaries import Commentary
from commentary_hub.data import Examples
from commentary_hub.errors import InputError
from commentary_hub.learning import Learned
from commentary_hub.manifest import DatasetBinding, KeyScheme, Manifest

_log = logging.getLogger("commentary_hub.recipes")


def save(
    folder: str | os.PathLike[str],
    learned: Learned,
    *,
    name: str,
    commentary: Commentary | None = None,
    description: str = "",
    licence: str | None = None,
    recipe_toml: str | None = None,
) -> Manifest:
    """Write what `learn` returned as an artefact: tensors, manifest, card, digests; one in ``folder`` is replaced.

    Of commentaries that were learned together each has an artefact of its own: ``commentary`` says which. Warns where
    the dataset has only the name of a class or a folder (``known_as`` of `open_examples` gives it its own). Raises
    `InputError` where it is not said which, or none of them, and what `commentary_hub.artefact.save` raises.
    """
    warn_of_name(learned.train.identity.id)
    chosen = commentary
    if chosen is None:
        if len(learned.commentaries) != 1:
            kinds = ", ".join(one.kind for one in learned.commentaries)
            raise InputError(
                f"{len(learned.commentaries)} commentaries were learned ({kinds}): say which (commentary=)"
            )
        chosen = learned.commentaries[0]
    has_rows = bool(chosen.row_tensors)
    return artefact.save(
        folder,
        chosen,
        name=name,
        dataset=dataset_binding(learned.train, learned.validation, has_rows=has_rows),
        loss_reduction=learned.reduction,
        rows=Rows(learned.train.keys, learned.train.target_digests) if has_rows else None,
        validation_keys=learned.validation.keys,
        statistics=learned.statistics_of(chosen),
        iterations=learned.iterations,
        batch_norm=_batch_norm(chosen),
        recipe=learned.recipe,
        recipe_toml=recipe_toml,
        cost=learned.cost,
        licence=licence,
        description=description,
    )


@cache
def warn_of_name(dataset: str) -> None:
    """Warn, once, where a dataset is called like a class or a folder: nobody can look for what was learned on it."""
    if "/" not in dataset and ":" not in dataset:  # neither owner/name nor sklearn:digits
        _log.warning(
            "the dataset is called only %r, so that nobody can find this commentary by its dataset: give its id on the "
            'hub with known_as="owner/name" (in open_examples, or in a recipe\'s [data])',
            dataset,
        )


def dataset_binding(train: Examples, validation: Examples, *, has_rows: bool) -> DatasetBinding:
    """How the artefact's rows meet the dataset that it was learned on."""
    return DatasetBinding(
        identity=train.identity,
        fingerprint=train.fingerprint(),
        rows=len(train),
        validation_rows=len(validation),
        key=KeyScheme(
            form=train.form if has_rows else "none", salted=train.salt_check is not None, salt_check=train.salt_check
        ),
        classes=train.classes,
    )


def _batch_norm(commentary: Commentary) -> str:
    normalises = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in commentary.modules())
    return "train" if normalises else "none"
