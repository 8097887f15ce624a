"""Uploading: preupload says how each file travels, commit makes all of them visible at once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from commentary_hub.errors import ArtefactError, InputError
from commentary_hub.manifest import split_card
from commentary_hub_server.routes.bodies import spooled
from commentary_hub_server.routes.hub._addresses import plain
from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.routes.hub._repositories import Payload
from commentary_hub_server.rules.repositories import (
    IGNORE_NAME,
    KINDS,
    MAX_IGNORE_BYTES,
    Change,
    Commit,
    File,
    Repository,
    check_path,
    ignored,
)

MAX_INLINE_BYTES = 1 << 20  # a larger file, or one that is not text, goes by Xet or LFS
LARGE_BODY_BYTES = 8 << 20  # from here on, few at a time: a body takes several times its size while it is read
LARGE_BODIES = 2
MAX_FILES = 20_000
MAX_OPERATIONS = 50_000
MAX_LINE_BYTES = 64 << 10  # of a commit; only a file's is longer, and its content is base64
MAX_MARKS = 20  # of the brackets and commas in such a line: values of JSON take a hundred times their text


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""

    @router.post("/api/validate-yaml", summary="Check a card's metadata")
    def validate_yaml(payload: Payload) -> Response:
        try:
            split_card(str(payload.get("content", "")))
        except ArtefactError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    large = asyncio.Semaphore(LARGE_BODIES)
    for kind in KINDS:
        _add(router, doors, kind, large)


def _add(router: APIRouter, doors: Doors, kind: str, large: asyncio.Semaphore) -> None:
    base = f"/api/{kind}s/{{owner}}/{{name}}"

    @router.post(f"{base}/preupload/{{revision}}", summary="How will each file travel?", name=f"{kind}_preupload")
    def preupload(request: Request, owner: str, name: str, revision: str, payload: Payload) -> dict[str, Any]:
        repository = doors.repository(request, kind, owner, name, write=True)
        commit = doors.commit(repository, revision)
        asked = payload.get("files", [])
        if not isinstance(asked, list) or len(asked) > MAX_FILES:
            raise Refused(400, f"files is a list of at most {MAX_FILES}")
        if not all(isinstance(line, dict) for line in asked):
            raise Refused(400, "each of files is an object with path, size and sample")
        paths = [check_path(str(line.get("path", ""))) for line in asked]
        hidden = ignored(_gitignore(doors, repository, commit, payload), paths)
        answer = []
        for line, path, known in zip(asked, paths, doors.history.nodes(commit, paths), strict=True):
            mode = "regular" if _is_inline(line) else "lfs"
            fresh: dict[str, Any] = {"path": path, "uploadMode": mode, "shouldIgnore": path in hidden}
            if isinstance(known, File):
                fresh["oid"] = known.sha256 if known.is_large else known.oid
            answer.append(fresh)
        return {"files": answer}

    @router.post(f"{base}/commit/{{revision}}", summary="Commit, all or nothing", name=f"{kind}_commit")
    async def commit(request: Request, owner: str, name: str, revision: str, create_pr: bool = False) -> dict[str, Any]:
        # Who may not write here sends nothing: the body is read last.
        await run_in_threadpool(doors.repository, request, kind, owner, name, write=True)
        if create_pr:
            raise Refused(400, "Pull requests are not hosted here: commit to a branch")
        # Who sends slowly keeps nobody waiting: all of it has arrived before its turn comes.
        async with (
            spooled(request.stream(), doors.spools) as (body, size),
            large if size > LARGE_BODY_BYTES else nullcontext(),
        ):
            return await run_in_threadpool(apply, request, owner, name, revision, body)

    def apply(request: Request, owner: str, name: str, revision: str, body: Iterable[bytes]) -> dict[str, Any]:
        header, changes = _parse(body)
        # A body may take long to arrive: what counts is who may write now.
        repository = doors.repository(request, kind, owner, name, write=True)
        profile = doors.demand_user(request)
        assert profile.user is not None
        for change in changes:
            if change.sha256 is not None:
                _take_xet(doors, repository, change.sha256)
        doors.commit(repository, revision)
        made = doors.history.commit(
            repository,
            plain(revision),
            changes,
            title=str(header.get("summary") or "Commit"),
            message=str(header.get("description") or ""),
            author=profile.user.name,
            parent=header.get("parentCommit") or None,
        )
        web = f"{doors.base(request)}{'/datasets' if kind == 'dataset' else ''}/{repository.name}/commit/{made.id}"
        return {"success": True, "commitOid": made.id, "commitUrl": web, "hookOutput": ""}


def _gitignore(doors: Doors, repository: Repository, commit: Commit, payload: dict[str, Any]) -> str:
    """The ``.gitignore`` that the client sends along, or else the repository's own."""
    given = payload.get("gitIgnore")
    if given is not None:
        if not isinstance(given, str):
            raise Refused(400, "gitIgnore is the text of a .gitignore")
        return given
    opened = doors.history.open(repository, commit, IGNORE_NAME)
    return (
        ""
        if opened is None
        else doors.history.read(repository, opened, 0, MAX_IGNORE_BYTES + 1).decode("utf-8", "replace")
    )


