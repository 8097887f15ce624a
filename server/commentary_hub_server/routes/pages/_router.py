"""Put the pages together: one router from the catalogue, the files and the accounts."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, Response

from commentary_hub_server.routes.pages._account import add_account
from commentary_hub_server.routes.pages._commentary import add_commentary
from commentary_hub_server.routes.pages._files import add_files
from commentary_hub_server.routes.pages._finding import add_finding
from commentary_hub_server.routes.pages._interface import add_interface
from commentary_hub_server.routes.pages._models import add_models
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.routes.pages._templates import STATIC, version
from commentary_hub_server.rules.catalogue import Accounts, Catalogue, Shelf

_TYPES = {
    "site.css": "text/css; charset=utf-8",
    "site.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "site.svg": "image/svg+xml",
}


def build_router(
    catalogue: Catalogue, shelf: Shelf, models: Shelf, accounts: Accounts, secret: str, *, secure: bool
) -> APIRouter:
    """All pages. ``secret`` signs sessions; ``secure`` keeps cookies to HTTPS, where the hub is served so."""
    site = Site(catalogue, shelf, accounts, secret, secure=secure)
    router = APIRouter(include_in_schema=False)

    @router.get("/static/{name}")
    def static(name: str, v: str = "") -> Response:
        if name not in _TYPES:
            raise HTTPException(404)
        keep = "max-age=31536000, immutable" if v == version(name) else "max-age=300"
        headers = {"Cache-Control": f"public, {keep}", "X-Content-Type-Options": "nosniff"}
        return FileResponse(STATIC / name, media_type=_TYPES[name], headers=headers)

    add_finding(router, site)
    add_interface(router, site)
    add_account(router, site)
    add_files(router, site)
    add_commentary(router, site)
    add_models(router, site, models)

    # The last resort of the whole hub. It takes every method, because a route for one of them alone would turn the 404
    # of the others, which clients rely on, into 405.
    @router.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def nothing(request: Request, path: str) -> Response:  # noqa: ARG001 - the framework's
        return site.nowhere(request)

    return router
