"""Loading by name: a folder on disk, or a commentary on the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from commentary_hub import artefact, hub
from commentary_hub.artefact import StoredCommentary
from commentary_hub.data import Examples, dataset_keys, raw_examples
from commentary_hub.errors import ManifestMissing, ReferenceSyntaxError
from commentary_hub.reuse._checks import check_salt


def load(reference: str | os.PathLike[str], *, commentary: str | None = None) -> StoredCommentary:
    """The commentary in a folder, or on the hub as ``owner/name`` or ``owner/name@revision``.

    What exists as a folder is a folder; anything else is pulled (into the cache of ``huggingface_hub``, once).
    ``commentary`` names one of several inside a dataset's own repository. Raises the leaves of `ArtefactError` and
    `HubError`, and `ManifestMissing` for what is neither a folder nor a reference.
    """
    path = Path(reference)
    if path.is_dir():
        return artefact.load(path)
    try:
        pulled = hub.pull(str(reference), commentary=commentary)
    except ReferenceSyntaxError:
        raise ManifestMissing(
            f"{reference} is neither a folder nor a commentary's name on the hub (owner/name)", folder=path
        ) from None
    return artefact.load(pulled, verify=False)  # pulling compared every file with its digest


def load_for(
    reference: str | os.PathLike[str],
    dataset: Any,
    *,
    commentary: str | None = None,
    inputs: str | None = None,
    targets: str | None = None,
    salt: str | bytes | None = None,
    workers: int = 2,
) -> StoredCommentary:
    """As `load`, but of a table on the hub only the rows of the examples in ``dataset`` are fetched, by Range.

    For a dataset that is a small part of what a large commentary knows::

        binding = bind(load_for("ada/everything", part), part)

    The examples are recognised as by `bind`, with the same ``inputs``, ``targets``, ``salt`` and ``workers``. No digest
    can be checked of files that are not read whole; see `commentary_hub.artefact.load_part`, also for the cost.
    """
    path = Path(reference)
    if path.is_dir():
        return artefact.load(path)
    source = hub.remote(str(reference), commentary=commentary)
    if isinstance(dataset, Examples):
        return artefact.load_part(source, dataset.keys)
    learned = source.manifest.dataset
    check_salt(source.manifest, salt)
    raw = raw_examples(dataset, inputs=inputs, targets=targets)
    keys, _ = dataset_keys(raw, classes=learned.classes, salt=salt if learned.key.salted else None, workers=workers)
    return artefact.load_part(source, keys)