def _is_inline(line: dict[str, Any]) -> bool:
    """Whether a file is small text (an empty one always is)."""
    size = line.get("size")
    if not isinstance(size, int) or size > MAX_INLINE_BYTES:
        return False
    try:
        sample = base64.b64decode(str(line.get("sample", "")))
        sample.decode()
    except UnicodeDecodeError as error:
        return error.end == len(sample) and error.reason == "unexpected end of data"  # a character cut in two
    except (binascii.Error, ValueError):
        return False
    return b"\0" not in sample


def _take_xet(doors: Doors, repository: Repository, sha256: str) -> None:
    """Hold a file that came by Xet under its SHA-256, so that the commit finds it."""
    if doors.history.holds(repository, sha256) is not None:
        return
    found = doors.xet.by_sha256(str(repository.id), sha256)
    if found is not None:
        name, size = found
        doors.history.note_upload(repository, sha256, size, xet=name)


def _parse(lines: Iterable[bytes]) -> tuple[dict[str, Any], list[Change]]:
    """The commit's header and its changes; raises `InputError` for what is not NDJSON of known operations."""
    header: dict[str, Any] = {}
    changes: list[Change] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if len(line) > MAX_LINE_BYTES and sum(map(line.count, (b"[", b"{", b","))) > MAX_MARKS:
                raise InputError(_too_long(number))
            row = json.loads(line)
            key, value = row["key"], row["value"]
            if len(line) > MAX_LINE_BYTES and key != "file":
                raise InputError(_too_long(number))
            if key == "header":
                header = dict(value)
            else:
                changes.append(_change(key, value))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"line {number} of the commit is not an operation: {error}") from error
        if len(changes) > MAX_OPERATIONS:
            raise InputError(f"a commit has at most {MAX_OPERATIONS:,} operations: make several")
    return header, changes


def _too_long(number: int) -> str:
    return (
        f"line {number} of the commit has more than {MAX_LINE_BYTES:,} bytes: only a file's line may, whose content is "
        "base64"
    )


def _change(key: str, value: dict[str, Any]) -> Change:
    path = str(value["path"])
    if key == "file":
        if value.get("encoding", "base64") == "base64":
            return Change(path, data=base64.b64decode(value["content"], validate=True))
        return Change(path, data=str(value["content"]).encode())
    if key == "lfsFile":
        oid = str(value["oid"])
        if value.get("algo", "sha256") != "sha256" or len(oid) != 64 or not set(oid) <= set("0123456789abcdef"):
            raise InputError(f"{path!r}: an object is named by its sha256 in hex")
        size = value.get("size")
        if size is not None and not isinstance(size, int):
            raise InputError(f"{path!r}: size is the number of its bytes")
        return Change(path, sha256=oid, size_bytes=size)
    if key == "deletedFile":
        return Change(path, delete_file=True)
    if key == "deletedFolder":
        return Change(path.rstrip("/"), delete_folder=True)
    raise InputError(f"{key!r} is no operation of a commit")
