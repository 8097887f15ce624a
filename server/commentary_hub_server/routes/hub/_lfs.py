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
from commentary_hub_server.routes.hub._repositories import Payload, time_text
from commentary_hub_server.rules.repositories import KINDS, SHORT, File, Opened, Repository
from commentary_hub_server.rules.uploads import Uploads
from commentary_hub_server.rules.xet import GrantRefused

LINK_S, DOWNLOAD_S = 6 * 3600, 3600
MULTIPART_BYTES = 64 << 20  # above this, parts of this size
MAX_OBJECT_BYTES = 1 << 40
MAX_PARTS = 1000  # of one object; a larger object has larger parts
MAX_BATCH, MAX_BATCH_PARTS = 1000, 10_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    for kind in KINDS:
        _add_batch(router, doors, kind)
        _add_files(router, doors, kind)
    _add_uploads(router, doors, doors.uploads)
    _add_links(router, doors)


def _add_batch(router: APIRouter, doors: Doors, kind: str) -> None:
    prefix = "/datasets" if kind == "dataset" else ""

    @router.post(f"{prefix}/{{owner}}/{{name}}.git/info/lfs/objects/batch", summary="LFS batch", name=f"{kind}_lfs")
    def batch(request: Request, owner: str, name: str, payload: Payload) -> Response:
        operation = payload.get("operation")
        if operation not in ("upload", "download"):
            raise Refused(422, "operation is upload or download")
        repository = doors.repository(request, kind, owner, name, write=operation == "upload")
        objects = payload.get("objects")
        if not isinstance(objects, list) or len(objects) > MAX_BATCH or not all(isinstance(o, dict) for o in objects):
            raise Refused(413, f"objects is a list of at most {MAX_BATCH}")
        transfers = payload.get("transfers")
        multipart = operation == "upload" and isinstance(transfers, list) and "multipart" in transfers
        if multipart and sum(_parts_of(line.get("size"))[1] for line in objects) > MAX_BATCH_PARTS:
            raise Refused(413, f"a batch has at most {MAX_BATCH_PARTS} parts: send several")
        if operation == "upload":
            doors.quota.demand(repository.owner, _fresh_bytes(doors, repository, objects), arriving=True)
        answers = [_object(doors, request, repository, line, operation, multipart=multipart) for line in objects]
        chosen = "multipart" if any("chunk_size" in str(answer) for answer in answers) else "basic"
        body = {"transfer": chosen, "objects": answers, "hash_algo": "sha256"}
        return JSONResponse(body, media_type="application/vnd.git-lfs+json")


def _add_files(router: APIRouter, doors: Doors, kind: str) -> None:
    base = f"/api/{kind}s/{{owner}}/{{name}}/lfs-files"

    @router.get(base, summary="Large files of all revisions", name=f"{kind}_lfs_files")
    def listing(request: Request, owner: str, name: str) -> list[dict[str, Any]]:
        repository = doors.repository(request, kind, owner, name)
        return [
            {"fileOid": one.sha256, "filename": one.path, "oid": one.sha256, "size": one.size_bytes, "ref": one.ref,
             "pushedAt": time_text(one.pushed_at), "pusher": None}
            for one in doors.history.large_files(repository)
        ]  # fmt: skip

    @router.post(f"{base}/batch", summary="Delete large files for good", name=f"{kind}_lfs_delete")
    def delete(request: Request, owner: str, name: str, payload: Payload) -> dict[str, Any]:
        repository = doors.repository(request, kind, owner, name, write=True)
        asked = payload.get("deletions")
        sha256s = asked.get("sha") if isinstance(asked, dict) else None
        if not isinstance(sha256s, list) or len(sha256s) > MAX_BATCH or not all(map(_is_sha256, sha256s)):
            raise Refused(400, f"deletions.sha is a list of at most {MAX_BATCH} sha256")
        doors.history.remove(repository, sha256s)
        return {"success": True}

    @router.post(f"{base}/duplicate", summary="Take large files to another repository", name=f"{kind}_lfs_copy")
    def duplicate(request: Request, owner: str, name: str, payload: Payload) -> dict[str, Any]:
        source = doors.repository(request, kind, owner, name)
        aim, asked = payload.get("target"), payload.get("files")
        if not isinstance(aim, dict) or not isinstance(asked, list) or len(asked) > MAX_BATCH:
            raise Refused(400, f"target is an object, files a list of at most {MAX_BATCH}")
        to_owner, _, to_name = str(aim.get("name", "")).rpartition("/")
        target = doors.repository(request, str(aim.get("type")), to_owner or SHORT, to_name, write=True)
        done, failed = [], []
        for line in asked:
            sha256 = str(line.get("sha256", "")) if isinstance(line, dict) else ""
            if _copy(doors, source, target, sha256):
                done.append({"sha256": sha256})
            else:
                failed.append({"sha256": sha256, "error": "no such object in this repository"})
        return {"success": done, "failed": failed}


