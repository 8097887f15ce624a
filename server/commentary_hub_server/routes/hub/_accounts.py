"""whoami, users, organisations, and what each of them owns."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from commentary_hub_server.routes.hub._doors import Doors, Refused
from commentary_hub_server.routes.hub._repositories import MAX_LISTED, time_text
from commentary_hub_server.rules.repositories import KINDS, Filters


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""
    _add_users(router, doors)
    _add_owned(router, doors)


def _add_users(router: APIRouter, doors: Doors) -> None:
    @router.get("/api/whoami-v2", summary="Who the token belongs to")
    def whoami(request: Request) -> dict[str, Any]:
        profile = doors.demand_user(request)
        assert profile.user is not None
        return {
            "type": "user",
            "id": profile.user.name,
            "name": profile.user.name,
            "fullname": profile.user.full_name or profile.user.name,
            "email": profile.user.email or None,
            "emailVerified": False,
            "canPay": False,
            "isPro": False,
            "orgs": [
                {"type": "org", "id": name, "name": name, "fullname": full or name, "roleInOrg": role}
                for name, full, role in profile.orgs
            ],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": profile.token_label, "role": profile.token_role},
            },
        }

    @router.get("/api/users/{name}/overview", summary="A user")
    def user(name: str) -> dict[str, Any]:
        owner = doors.directory.owner(name)
        if owner is None or owner.kind != "user":
            raise Refused(404, "This user does not exist")
        return {"user": owner.name, "fullname": owner.full_name or owner.name, "type": "user", "isPro": False}

    @router.get("/api/organizations/{name}/overview", summary="An organisation")
    def organisation(name: str) -> dict[str, Any]:
        owner = doors.directory.owner(name)
        if owner is None or owner.kind != "org":
            raise Refused(404, "This organization does not exist")
        return {"name": owner.name, "fullname": owner.full_name or owner.name, "type": "org"}

    @router.get("/api/organizations/{name}/members", summary="An organisation's members")
    def members(name: str) -> list[dict[str, Any]]:
        return [{"user": user, "fullname": user, "role": role, "isPro": False} for user, role in
                doors.directory.members(name)]  # fmt: skip


def _add_owned(router: APIRouter, doors: Doors) -> None:
    def owned(request: Request, owner: str, kind: str, cursor: str | None) -> Response:
        """A page of one kind; behind the last page of a kind comes the next one."""
        profile = doors.demand_user(request)
        if kind not in KINDS:
            raise Refused(400, f"kind is one of {', '.join(KINDS)}")
        if profile.only_repo is not None or not (profile.is_admin or owner.lower() in profile.reads):
            raise Refused(403, f"Your token may not list what {owner!r} owns: it needs a role there, for all of it")
        filters = Filters(
            kind, author=owner, limit=MAX_LISTED, cursor=cursor, reads=profile.reads, is_admin=profile.is_admin
        )
        page, whole = doors.repositories.list(filters), doors.repositories.held_bytes(owner) or 1
        response = JSONResponse(
            [
                {
                    "id": one.public_id, "type": kind, "updatedAt": time_text(one.updated_at),
                    "visibility": "private" if one.private else "public", "storage": one.size_bytes,
                    "storagePercent": 100 * one.size_bytes / whole,
                }
                for one in page.repositories
            ]
        )  # fmt: skip
        following = [("kind", kind), ("cursor", page.cursor)] if page.cursor else []
        following = following or [("kind", later) for later in KINDS[KINDS.index(kind) + 1 :]][:1]
        if following:
            response.headers["Link"] = f'<{doors.here(request, following)}>; rel="next"'
        return response

    @router.get("/api/settings/repositories", summary="What the one who asks owns")
    def mine(request: Request, kind: str = KINDS[0], cursor: str | None = None) -> Response:
        user = doors.demand_user(request).user
        assert user is not None
        return owned(request, user.name, kind, cursor)

    @router.get("/api/organizations/{name}/settings/repositories", summary="What an organisation owns")
    def of_organisation(request: Request, name: str, kind: str = KINDS[0], cursor: str | None = None) -> Response:
        return owned(request, name, kind, cursor)
