"""Models: the hub keeps their files for the usual clients; the addresses that these print lead to a list of them."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from commentary_hub_server.routes.hub import plain
from commentary_hub_server.routes.pages._files import file_list
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.rules.catalogue import Place, Shelf


def add_models(router: APIRouter, site: Site, shelf: Shelf) -> None:
    """Add the pages of models, whose addresses look like any other: after all others."""

    def place_of(request: Request, owner: str, name: str) -> Place | None:
        found = shelf.place(f"{owner}/{name}")
        may_read = found is not None and site.viewer(request).may_read(found.repo_id, private=found.private)
        return found if may_read else None

    def page(request: Request, owner: str, name: str, address: str = "main", after: str = "") -> Response:
        place = place_of(request, owner, name)
        listed = file_list(shelf, place.repo_id, f"/{quote(place.repo_id)}", address, after) if place else None
        if place is None or listed is None:
            return site.nowhere(request)
        if isinstance(listed, Response):
            return listed
        return site.render(request, "model.html", place=place, **listed, shown=())

    def elsewhere(request: Request, owner: str, name: str, revision: str, path: str | None = None) -> Response:
        place = place_of(request, owner, name)
        commit = shelf.resolve(place.repo_id, plain(revision)) if place else None
        if place is None or commit is None:
            return site.nowhere(request)
        end = f"tree/{commit}" if path is None else f"resolve/{commit}/{quote(plain(path))}"
        return RedirectResponse(f"/{quote(place.repo_id)}/{end}")

    router.get("/{owner}/{name}")(page)
    router.get("/{owner}/{name}/tree/{address:path}")(page)
    router.get("/{owner}/{name}/commit/{revision}")(elsewhere)
    router.get("/{owner}/{name}/blob/{revision}/{path:path}")(elsewhere)
    router.get("/{owner}/{name}/raw/{revision}/{path:path}")(elsewhere)