def _copy(doors: Doors, source: Repository, target: Repository, sha256: str) -> bool:
    """Let the target hold what the source holds; ``False`` where the source does not."""
    size = doors.history.holds(source, sha256)
    if size is None:
        return False
    if doors.history.holds(target, sha256) is not None:
        return True
    doors.quota.demand(target.owner, size)
    xet = doors.history.xet_hashes(source, [sha256]).get(sha256)
    if xet is not None and not doors.xet.copy_file(str(source.id), str(target.id), xet):
        return False
    doors.history.note_upload(target, sha256, size, xet)
    return True


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _object(
    doors: Doors, request: Request, repository: Repository, line: dict[str, Any], operation: str, *, multipart: bool
) -> dict[str, Any]:
    oid, size = str(line.get("oid")), line.get("size")
    answer: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
    if not _SHA256.fullmatch(oid) or type(size) is not int or not 0 <= size <= MAX_OBJECT_BYTES:
        return answer | {"error": {"code": 422, "message": "an object has a sha256 and a size"}}
    held = doors.history.holds(repository, oid)
    base, now, by = doors.base(request), int(time.time()), doors.profile(request).token_id
    expires = now + LINK_S
    if operation == "download":
        if held is None:
            return answer | {"error": {"code": 404, "message": "no such object in this repository"}}
        href = f"{base}/lfs/{doors.signer.sign('lfs-get', repository.id, oid, held, by, now + DOWNLOAD_S)}"
        return answer | {"actions": {"download": {"href": href, "expires_in": DOWNLOAD_S}}}
    if held is not None:
        return answer
    verify = {"href": f"{base}/lfs/verify/{doors.signer.sign('lfs-verify', repository.id, oid, size, by, expires)}"}
    if multipart and size > MULTIPART_BYTES:
        length, count = _parts_of(size)
        parts = {
            f"{number:05d}": f"{base}/lfs/part/"
            f"{doors.signer.sign('lfs-part', repository.id, oid, size, number, by, expires)}"
            for number in range(1, count + 1)
        }
        done = f"{base}/lfs/complete/{doors.signer.sign('lfs-done', repository.id, oid, size, count, by, expires)}"
        upload = {"href": done, "header": {"chunk_size": str(length), **parts}}
    else:
        upload = {"href": f"{base}/lfs/put/{doors.signer.sign('lfs-put', repository.id, oid, size, by, expires)}"}
    return answer | {"actions": {"upload": upload, "verify": verify}}


def _fresh_bytes(doors: Doors, repository: Repository, objects: list[dict[str, Any]]) -> int:
    """What a batch would add to the repository."""
    sizes = {str(line.get("oid")): line.get("size") for line in objects}
    return sum(
        max(0, size)
        for oid, size in sizes.items()
        if type(size) is int and doors.history.holds(repository, oid) is None
    )


def _demand(doors: Doors, target: Repository, oid: str, more_bytes: int) -> None:
    """Room for an object's bytes, before they are read; none is needed for what is sent again."""
    if doors.history.holds(target, oid) is None:
        doors.quota.demand(target.owner, more_bytes, arriving=True)


