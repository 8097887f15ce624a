"""Git LFS: batches, basic and multipart uploads by signed, expiring addresses, listing and deletion."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response, StreamingResponse

from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.routes.hub._repositories import Payload, _base
from commentary_hub_server.rules.repositories import KINDS, Repository, object_key
from commentary_hub_server.rules.uploads import Uploads
from commentary_hub_server.rules.xet import GrantRefused

LINK_S = 6 * 3600
MULTIPART_BYTES = 64 << 20  # above this, parts of this size
MAX_OBJECT_BYTES = 1 << 40
MAX_BATCH = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    uploads = Uploads(doors.objects)
    for kind in KINDS:
        _add_batch(router, doors, kind)
    _add_uploads(router, doors, uploads)


def _add_batch(router: APIRouter, doors: Doors, kind: str) -> None:
    prefix = "/datasets" if kind == "dataset" else ""

    @router.post(f"{prefix}/{{owner}}/{{name}}.git/info/lfs/objects/batch", summary="LFS batch", name=f"{kind}_lfs")
    def batch(request: Request, owner: str, name: str, payload: Payload) -> Response:
        operation = payload.get("operation")
        if operation not in {"upload", "download"}:
            raise Refused(422, "operation is upload or download")
        repository = doors.repository(request, kind, owner, name, write=operation == "upload")
        objects = payload.get("objects")
        if not isinstance(objects, list) or len(objects) > MAX_BATCH:
            raise Refused(413, f"objects is a list of at most {MAX_BATCH}")
        multipart = "multipart" in payload.get("transfers", [])
        answers = [_object(doors, request, repository, line, operation, multipart=multipart) for line in objects]
        chosen = "multipart" if any("chunk_size" in str(answer) for answer in answers) else "basic"
        body = {"transfer": chosen, "objects": answers, "hash_algo": "sha256"}
        return JSONResponse(body, media_type="application/vnd.git-lfs+json")

    @router.get(f"/api/{kind}s/{{owner}}/{{name}}/lfs-files", summary="Large files", name=f"{kind}_lfs_files")
    def listing(request: Request, owner: str, name: str) -> list[dict[str, Any]]:
        repository = doors.repository(request, kind, owner, name)
        head = doors.commit(repository, "main")
        return [
            {"fileOid": node.sha256, "filename": path, "oid": node.sha256, "size": node.size_bytes, "ref": "main",
             "pushedAt": "1970-01-01T00:00:00.000Z", "pusher": None}
            for path, node in doors.history.large_files(head)
        ]  # fmt: skip


def _object(
    doors: Doors, request: Request, repository: Repository, line: dict[str, Any], operation: str, *, multipart: bool
) -> dict[str, Any]:
    oid, size = str(line.get("oid")), line.get("size")
    answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
    if not _SHA256.fullmatch(oid) or not isinstance(size, int) or not 0 <= size <= MAX_OBJECT_BYTES:
        return answer | {"error": {"code": 422, "message": "an object has a sha256 and a size"}}
    held = doors.history.holds(repository, oid)
    base, expires = _base(request), int(time.time()) + LINK_S
    if operation == "download":
        if held is None:
            return answer | {"error": {"code": 404, "message": "no such object in this repository"}}
        href = f"{base}/lfs/{doors.signer.sign('lfs-get', repository.id, oid, held, expires)}"
        return answer | {"actions": {"download": {"href": href, "expires_in": LINK_S}}}
    if held is not None:
        return answer
    doors.check_quota(repository.owner, size)
    verify = {"href": f"{base}/lfs/verify/{doors.signer.sign('lfs-verify', repository.id, oid, size, expires)}"}
    if multipart and size > MULTIPART_BYTES:
        count = -(-size // MULTIPART_BYTES)
        parts = {
            f"{number:05d}": f"{base}/lfs/part/"
            f"{doors.signer.sign('lfs-part', repository.id, oid, size, number, expires)}"
            for number in range(1, count + 1)
        }
        done = f"{base}/lfs/complete/{doors.signer.sign('lfs-done', repository.id, oid, size, count, expires)}"
        upload = {"href": done, "header": {"chunk_size": str(MULTIPART_BYTES), **parts}}
    else:
        upload = {"href": f"{base}/lfs/put/{doors.signer.sign('lfs-put', repository.id, oid, size, expires)}"}
    return answer | {"actions": {"upload": upload, "verify": verify}}


def _opened(doors: Doors, purpose: str, token: str) -> list[Any]:
    """The fields of a link that this hub signed and that has not expired."""
    try:
        fields = doors.signer.open(purpose, token)
    except (GrantRefused, ValueError) as error:
        raise Refused(403, f"the link is not valid: {error}") from error
    if int(fields[-1]) <= time.time():
        raise Refused(403, "the link has expired: ask for a new batch")
    return fields[:-1]


def _target(doors: Doors, number: int) -> Repository:
    found = doors.repositories.by_id(number)
    if found is None:
        raise Refused(404, "Repository not found", "RepoNotFound")
    return found


def _add_uploads(router: APIRouter, doors: Doors, uploads: Uploads) -> None:
    @router.put("/lfs/put/{token}", summary="An object's bytes")
    async def put(request: Request, token: str) -> Response:
        number, oid, size = _opened(doors, "lfs-put", token)
        target = await run_in_threadpool(_target, doors, number)
        async with uploads.receiving(request.stream(), size) as spool:
            await run_in_threadpool(uploads.keep, spool, oid, size)
        await run_in_threadpool(doors.history.note_upload, target, oid, size)
        return Response(status_code=200)

    @router.put("/lfs/part/{token}", summary="A part of an object")
    async def part(request: Request, token: str) -> Response:
        number, oid, size, index = _opened(doors, "lfs-part", token)
        length = min(MULTIPART_BYTES, size - (index - 1) * MULTIPART_BYTES)
        async with uploads.receiving(request.stream(), length) as spool:
            etag = await run_in_threadpool(uploads.keep_part, spool, f"{number}-{oid}", index, length)
        return Response(status_code=200, headers={"ETag": f'"{etag}"'})

    @router.post("/lfs/complete/{token}", summary="All parts are there")
    def complete(token: str) -> Response:
        number, oid, size, count = _opened(doors, "lfs-done", token)
        target = _target(doors, number)
        if doors.history.holds(target, oid) is None:
            uploads.join(f"{number}-{oid}", count, oid, size)
            doors.history.note_upload(target, oid, size)
        return JSONResponse({"success": True})

    @router.post("/lfs/verify/{token}", summary="Is it there?")
    def verify(token: str) -> Response:
        number, oid, size = _opened(doors, "lfs-verify", token)
        if doors.history.holds(_target(doors, number), oid) != size:
            raise Refused(404, "the object has not arrived: upload it again")
        return JSONResponse({"success": True})

    @router.get("/lfs/{token}", summary="An object by a signed link")
    def get(token: str) -> Response:
        number, oid, size = _opened(doors, "lfs-get", token)
        _target(doors, number)

        def pieces() -> Iterator[bytes]:
            yield from doors.objects.stream(object_key(str(oid)), 0, int(size))

        return StreamingResponse(pieces(), 200, {"Content-Length": str(size)}, "application/octet-stream")
