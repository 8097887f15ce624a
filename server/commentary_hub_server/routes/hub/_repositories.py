"""Repositories: create, delete, move, settings, info, list."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from commentary_hub.errors import HubConflict
from commentary_hub_server.routes.hub._addresses import plain
from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.rules.accounts import Profile
from commentary_hub_server.rules.repositories import KINDS, SHORT, SORTS, Commit, File, Filters, Repository

MAX_LISTED = 1000
MAX_SIBLINGS = 50_000
MAX_FILTERS = 50  # each is a condition of the query
Payload = Annotated[dict[str, Any], Body()]


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    _add_changes(router, doors)
    for kind in KINDS:
        _add_settings(router, doors, kind)
        _add_reading(router, doors, kind)


def _add_changes(router: APIRouter, doors: Doors) -> None:
    @router.post("/api/repos/create", summary="Create a repository")
    def create(request: Request, payload: Payload) -> Response:
        profile = doors.demand_user(request)
        kind, owner, name = _named(payload, profile)
        private = bool(_private(payload))
        if kind not in KINDS:
            raise Refused(400, f"Repositories of type {kind!r} are not hosted here: only datasets and models are")
        account = doors.directory.owner(owner)
        if account is None or not profile.may_write(f"{kind}/{account.name}/{name}".lower()):
            raise Refused(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}")
        try:
            made = doors.repositories.create(kind, account.name, name, private=private)
        except HubConflict as error:
            there = doors.repositories.get(kind, f"{account.name}/{name}")
            known = f"{account.name}/{name}" if there is None else there.name
            raise Refused(409, error.message, url=_page(doors, request, kind, known), name=known, id=known) from error
        url = _page(doors, request, kind, made.name)
        return JSONResponse({"url": url, "name": made.public_id, "id": made.public_id, "private": made.private})

    @router.delete("/api/repos/delete", summary="Delete a repository")
    def delete(request: Request, payload: Payload) -> dict[str, bool]:
        kind, owner, name = _named(payload, doors.demand_user(request))
        if "/" not in str(payload.get("name")) and not payload.get("organization"):
            owner = owner if _bears(doors.repositories.get(kind, f"{owner}/{name}"), owner, name) else SHORT
        repository = doors.repository(request, kind, owner, name, write=True)
        if not _bears(repository, owner, name):
            raise Refused(404, "Repository not found", "RepoNotFound")
        doors.repositories.delete(repository)
        return {"success": True}

    @router.post("/api/repos/move", summary="Give a repository another name")
    def move(request: Request, payload: Payload) -> dict[str, Any]:
        profile = doors.demand_user(request)
        kind = str(payload.get("type", "model"))
        ids = (str(payload.get(side, "")) for side in ("fromRepo", "toRepo"))
        source, target = ((one if "/" in one else f"{SHORT}/{one}").split("/") for one in ids)
        if len(source) != 2 or len(target) != 2:
            raise Refused(400, "fromRepo and toRepo are owner/name")
        repository = doors.repository(request, kind, *source, write=True)
        account = doors.directory.owner(target[0])
        if account is None or not profile.may_write(f"{kind}/{account.name}/{target[1]}".lower()):
            raise Refused(403, f"You don't have the rights to move a repository into {target[0]!r}")
        moved = doors.repositories.move(repository, account.name, target[1])
        return {"success": True, "name": moved.public_id, "url": _page(doors, request, kind, moved.name)}


def _add_settings(router: APIRouter, doors: Doors, kind: str) -> None:
    @router.put(f"/api/{kind}s/{{owner}}/{{name}}/settings", summary="Hide or show it", name=f"{kind}_settings")
    def settings(request: Request, owner: str, name: str, payload: Payload) -> dict[str, Any]:
        repository = doors.repository(request, kind, owner, name, write=True)
        if payload.get("gated"):
            raise Refused(400, "Gated repositories are not hosted here: make it private instead")
        wanted = _private(payload)
        private = repository.private if wanted is None else wanted
        doors.repositories.set_private(repository, private=private)
        return {"private": private, "visibility": "private" if private else "public", "gated": False}


def _add_reading(router: APIRouter, doors: Doors, kind: str) -> None:
    @router.get(f"/api/{kind}s", summary=f"List {kind}s", name=f"list_{kind}s")
    def listing(
        request: Request,
        filter: Annotated[list[str] | None, Query(max_length=MAX_FILTERS)] = None,  # noqa: A002 - the name in the address
        search: Annotated[list[str] | None, Query(max_length=MAX_FILTERS)] = None,
        author: str | None = None,
        gated: bool | None = None,
        sort: str = "lastModified",
        direction: int = -1,
        limit: Annotated[int, Query(ge=1)] = MAX_LISTED,
        cursor: str | None = None,
        full: bool = False,
    ) -> Response:
        profile = doors.profile(request)
        if sort not in SORTS:
            raise Refused(400, f"sort is one of {', '.join(SORTS)}")
        if gated:
            return JSONResponse([])  # nothing is gated here
        everything = profile.only_repo is None
        tags = tuple(tag for text in filter or () for tag in text.split(",") if tag)
        if len(tags) > MAX_FILTERS:
            raise Refused(400, f"at most {MAX_FILTERS} tags are looked for at once")
        filters = Filters(
            kind, tags, tuple(search or ()), author,
            sort, direction == 1, min(limit, MAX_LISTED), cursor,
            profile.reads if everything else frozenset(), profile.is_admin and everything,
        )  # fmt: skip
        page = doors.repositories.list(filters)
        expand = set(request.query_params.getlist("expand"))
        card = full or request.query_params.get("cardData", "").lower() in {"1", "true"}
        wanted = expand | ({"cardData"} if card else set()) | ({"sha"} if full else set())
        response = JSONResponse(_listed(doors, page.repositories, wanted, only=bool(expand)))
        if page.cursor is not None:
            kept = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
            response.headers["Link"] = f'<{doors.here(request, [*kept, ("cursor", page.cursor)])}>; rel="next"'
        return response

    def info(request: Request, owner: str, name: str, revision: str = "main") -> Response:
        repository = doors.repository(request, kind, owner, name)
        if repository.name.lower() != f"{owner}/{name}".lower():
            there = quote(plain(revision), safe="")
            suffix = f"/revision/{there}" if "/revision/" in request.url.path else ""
            suffix += f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"{doors.base(request)}/api/{kind}s/{repository.public_id}{suffix}", 307)
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


def _bears(repository: Repository | None, owner: str, name: str) -> bool:
    """Whether a repository has this name now: a former name leads to it, and deletes nothing."""
    return repository is not None and repository.name.lower() == f"{owner}/{name}".lower()


def pointer_bytes(file: File) -> int:
    """The size of the pointer that stands for a large file in git."""
    return 125 + len(str(file.size_bytes))


def time_text(seconds: float) -> str:
    """A time as the clients read it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _page(doors: Doors, request: Request, kind: str, name: str) -> str:
    """The address of a repository's page; clients want two segments there."""
    return f"{doors.base(request)}{'/datasets' if kind == 'dataset' else ''}/{name}"


