"""Files at a revision: tree, paths-info, resolve with ranges and conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from secrets import token_hex
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from commentary_hub_server.routes.hub._addresses import plain
from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.routes.hub._repositories import pointer_bytes, time_text
from commentary_hub_server.rules.repositories import (
    KINDS,
    Commit,
    File,
    Node,
    Opened,
    Repository,
    is_blob,
    object_key,
)

PAGE, EXPANDED_PAGE = 1000, 50
MAX_PATHS = 20_000
_PATHS_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["paths"],
                    "properties": {
                        "paths": {"type": "array", "items": {"type": "string"}, "maxItems": MAX_PATHS},
                        "expand": {"type": "boolean", "default": False},
                    },
                }
            }
        },
    }
}
_PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_RANGES = re.compile(r"bytes=\d{1,18}-\d{1,18}(,[ \t]*\d{1,18}-\d{1,18}){1,99}")


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    for kind in KINDS:
        _add_listing(router, doors, kind)
        _add_paths(router, doors, kind)
        _add_resolve(router, doors, kind)


def _add_listing(router: APIRouter, doors: Doors, kind: str) -> None:
    base = f"/api/{kind}s/{{owner}}/{{name}}"

    def tree(
        request: Request,
        owner: str,
        name: str,
        revision: str,
        path: str = "",
        recursive: bool = False,
        expand: bool = False,
        limit: Annotated[int, Query(ge=1)] = PAGE,
        cursor: str = "",
    ) -> Response:
        repository = doors.repository(request, kind, owner, name)
        commit = doors.commit(repository, revision)
        size = min(limit, EXPANDED_PAGE if expand else PAGE)
        try:
            below = doors.history.files(commit, plain(path).strip("/"), recursive=recursive, after=cursor)
            page = list(islice(below, size + 1))
        except FileNotFoundError as error:
            raise Refused(404, f"{plain(path)!r} does not exist on {plain(revision)!r}", "EntryNotFound") from error
        response = JSONResponse(_lines(doors, repository, commit, page[:size], expand=expand))
        if len(page) > size:
            kept = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
            next_page = doors.here(request, [*kept, ("cursor", page[size - 1][0])])
            response.headers["Link"] = f'<{next_page}>; rel="next"'
        return response

    router.get(f"{base}/tree/{{revision}}", summary="Files and folders", name=f"{kind}_tree")(tree)
    router.get(f"{base}/tree/{{revision}}/{{path:path}}", summary="Below a folder", name=f"{kind}_subtree")(tree)


def _add_paths(router: APIRouter, doors: Doors, kind: str) -> None:
    base = f"/api/{kind}s/{{owner}}/{{name}}"

    def described(
        request: Request, owner: str, name: str, revision: str, paths: list[str], *, expand: bool
    ) -> list[dict[str, Any]]:
        repository = doors.repository(request, kind, owner, name)
        commit = doors.commit(repository, revision)
        wanted = [path.strip("/") for path in paths]
        found = zip(wanted, doors.history.nodes(commit, wanted), strict=True)
        entries = [(path, node) for path, node in found if node is not None and path]
        if expand and len(entries) > PAGE:
            raise Refused(400, f"expand looks at most {PAGE} paths up at once")
        return _lines(doors, repository, commit, entries, expand=expand)

    @router.post(f"{base}/paths-info/{{revision}}", summary="Some paths; missing ones are left out",
                 name=f"{kind}_paths_info", openapi_extra=_PATHS_FORM)  # fmt: skip
    async def paths_info(request: Request, owner: str, name: str, revision: str) -> list[dict[str, Any]]:
        # The form is read here: where a parameter asks for one, the framework takes 1,000 fields.
        try:
            form = await request.form(max_fields=MAX_PATHS + 1)
        except HTTPException as error:
            raise Refused(
                400, f"the form cannot be read: {error.detail}; it has at most {MAX_PATHS:,} paths"
            ) from error
        paths = [path for path in form.getlist("paths") if isinstance(path, str)]
        if len(paths) > MAX_PATHS:
            raise Refused(400, f"at most {MAX_PATHS:,} paths are looked up at once")
        expand = str(form.get("expand", "")).lower() in {"1", "true"}
        return await run_in_threadpool(described, request, owner, name, revision, paths, expand=expand)


def _lines(
    doors: Doors, repository: Repository, commit: Commit, entries: list[tuple[str, Node]], *, expand: bool
) -> list[dict[str, Any]]:
    """Entries as the clients read them; with ``expand`` also the commit that last changed each."""
    large = [node.sha256 for _, node in entries if isinstance(node, File) and node.is_large]
    xet = doors.history.xet_hashes(repository, large)
    last = doors.history.last_commits(repository, commit, [path for path, _ in entries]) if expand else {}
    lines = []
    for path, node in entries:
        size = node.size_bytes if isinstance(node, File) else 0
        line: dict[str, Any] = {"type": "directory", "oid": node.oid, "size": size, "path": path}
        if isinstance(node, File):
            line["type"] = "file"
            if node.is_large:
                line["lfs"] = {"oid": node.sha256, "size": node.size_bytes, "pointerSize": pointer_bytes(node)}
            if node.sha256 in xet:
                line["xetHash"] = xet[node.sha256]
        if path in last:
            by = last[path]
            line["lastCommit"] = {"id": by.id, "title": by.title, "date": time_text(by.created_at)}
        lines.append(line)
    return lines


def _add_resolve(router: APIRouter, doors: Doors, kind: str) -> None:
    prefix = "/datasets" if kind == "dataset" else ""

    def resolve(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        repository = doors.repository(request, kind, owner, name)
        if repository.name.lower() != f"{owner}/{name}".lower():
            target = f"{prefix}/{repository.public_id}/resolve/{quote(plain(revision), safe='')}/{quote(plain(path))}"
            # Without a host: older clients follow no other redirect when they ask for a file's headers.
            return RedirectResponse(f"{urlsplit(doors.base(request)).path}{target}", 307)
        commit = doors.commit(repository, revision)
        opened = doors.history.open(repository, commit, plain(path))
        if opened is None:
            error = Refused(404, f"Entry not found: {plain(path)!r}", "EntryNotFound")
            return _missing_entry(error, commit)
        return _answer(doors, request, repository, opened)

    address = f"{prefix}/{{owner}}/{{name}}/resolve/{{revision}}/{{path:path}}"
    router.get(address, summary="A file at a revision", name=f"{kind}_resolve")(resolve)
    router.head(address, name=f"{kind}_resolve_head", include_in_schema=False)(resolve)


def _missing_entry(error: Refused, commit: Commit) -> Response:
    headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": commit.id}
    return JSONResponse({"error": error.message}, 404, headers)


def _answer(doors: Doors, request: Request, repository: Repository, opened: Opened) -> Response:
    size = opened.file.size_bytes
    etag = opened.file.sha256 if opened.file.is_large else opened.file.oid
    headers = {
        "X-Repo-Commit": opened.commit,
        "ETag": f'"{etag}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
        # What a stranger uploaded is never run by a browser, whatever it claims to be.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(opened.path.rpartition('/')[2])}",
        "Access-Control-Expose-Headers": "X-Repo-Commit, ETag, X-Linked-Size, X-Linked-Etag, X-Error-Code",
    }
    if opened.file.is_large:
        headers |= {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{etag}"'}
    if opened.xet is not None:
        base = doors.base(request)
        kind = "datasets" if repository.kind == "dataset" else "models"
        auth = f"{base}/api/{kind}/{repository.public_id}/xet-read-token/{opened.commit}"
        headers |= {"X-Xet-Hash": opened.xet, "Link": f'<{auth}>; rel="xet-auth"'}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if f'"{etag}"' in known or "*" in known:
        return Response(status_code=304, headers=headers)
    several = _several(request, etag, size)
    if several:
        return _parts(doors, request, repository, opened, several, headers)
    start, end = _range(request, etag, size, headers)
    status = 206 if (start, end) != (0, size) or "content-range" in {h.lower() for h in headers} else 200
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="application/octet-stream")
    return _elsewhere(doors, opened, headers) or StreamingResponse(
        _gathered(doors.history.stream(repository, opened, start, end - start)),
        status,
        headers,
        "application/octet-stream",
    )


def _elsewhere(doors: Doors, opened: Opened, headers: dict[str, str]) -> Response | None:
    """The bytes from a front server or from S3, where that is set."""
    key = object_key(opened.file.sha256)
    is_object = opened.xet is None and not is_blob(opened.file)
    if is_object and doors.accel_prefix is not None and doors.objects.local_path(key) is not None:
        kept = {name: value for name, value in headers.items() if name not in {"Content-Length", "Content-Range"}}
        sent_by_front = kept | {"X-Accel-Redirect": f"{doors.accel_prefix}/{key}"}
        return Response(headers=sent_by_front, media_type="application/octet-stream")
    if is_object and doors.redirect_s is not None:
        url = doors.objects.signed_url(key, doors.redirect_s)
        if url is not None:
            return RedirectResponse(url, 302, {"X-Repo-Commit": opened.commit, "ETag": headers["ETag"]})
    return None


def _parts(
    doors: Doors,
    request: Request,
    repository: Repository,
    opened: Opened,
    spans: list[tuple[int, int]],
    headers: dict[str, str],
) -> Response:
    """Several ranges as one ``multipart/byteranges`` answer."""
    elsewhere = None if request.method == "HEAD" else _elsewhere(doors, opened, headers)
    if elsewhere is not None:
        return elsewhere
    mark = token_hex(16)
    heads = [
        f"\r\n--{mark}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Range: bytes {start}-{end - 1}/{opened.file.size_bytes}\r\n\r\n".encode()
        for start, end in spans
    ]
    last = f"\r\n--{mark}--\r\n".encode()
    size = sum(map(len, heads)) + sum(end - start for start, end in spans) + len(last)
    headers |= {"Content-Length": str(size), "Content-Type": f"multipart/byteranges; boundary={mark}"}
    if request.method == "HEAD":
        return Response(status_code=206, headers=headers)

    def pieces() -> Iterator[bytes | memoryview]:
        for head, (start, end) in zip(heads, spans, strict=True):
            yield head
            yield from doors.history.stream(repository, opened, start, end - start)
        yield last

    return StreamingResponse(_gathered(pieces()), 206, headers)


def _gathered(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in pieces of about 1 MiB: each goes through a thread of its own, and chunks are small."""
    held: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _several(request: Request, etag: str, size: int) -> list[tuple[int, int]]:
    """[start, end) of each of two to a hundred ranges that ascend apart; none where anything else was asked for."""
    text, condition = request.headers.get("range", "").strip(), request.headers.get("if-range")
    if _RANGES.fullmatch(text) is None or (condition is not None and condition.strip() != f'"{etag}"'):
        return []
    edges = [int(edge) for edge in re.findall(r"\d+", text)]
    spans = [(start, min(last + 1, size)) for start, last in zip(edges[::2], edges[1::2], strict=True)]
    apart = all(left[1] <= right[0] for left, right in pairwise(spans))
    return spans if apart and all(start < end for start, end in spans) else []


def _range(request: Request, etag: str, size: int, headers: dict[str, str]) -> tuple[int, int]:
    """[start, end) that was asked for; what is no range, or too many, is answered with the whole file."""
    text = request.headers.get("range", "")
    condition = request.headers.get("if-range")
    found = _RANGE.fullmatch(text.strip())
    if found is None or (condition is not None and condition.strip() != f'"{etag}"') or found[1] == found[2] == "":
        return 0, size
    if found[1] == "":
        start, end = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        end = min(size, int(found[2]) + 1) if found[2] else size
    if start >= end:
        raise Refused(416, f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return start, end
