"""whoami, users, organisations."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from commentary_hub_server.routes.hub._doors import Doors, Refused


def add(router: APIRouter, doors: Doors) -> None:
    """Add the routes."""

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
