"""Pushing an artefact: checked, then one atomic commit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi

from commentary_hub.errors import ArtefactError, HubConflict, UnsafeFile
from commentary_hub.hub._failures import hub_errors
from commentary_hub.manifest import (
    EVIDENCE_NAME,
    MANIFEST_NAME,
    Evidence,
    Manifest,
    Reference,
    verify_folder,
)


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where a commentary lies now: ``revision`` is the commit id, ``url`` its page."""

    repo_id: str
    revision: str
    url: str

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.revision}"


def push(
    folder: str | os.PathLike[str],
    reference: str,
    *,
    private: bool | None = None,
    into_dataset: bool = False,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Pushed:
    """Push the artefact in ``folder`` to ``reference`` (``owner/name``, or ``owner/name@branch``).

    Repository and branch are created if they are missing. A repository that holds a commentary already gets a new
    revision; one that holds something else is left alone (`HubConflict`) unless ``into_dataset`` asks for
    ``commentaries/<the commentary's name>/`` inside a dataset's own repository. All files go in one commit, so a push
    that fails changes nothing and can be repeated; files that the hub has are not sent again. ``endpoint`` and
    ``token`` default to HF_ENDPOINT and HF_TOKEN or the ``hf`` login.

    Raises the leaves of `ArtefactError` before anything is sent, and of `HubError`.
    """
    path, target = Path(folder), Reference.parse(reference)
    manifest = _sound(path)
    api = HfApi(endpoint=endpoint, token=token)
    prefix = f"commentaries/{manifest.name}" if into_dataset else ""
    with hub_errors(f"pushing {path} to {target}", target.repo_id, api.endpoint):
        _place(api, target, private=private, prefix=prefix)
        commit = api.upload_folder(
            repo_id=target.repo_id,
            repo_type="dataset",
            folder_path=path,
            path_in_repo=prefix or None,
            revision=target.revision,
            commit_message=message or f"Push commentary {manifest.name}",
            allow_patterns=[*manifest.files, MANIFEST_NAME],
            delete_patterns=["*.safetensors", "*.safetensors.index.json", "plots/*", EVIDENCE_NAME],
        )
        return Pushed(target.repo_id, commit.oid, f"{api.endpoint}/datasets/{target.repo_id}")


def _sound(folder: Path) -> Manifest:
    manifest = verify_folder(folder)
    for name in (*manifest.files, MANIFEST_NAME):
        if (folder / name).is_symlink():
            raise UnsafeFile(f"{folder / name} is a link, which could publish another file: copy it", path=name)
    if (folder / EVIDENCE_NAME).is_file():
        evidence = Evidence.from_json((folder / EVIDENCE_NAME).read_bytes())
        if not evidence.describes(manifest):
            raise ArtefactError(
                f"{folder / EVIDENCE_NAME} was measured with other tensors or settings: evaluate this commentary "
                "again, or remove the file",
                folder=folder,
            )
    return manifest


def _place(api: HfApi, target: Reference, *, private: bool | None, prefix: str) -> None:
    """Make the repository and the branch, or make sure that what is there may get this commit."""
    if not api.repo_exists(target.repo_id, repo_type="dataset"):
        api.create_repo(target.repo_id, repo_type="dataset", private=private, exist_ok=True)
    elif not prefix:
        _check_holds_commentary(api, target)
    branch = target.revision
    # A tag's name is no branch's: where both had it, the tag would be found no more.
    if branch is not None and not api.revision_exists(target.repo_id, branch, repo_type="dataset"):
        api.create_branch(target.repo_id, branch=branch, repo_type="dataset", exist_ok=True)


def _check_holds_commentary(api: HfApi, target: Reference) -> None:
    files = set(api.list_repo_files(target.repo_id, repo_type="dataset")) - {".gitattributes"}
    if files and MANIFEST_NAME not in files:
        raise HubConflict(
            f"{target.repo_id} exists and is not a commentary: choose another name, or push into a dataset's own "
            "repository with into_dataset=True (--into-dataset)",
            repo_id=target.repo_id,
        )
