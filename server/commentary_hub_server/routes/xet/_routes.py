"""The Xet protocol over HTTP: parse, call the service, render."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal, NamedTuple

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from commentary_hub_server.routes.bodies import spooled
from commentary_hub_server.rules.uploads import hand_on
from commentary_hub_server.rules.xet import (
    MAX_BODY_BYTES,
    GrantRefused,
    Scope,
    Unknown,
    XetRefused,
    XetService,
    from_text,
)

TOKEN_S = 3600
SHARDS = 2  # verified at once: each reads all its files

# A content-addressed store for each token, repository and epoch: clients remember by its address what they may read.
CAS = "/cas/{place}"


class Allowed(NamedTuple):
    """What a caller may reach: ``token`` numbers their token, ``epoch`` grows with each deletion for good."""

    user: str
    repo: str
    token: int
    epoch: int = 0


# (request, repository type, repository id, "read" or "write") → what is allowed. It raises the same not-found reply for
# a repository that is missing and for one that the caller may not read.
Authorise = Callable[[Request, str, str, str], Allowed]
# (canonical repository key, bytes, of what) → nothing, or the refusal of an owner without room.
Admit = Callable[[str, int, Literal["xorb", "files"]], None]
Base = Callable[[Request], str]


def asked_base(request: Request) -> str:
    """The hub's address as this request reached it."""
    return str(request.base_url).rstrip("/")


def build_router(
    service: XetService,
    authorise: Authorise,
    admit: Admit = lambda _repo, _size, _what: None,
    base: Base = asked_base,
    spools: Path | None = None,
) -> APIRouter:
    """Return the routes of token exchange, chunk lookup, uploads (large ones wait in ``spools``) and reconstruction."""
    router, cas = APIRouter(), APIRouter(prefix=CAS)
    _add_tokens(router, service, authorise, base)
    _add_uploads(cas, service, admit, spools)
    _add_reading(cas, service, base)
    for path in ("/v1/xorb-grants/default/{digest}", "/v2/shards", "/v1/telemetry"):
        # Clients ask for these first and go on without them at a 404, at nothing else.
        cas.post(path, include_in_schema=False, name=path)(_not_here)
    router.include_router(cas)
    return router


def _not_here() -> None:
    raise HTTPException(404)


def _add_tokens(router: APIRouter, service: XetService, authorise: Authorise, base: Base) -> None:
    @router.get("/api/{kind}s/{repo:path}/xet-{permission}-token/{revision:path}")
    def token(request: Request, kind: str, repo: str, permission: str, revision: str) -> Response:  # noqa: ARG001 - one token serves every revision
        if kind not in ("model", "dataset") or permission not in ("read", "write"):
            raise HTTPException(404)
        allowed = authorise(request, kind, repo, permission)
        expires = int(time.time()) + TOKEN_S
        access = service.signer.grant(Scope(allowed.user, allowed.repo, permission, expires, allowed.token))
        cas = base(request) + CAS.format(place=service.signer.name("cas", allowed.token, allowed.repo, allowed.epoch))
        headers = {"X-Xet-Cas-Url": cas, "X-Xet-Access-Token": access, "X-Xet-Token-Expiration": str(expires)}
        return JSONResponse({"casUrl": cas, "accessToken": access, "exp": expires}, headers=headers)


def _add_uploads(router: APIRouter, service: XetService, admit: Admit, spools: Path | None) -> None:
    scoped, shards = _scoped(service), asyncio.Semaphore(SHARDS)

    @router.get("/v1/chunks/default/{digest}")
    def chunk(digest: str, scope: Annotated[Scope, Depends(scoped)]) -> Response:
        try:
            return Response(service.known_chunk(scope, _hash(digest)), media_type="application/octet-stream")
        except Unknown as error:
            raise HTTPException(404) from error

    @router.post("/v1/xorbs/default/{digest}")
    async def xorb(digest: str, request: Request, scope: Annotated[Scope, Depends(scoped)]) -> dict[str, bool]:
        _must_write(scope)
        with _refusing(), service.receiving_xorb(_hash(digest)) as upload:
            await hand_on(_bounded(request), upload.take)
            new = await run_in_threadpool(
                service.keep_xorb, scope, upload, lambda size: admit(scope.repo, size, "xorb")
            )
        return {"was_inserted": new}

    @router.post("/v1/shards")
    async def shard(request: Request, scope: Annotated[Scope, Depends(scoped)]) -> dict[str, int]:
        _must_write(scope)

        def accept(body: IO[bytes]) -> bool:
            return service.accept_shard(scope, body.read(), lambda size: admit(scope.repo, size, "files"))

        async with spooled(_bounded(request), spools) as (body, _), shards:
            with _refusing():
                new = await run_in_threadpool(accept, body)
        return {"result": int(new)}


def _add_reading(router: APIRouter, service: XetService, base: Base) -> None:
    scoped = _scoped(service)

    @router.get("/v1/reconstructions/{digest}")
    def reconstruct(
        place: str, digest: str, request: Request, scope: Annotated[Scope, Depends(scoped)]
    ) -> dict[str, object]:
        start, end = _range(request.headers.get("range"))
        address = base(request) + CAS.format(place=place)
        try:
            return service.reconstruction(
                scope, _hash(digest), lambda token: f"{address}/v1/xorb-bytes/{token}", start, end
            )
        except Unknown as error:
            raise HTTPException(404) from error
        except IndexError as error:
            raise HTTPException(416, str(error)) from error

    @router.get("/v1/xorb-bytes/{token}")
    def xorb_bytes(token: str, request: Request) -> Response:
        try:
            xorb, first, last = service.linked(token)
        except GrantRefused as error:
            raise HTTPException(403, str(error)) from error
        start, end = _range(request.headers.get("range"))
        low, high = max(start, first), min(end or last, last)
        if low >= high:
            raise HTTPException(416)
        try:
            pieces = service.stored(xorb, low, high)
        except Unknown as error:
            raise HTTPException(404) from error
        headers = {"Content-Range": f"bytes {low}-{high - 1}/*", "Content-Length": str(high - low)}
        return StreamingResponse(pieces, 206, headers, "application/octet-stream")


def _scoped(service: XetService) -> Callable[[Request], Scope]:
    def scope(request: Request) -> Scope:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise HTTPException(401)
        try:
            found = service.scope(token)
        except GrantRefused as error:
            raise HTTPException(401, str(error)) from error
        if found.user:
            request.state.caller = found.user  # for the rate limit
        return found

    return scope


def _must_write(scope: Scope) -> None:
    if not scope.writes:
        raise HTTPException(403, "this token reads only")


def _hash(text: str) -> bytes:
    try:
        return from_text(text)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except XetRefused as error:
        raise HTTPException(400, str(error)) from error


async def _bounded(request: Request) -> AsyncIterator[bytes]:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise HTTPException(413, f"at most {MAX_BODY_BYTES} bytes", {"Connection": "close"})
        yield piece


def _range(header: str | None) -> tuple[int, int | None]:
    """Read ``bytes=a-b`` as [a, b + 1); other forms are not part of this protocol."""
    if header is None:
        return 0, None
    unit, _, span = header.partition("=")
    first, _, last = span.partition("-")
    if unit != "bytes" or not first.isdecimal() or not (last.isdecimal() or last == "") or len(span) > 40:
        raise HTTPException(416)
    return int(first), int(last) + 1 if last else None
