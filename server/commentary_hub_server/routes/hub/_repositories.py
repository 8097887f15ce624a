"""Repositories: create, delete, move, settings, info, list."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from commentary_hub.errors import HubConflict
from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.rules.accounts import Profile
from commentary_hub_server.rules.repositories import KINDS, Commit, File, Filters, Repository

MAX_LISTED = 1000
MAX_SIBLINGS = 50_000
Payload = Annotated[dict[str, Any], Body()]


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    _add_changes(router, doors)
    _add_settings(router, doors)
    for kind in KINDS:
        _add_reading(router, doors, kind)


def _add_changes(router: APIRouter, doors: Doors) -> None:
    @router.post("/api/repos/create", summary="Create a repository")
    def create(request: Request, payload: Payload) -> Response:
        profile = doors.demand_user(request)
        kind, owner, name = _named(payload, profile)
        private = payload.get("visibility", "private" if payload.get("private") else "public") == "private"
        if kind not in KINDS:
            raise Refused(400, f"Repositories of type {kind!r} are not hosted here: only datasets and models are")
        account = doors.directory.owner(owner)
        if account is None or not profile.may_write(f"{kind}/{account.name}/{name}".lower()):
            raise Refused(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}")
        url = f"{_base(request)}{'/datasets' if kind == 'dataset' else ''}/{account.name}/{name}"
        try:
            made = doors.repositories.create(kind, account.name, name, private=private)
        except HubConflict as error:
            existing = doors.repositories.get(kind, f"{account.name}/{name}")
            assert existing is not None
            raise Refused(409, error.message, url=url, name=existing.name, id=existing.name) from error
        return JSONResponse({"url": url, "name": made.name, "id": made.name, "private": made.private})

    @router.delete("/api/repos/delete", summary="Delete a repository")
    def delete(request: Request, payload: Payload) -> dict[str, bool]:
        kind, owner, name = _named(payload, doors.demand_user(request))
        repository = doors.repository(request, kind, owner, name, write=True)
        doors.indexer.forget(repository)
        doors.repositories.delete(repository)
        return {"success": True}

    @router.post("/api/repos/move", summary="Give a repository another name")
    def move(request: Request, payload: Payload) -> dict[str, Any]:
        profile = doors.demand_user(request)
        kind = str(payload.get("type", "model"))
        source, target = (str(payload.get(side, "")).split("/") for side in ("fromRepo", "toRepo"))
        if len(source) != 2 or len(target) != 2:
            raise Refused(400, "fromRepo and toRepo are owner/name")
        repository = doors.repository(request, kind, *source, write=True)
        account = doors.directory.owner(target[0])
        if account is None or not profile.may_write(f"{kind}/{account.name}/{target[1]}".lower()):
            raise Refused(403, f"You don't have the rights to move a repository into {target[0]!r}")
        moved = doors.repositories.move(repository, account.name, target[1])
        doors.indexer.forget(repository)
        doors.history.index_again(moved)
        return {"success": True, "name": moved.name}


def _add_settings(router: APIRouter, doors: Doors) -> None:
    @router.put("/api/{kind}s/{owner}/{name}/settings", summary="Hide or show a repository")
    def settings(request: Request, kind: str, owner: str, name: str, payload: Payload) -> dict[str, Any]:
        repository = doors.repository(request, kind, owner, name, write=True)
        private = repository.private
        if "visibility" in payload:
            private = payload["visibility"] == "private"
        elif "private" in payload:
            private = bool(payload["private"])
        doors.repositories.set_private(repository, private=private)
        doors.indexer.set_private(repository, private=private)
        return {"private": private, "visibility": "private" if private else "public", "gated": False}


def _add_reading(router: APIRouter, doors: Doors, kind: str) -> None:
    @router.get(f"/api/{kind}s", summary=f"List {kind}s", name=f"list_{kind}s")
    def listing(
        request: Request,
        filter: Annotated[list[str] | None, Query()] = None,  # noqa: A002 - the name in the address
        search: Annotated[list[str] | None, Query()] = None,
        author: str | None = None,
        sort: str = "lastModified",
        direction: int = -1,
        limit: Annotated[int, Query(ge=1)] = MAX_LISTED,
        cursor: str | None = None,
    ) -> Response:
        profile = doors.profile(request)
        tags = [tag for text in filter or () for tag in text.split(",") if tag]
        page = doors.repositories.list(
            Filters(
                kind,
                tuple(tags),
                tuple(search or ()),
                author,
                sort,
                direction == 1,
                min(limit, MAX_LISTED),
                cursor,
                profile.reads if profile.only_repo is None else frozenset(),
                profile.is_admin,
            )
        )
        response = JSONResponse([_summary(one) for one in page.repositories])
        if page.cursor is not None:
            kept = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
            query = urlencode([*kept, ("cursor", page.cursor)])
            response.headers["Link"] = f'<{_base(request)}/api/{kind}s?{query}>; rel="next"'
        return response

    def info(request: Request, owner: str, name: str, revision: str = "main") -> Response:
        repository = doors.repository(request, kind, owner, name)
        if repository.name.lower() != f"{owner}/{name}".lower():
            suffix = f"/revision/{revision}" if "/revision/" in request.url.path else ""
            return RedirectResponse(f"{_base(request)}/api/{kind}s/{repository.name}{suffix}", 307)
        commit = doors.commit(repository, revision)
        blobs = request.query_params.get("blobs", "").lower() in {"1", "true"}
        expand = request.query_params.getlist("expand")
        return JSONResponse(_info(doors, repository, commit, blobs=blobs, expand=expand))

    base = f"/api/{kind}s/{{owner}}/{{name}}"
    router.get(base, summary=f"One {kind}", name=f"{kind}_info")(info)
    router.get(f"{base}/revision/{{revision}}", summary=f"One {kind} at a revision", name=f"{kind}_revision")(info)

    @router.get(f"{base}/auth-check", summary="May I read this?", name=f"{kind}_auth_check")
    @router.get(f"{base}/auth-check/write", summary="May I write this?", name=f"{kind}_auth_check_write")
    def auth_check(request: Request, owner: str, name: str) -> dict[str, bool]:
        doors.repository(request, kind, owner, name, write=request.url.path.endswith("/write"))
        return {"success": True}


def _named(payload: dict[str, Any], profile: Profile) -> tuple[str, str, str]:
    """(kind, owner, name) of a payload; without an owner it is the one who asks."""
    name = str(payload.get("name", ""))
    owner = payload.get("organization")
    if "/" in name:
        owner, _, name = name.partition("/")
    assert profile.user is not None
    return str(payload.get("type", "model")), str(owner or profile.user.name), name


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _summary(repository: Repository) -> dict[str, Any]:
    return {
        "_id": f"{repository.id:024x}",
        "id": repository.name,
        "author": repository.owner,
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(repository.tags),
        "createdAt": _time(repository.created_at),
        "lastModified": _time(repository.updated_at),
    }


def _info(doors: Doors, repository: Repository, commit: Commit, *, blobs: bool, expand: list[str]) -> dict[str, Any]:
    answer = _summary(repository) | {
        "sha": commit.id,
        "lastModified": _time(commit.created_at),
        "cardData": repository.card,
        "usedStorage": repository.size_bytes,
    }
    if repository.problem:
        answer["commentaryProblem"] = repository.problem
    if not expand or "siblings" in expand:
        answer["siblings"] = list(_siblings(doors, commit, blobs=blobs))
    if expand:
        answer = {key: value for key, value in answer.items() if key in {"_id", "id", *expand}}
    return answer


def _siblings(doors: Doors, commit: Commit, *, blobs: bool) -> Iterable[dict[str, Any]]:
    for count, (path, node) in enumerate(doors.history.files(commit)):
        if count >= MAX_SIBLINGS:
            return
        if not isinstance(node, File):
            continue
        line: dict[str, Any] = {"rfilename": path}
        if blobs:
            line |= {"size": node.size_bytes, "blobId": node.oid}
            if node.is_large:
                line["lfs"] = {"sha256": node.sha256, "size": node.size_bytes, "pointerSize": 134}
        yield line
