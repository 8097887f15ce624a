"""Pulling a commentary: only its files, at one revision, from the cache where they are there."""

from __future__ import annotations

import glob
import os
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from commentary_hub.errors import HubNotFound, UnsafeFile
from commentary_hub.hub._failures import hub_errors
from commentary_hub.manifest import ALLOWED_SUFFIXES, MANIFEST_NAME, Reference, read_manifest, verify_folder


def pull(
    reference: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    commentary: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Download the commentary ``reference`` (``owner/name`` or ``owner/name@revision``) and return its folder.

    Without ``folder`` it lies in the cache of ``huggingface_hub`` and is not downloaded twice; offline
    (HF_HUB_OFFLINE=1) the cache answers. ``commentary`` names one that lies in a dataset's own repository under
    ``commentaries/``. The manifest comes first and only the files that it names follow, all of one commit; every file
    is checked against its digest. Raises the leaves of `HubError` and of `ArtefactError`.
    """
    source = Reference.parse(reference)
    api = HfApi(endpoint=endpoint, token=token)
    prefix = f"commentaries/{commentary}/" if commentary else ""
    with hub_errors(f"pulling {source}", source.repo_id, api.endpoint):
        manifest_path = download_manifest(api, source, prefix)
        commit = manifest_path.parents[len(PurePosixPath(prefix).parts)].name
        names = read_manifest(manifest_path.parent).files
        for name in names:
            if PurePosixPath(name).suffix.lower() not in ALLOWED_SUFFIXES:
                raise UnsafeFile(f"{source} wants to bring {name}, which is no part of a commentary", path=name)
        root = Path(
            snapshot_download(
                source.repo_id,
                repo_type="dataset",
                revision=commit,
                allow_patterns=[glob.escape(prefix + name) for name in (*names, MANIFEST_NAME)],
                local_dir=None if folder is None else Path(folder),
                token=token,
                endpoint=endpoint,
            )
        )
    verify_folder(root / prefix)
    return root / prefix


def download_manifest(api: HfApi, source: Reference, prefix: str) -> Path:
    """The manifest's path in the cache, below the folder that is named after its commit."""
    try:
        return Path(
            hf_hub_download(
                source.repo_id,
                prefix + MANIFEST_NAME,
                repo_type="dataset",
                revision=source.revision,
                token=api.token,
                endpoint=api.endpoint,
            )
        )
    except LocalEntryNotFoundError:
        raise
    except EntryNotFoundError as error:
        files = map(PurePosixPath, api.list_repo_files(source.repo_id, repo_type="dataset", revision=source.revision))
        inside = sorted(path.parent.name for path in files if path.match(f"commentaries/*/{MANIFEST_NAME}"))
        advice = f"it has {', '.join(inside)}: name one (commentary=)" if inside else "is it the right name?"
        raise HubNotFound(
            f"{source} at {api.endpoint} holds no {prefix}{MANIFEST_NAME}; {advice}", repo_id=source.repo_id
        ) from error