def _parts_of(size: object) -> tuple[int, int]:
    """(bytes of each part, number of parts) of an object in a multipart upload."""
    if type(size) is not int or size <= MULTIPART_BYTES:
        return MULTIPART_BYTES, 1
    length = max(MULTIPART_BYTES, -(-size // MAX_PARTS))
    return length, -(-size // length)


def _opened(doors: Doors, purpose: str, token: str) -> list[Any]:
    """The fields of a link that this hub signed and that has not expired."""
    try:
        fields = doors.signer.open(purpose, token)
    except (GrantRefused, ValueError) as error:
        raise Refused(403, f"the link is not valid: {error}") from error
    if int(fields[-1]) <= time.time():
        raise Refused(403, "the link has expired: ask for a new batch")
    return fields[:-1]


def _target(doors: Doors, number: int, by: int, *, write: bool = True) -> Repository:
    """The repository of a link, which is worth what the token that asked for it may now."""
    found, profile = doors.repositories.by_id(number), doors.directory.by_token_id(by)
    if found is None or not profile.may_read(found.key, private=found.private):
        raise Refused(404, "Repository not found", "RepoNotFound")
    if write and not profile.may_write(found.key):
        raise Refused(403, f"The token that asked for this link may not write to {found.name} any more")
    return found


def _add_uploads(router: APIRouter, doors: Doors, uploads: Uploads) -> None:
    @router.put("/lfs/put/{token}", summary="An object's bytes")
    async def put(request: Request, token: str) -> Response:
        number, oid, size, by = _opened(doors, "lfs-put", token)
        target = await run_in_threadpool(_target, doors, number, by)
        await run_in_threadpool(_demand, doors, target, oid, size)
        async with uploads.receiving(request.stream(), size) as body:
            await run_in_threadpool(uploads.keep, body, oid)
        await run_in_threadpool(doors.history.note_upload, target, oid, size)
        return Response(status_code=200)

    @router.put("/lfs/part/{token}", summary="A part of an object")
    async def part(request: Request, token: str) -> Response:
        number, oid, size, index, by = _opened(doors, "lfs-part", token)
        target = await run_in_threadpool(_target, doors, number, by)
        each, _ = _parts_of(size)
        length = min(each, size - (index - 1) * each)
        upload = f"{number}-{oid}"
        more = length - await run_in_threadpool(uploads.part_bytes, upload, index)  # it replaces what came before
        await run_in_threadpool(_demand, doors, target, oid, more)
        async with uploads.receiving(request.stream(), length) as body:
            etag = await run_in_threadpool(uploads.keep_part, body, upload, index)
        return Response(status_code=200, headers={"ETag": f'"{etag}"'})

    @router.post("/lfs/complete/{token}", summary="All parts are there")
    def complete(token: str) -> Response:
        number, oid, size, count, by = _opened(doors, "lfs-done", token)
        target = _target(doors, number, by)
        if doors.history.holds(target, oid) is None:
            uploads.join(f"{number}-{oid}", count, oid, size)
            doors.history.note_upload(target, oid, size)
        uploads.forget_parts(f"{number}-{oid}", count)
        return JSONResponse({"success": True})


def _add_links(router: APIRouter, doors: Doors) -> None:

    @router.post("/lfs/verify/{token}", summary="Is it there?")
    def verify(token: str) -> Response:
        number, oid, size, by = _opened(doors, "lfs-verify", token)
        if doors.history.holds(_target(doors, number, by), oid) != size:
            raise Refused(404, "the object has not arrived: upload it again")
        return JSONResponse({"success": True})

    @router.get("/lfs/{token}", summary="An object by a signed link")
    def get(token: str) -> Response:
        number, oid, size, by = _opened(doors, "lfs-get", token)
        repository = _target(doors, number, by, write=False)
        if doors.history.holds(repository, oid) is None:
            raise Refused(404, "no such object in this repository")
        xet = doors.history.xet_hashes(repository, [oid]).get(oid)
        opened = Opened("", "", File("", size, oid, is_large=True), xet)

        def pieces() -> Iterator[bytes]:
            for piece in doors.history.stream(repository, opened, 0, size):
                yield bytes(piece)

        return StreamingResponse(pieces(), 200, {"Content-Length": str(size)}, "application/octet-stream")
