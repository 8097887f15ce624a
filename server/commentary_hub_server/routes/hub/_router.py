"""All routes of the hub protocol."""

from __future__ import annotations

from fastapi import APIRouter

from commentary_hub_server.routes.hub import _accounts, _commits, _files, _lfs, _refs, _repositories
from commentary_hub_server.routes.hub._doors import Doors


def build_router(doors: Doors) -> APIRouter:
    """The routes, in groups."""
    router = APIRouter(tags=["hub"])
    for room in (_accounts, _repositories, _refs, _files, _commits, _lfs):
        room.add(router, doors)
    return router
