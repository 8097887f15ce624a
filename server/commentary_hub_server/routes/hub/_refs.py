"""Branches, tags, commits, squashing."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from commentary_hub_server.routes.hub._addresses import plain
from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.routes.hub._repositories import Payload, time_text
from commentary_hub_server.rules.repositories import KINDS, Commit

PAGE, MAX_PAGE = 100, 10_000


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    for kind in KINDS:
        _add_reading(router, doors, kind)
        _add_changes(router, doors, kind)


def _add_reading(router: APIRouter, doors: Doors, kind: str) -> None:
    base = f"/api/{kind}s/{{owner}}/{{name}}"

    @router.get(f"{base}/refs", summary="Branches and tags", name=f"{kind}_refs")
    def refs(request: Request, owner: str, name: str) -> dict[str, Any]:
        repository = doors.repository(request, kind, owner, name)
        found = doors.history.refs(repository)

        def those(prefix: str) -> list[dict[str, str]]:
            return [
                {"name": full.removeprefix(prefix), "ref": full, "targetCommit": commit}
                for full, commit in found
                if full.startswith(prefix)
            ]

        return {"branches": those("refs/heads/"), "tags": those("refs/tags/"), "converts": [], "pullRequests": []}

    @router.get(f"{base}/commits/{{revision}}", summary="History, newest first", name=f"{kind}_commits")
    def commits(
        request: Request,
        owner: str,
        name: str,
        revision: str,
        p: Annotated[int, Query(ge=0, le=MAX_PAGE)] = 0,
        limit: int = PAGE,
    ) -> Response:
        repository = doors.repository(request, kind, owner, name)
        page, size = p, max(1, min(limit, PAGE))
        log = doors.history.log(repository, doors.commit(repository, revision), size + 1, page * size)
        response = JSONResponse([_line(commit) for commit in log[:size]])
        if len(log) > size:
            kept = [pair for pair in request.query_params.multi_items() if pair[0] not in {"limit", "p"}]
            next_page = doors.here(request, [*kept, ("limit", str(size)), ("p", str(page + 1))])
            response.headers["Link"] = f'<{next_page}>; rel="next"'
        return response


def _add_changes(router: APIRouter, doors: Doors, kind: str) -> None:
    base = f"/api/{kind}s/{{owner}}/{{name}}"

    @router.post(f"{base}/branch/{{branch}}", summary="Create a branch", name=f"{kind}_create_branch")
    def create_branch(request: Request, owner: str, name: str, branch: str, payload: Payload) -> dict[str, bool]:
        repository = doors.repository(request, kind, owner, name, write=True)
        start = str(payload.get("startingPoint") or "main")
        doors.commit(repository, start)
        doors.history.create_ref(repository, plain(branch), start, tag=False)
        return {"success": True}

    @router.delete(f"{base}/branch/{{branch}}", summary="Delete a branch", name=f"{kind}_delete_branch")
    def delete_branch(request: Request, owner: str, name: str, branch: str) -> dict[str, bool]:
        repository = doors.repository(request, kind, owner, name, write=True)
        doors.commit(repository, f"refs/heads/{plain(branch)}")
        doors.history.delete_ref(repository, plain(branch), tag=False)
        return {"success": True}

    @router.post(f"{base}/tag/{{revision}}", summary="Tag a revision", name=f"{kind}_create_tag")
    def create_tag(request: Request, owner: str, name: str, revision: str, payload: Payload) -> dict[str, bool]:
        repository = doors.repository(request, kind, owner, name, write=True)
        doors.commit(repository, revision)
        doors.history.create_ref(repository, str(payload.get("tag", "")), plain(revision), tag=True)
        return {"success": True}

    @router.delete(f"{base}/tag/{{tag}}", summary="Delete a tag", name=f"{kind}_delete_tag")
    def delete_tag(request: Request, owner: str, name: str, tag: str) -> dict[str, bool]:
        repository = doors.repository(request, kind, owner, name, write=True)
        doors.commit(repository, f"refs/tags/{plain(tag)}")
        doors.history.delete_ref(repository, plain(tag), tag=True)
        return {"success": True}

    @router.post(f"{base}/super-squash/{{branch}}", summary="One commit instead of many", name=f"{kind}_squash")
    def squash(request: Request, owner: str, name: str, branch: str, payload: Payload) -> dict[str, str]:
        repository = doors.repository(request, kind, owner, name, write=True)
        profile = doors.demand_user(request)
        assert profile.user is not None
        if not any(full == f"refs/heads/{plain(branch)}" for full, _ in doors.history.refs(repository)):
            raise Refused(404, f"Invalid rev id: {plain(branch)}", "RevisionNotFound")
        made = doors.history.squash(
            repository, plain(branch), author=profile.user.name,
            title=str(payload.get("summary") or "Super-squash branch"), message=str(payload.get("description") or ""),
        )  # fmt: skip
        return {"commitOid": made.id}


def _line(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author, "avatar": ""}],
        "date": time_text(commit.created_at),
    }
