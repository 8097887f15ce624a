"""Loading by name: a folder on disk, or a commentary on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from commentary_hub import artefact, hub
from commentary_hub.artefact import StoredCommentary
from commentary_hub.errors import ManifestMissing, ReferenceSyntaxError


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
        return artefact.load(hub.pull(str(reference), commentary=commentary))
    except ReferenceSyntaxError:
        raise ManifestMissing(
            f"{reference} is neither a folder nor a commentary's name on the hub (owner/name)", folder=path
        ) from None