def _private(payload: dict[str, Any]) -> bool | None:
    """What a payload says about visibility, in the new or the old way; ``None`` where it says nothing."""
    if "visibility" in payload:
        if payload["visibility"] not in ("public", "private"):
            raise Refused(400, "visibility is public or private")
        return bool(payload["visibility"] == "private")
    private = payload.get("private")
    if private is not None and not isinstance(private, bool):
        raise Refused(400, "private is true or false")
    return private


def _listed(doors: Doors, repositories: Iterable[Repository], wanted: set[str], *, only: bool) -> list[dict[str, Any]]:
    """The lines of a list: the usual fields and those wanted, or ``only`` those."""
    page = list(repositories)
    heads = doors.repositories.heads([one.id for one in page]) if "sha" in wanted else {}
    lines = []
    for one in page:
        line = _summary(one)
        if "cardData" in wanted:
            line["cardData"] = one.card
        if "usedStorage" in wanted:
            line["usedStorage"] = one.size_bytes
        if one.id in heads:
            line["sha"] = heads[one.id]
        lines.append({key: line[key] for key in line if key in wanted | {"_id", "id"}} if only else line)
    return lines


def _summary(repository: Repository) -> dict[str, Any]:
    return {
        "_id": f"{repository.id:024x}",
        "id": repository.public_id,
        "author": None if repository.owner == SHORT else repository.owner,
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": list(repository.tags),
        "createdAt": time_text(repository.created_at),
        "lastModified": time_text(repository.updated_at),
    }


def _info(doors: Doors, repository: Repository, commit: Commit, *, blobs: bool, expand: list[str]) -> dict[str, Any]:
    answer = _summary(repository) | {
        "sha": commit.id,
        "lastModified": time_text(commit.created_at),
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
                line["lfs"] = {"sha256": node.sha256, "size": node.size_bytes, "pointerSize": pointer_bytes(node)}
        yield line
