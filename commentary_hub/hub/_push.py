"""Pushing an artefact: checked, then one atomic commit."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import filter_repo_objects

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

_REPLACED = ["*.safetensors", "*.safetensors.index.json", "plots/*", EVIDENCE_NAME]
"""What goes from the hub where the artefact does not have it any more."""


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
    ``commentaries/<the commentary's name>/`` inside a dataset's own repository, and so is one whose ``.gitignore``
    leaves a file of the artefact out. All files go in one commit, so a push that fails changes nothing and can be
    repeated; files that the hub has are not sent again. ``endpoint`` and ``token`` default to HF_ENDPOINT and HF_TOKEN
    or the ``hf`` login.

    Raises the leaves of `ArtefactError` before anything is sent, and of `HubError`.
    """
    path, target = Path(folder), Reference.parse(reference)
    manifest = _sound(path)
    api = HfApi(endpoint=endpoint, token=token)
    prefix = f"commentaries/{manifest.name}/" if into_dataset else ""
    with hub_errors(f"pushing {path} to {target}", target.repo_id, api.endpoint):
        _place(api, target, private=private, prefix=prefix)
        files = {f"{prefix}{name}": path / name for name in (*manifest.files, MANIFEST_NAME)}
        commit = _commit(api, target, files, prefix=prefix, message=message or f"Push commentary {manifest.name}")
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
        if EVIDENCE_NAME not in manifest.files:
            raise ArtefactError(
                f"{folder / EVIDENCE_NAME} is not in the manifest and would not be sent: attach it first "
                "(commentary_hub.artefact.attach), or remove the file",
                folder=folder,
            )
    return manifest


def _commit(api: HfApi, target: Reference, files: dict[str, Path], *, prefix: str, message: str) -> CommitInfo:
    """Commit ``files`` (path in the repository → file) and delete what they replace below ``prefix``.

    Raises `HubConflict` before the commit where the repository's ``.gitignore`` hides one: the client would leave it
    out without a word.
    """
    repo_id, revision = target.repo_id, target.revision
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
    api.preupload_lfs_files(repo_id, additions, repo_type="dataset", revision=revision, free_memory=False)
    hidden = [addition.path_in_repo for addition in additions if addition._should_ignore]
    if hidden:
        raise HubConflict(
            f"the .gitignore in {repo_id} hides {', '.join(hidden)}: take the pattern out of it and push again",
            repo_id=repo_id,
        )
    there = api.list_repo_files(repo_id, repo_type="dataset", revision=revision)
    older = [name.removeprefix(prefix) for name in there if name.startswith(prefix)]
    replaced = [prefix + name for name in filter_repo_objects(older, allow_patterns=_REPLACED)]
    deletions = [CommitOperationDelete(name, is_folder=False) for name in replaced if name not in files]
    return api.create_commit(
        repo_id, [*deletions, *additions], commit_message=message, repo_type="dataset", revision=revision
    )


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
