"""Find: home with search and facets, datasets, one dataset with its leaderboard, owners, comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi import Query as Parameter
from fastapi.responses import Response

from commentary_hub.errors import InputError
from commentary_hub_server.routes.pages._charts import Interval, intervals, points
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.rules.catalogue import Entry, Query, Sort

_TITLES = {
    "kind": "Kind", "dataset": "Dataset", "outcome": "", "method": "Method", "student": "Student",
    "licence": "Licence", "owner": "Owner", "verified": "Verified",
}  # fmt: skip
_FILTERS = ("dataset", "kind", "owner", "method", "student", "licence", "verified")
_SHOWN = 8


def add_finding(router: APIRouter, site: Site) -> None:
    """Add the pages for looking around."""

    @router.get("/")
    def start(
        request: Request,
        *,
        search: Annotated[str, Parameter(max_length=200)] = "",
        dataset: str | None = None,
        kind: str | None = None,
        owner: str | None = None,
        method: str | None = None,
        student: str | None = None,
        licence: str | None = None,
        verified: bool | None = None,
        sort: Sort = "gain",
        cursor: str | None = None,
    ) -> Response:
        query = Query(search, dataset, kind, owner, method, student, licence, None, verified, sort, 20, cursor)
        viewer = site.viewer(request)
        try:
            page = site.catalogue.search(query, viewer)
        except InputError:
            query = replace(query, cursor=None)
            page = site.catalogue.search(query, viewer)
        labels = (("gain", "measured gain"), ("updated", "newest"), ("name", "name"))
        return site.render(
            request,
            "home.html",
            query=query,
            page=page,
            facets=_facets(query, site.catalogue.facets(query, viewer)),
            kept=[(name, value) for name, value in _chosen(query).items() if name != "search"],
            sorts=[(key, label, _address(query, sort=key)) for key, label in labels],
            next_href=_address(query, cursor=page.next_cursor) if page.next_cursor else None,
        )

    @router.get("/datasets")
    def datasets(request: Request) -> Response:
        return site.render(request, "datasets.html", lines=site.catalogue.datasets(site.viewer(request), limit=200))

    @router.get("/for/{dataset:path}")
    def dataset_page(request: Request, dataset: str) -> Response:
        page = site.catalogue.search(Query(dataset=dataset, limit=100), site.viewer(request))
        if not page.total:
            return site.missing(request)
        board = _board(page.entries[:20])
        return site.render(request, "dataset.html", dataset=page.entries[0].dataset, page=page, board=board)

    @router.get("/owners/{owner}")
    def owner_page(request: Request, owner: str) -> Response:
        viewer = site.viewer(request)
        page = site.catalogue.search(Query(owner=owner, limit=100), viewer)
        if not page.total and (viewer.name or "").lower() != owner.lower():
            return site.missing(request)
        return site.render(request, "owner.html", owner=page.entries[0].owner if page.total else owner, page=page)

    @router.get("/compare")
    def compare(request: Request, id: Annotated[list[str], Parameter()] = []) -> Response:  # noqa: A002, B006 - the name in the address; FastAPI copies it
        viewer = site.viewer(request)
        found = [site.catalogue.one(one, viewer) for one in id[:6]]
        entries = [entry for entry in found if entry is not None]
        same = len({entry.dataset for entry in entries}) < 2
        board = _board(entries)
        return site.render(
            request, "compare.html", entries=entries, same_dataset=same, board=board, lines=_lines(entries)
        )


def _board(entries: Any) -> Any:
    lines = [
        Interval(entry.repo_id, entry.gain, entry.gain_low, entry.gain_high, entry.outcome)
        for entry in entries
        if entry.gain is not None
    ]
    return intervals(lines, name="Measured gain in points")


def _lines(entries: list[Entry]) -> list[tuple[str, list[str]]]:
    def gain(entry: Entry) -> str:
        if entry.gain is None or entry.gain_low is None or entry.gain_high is None:
            return "not measured"
        return f"{points(entry.gain)} [{points(entry.gain_low)}, {points(entry.gain_high)}]"

    return [
        ("Gain, points", [gain(entry) for entry in entries]),
        ("Outcome", [(entry.outcome or "not measured").replace("_", " ") for entry in entries]),
        ("Verified", ["yes" if entry.verified else "no" for entry in entries]),
        ("Dataset", [entry.dataset for entry in entries]),
        ("Kind", [entry.kind.replace("_", " ") for entry in entries]),
        ("Method", [entry.method or "–" for entry in entries]),
        ("Students", [", ".join(entry.students) or "–" for entry in entries]),
        ("Licence", [entry.licence or "–" for entry in entries]),
    ]


def _chosen(query: Query) -> dict[str, str]:
    found = {"search": query.search} if query.search else {}
    for name in _FILTERS:
        value = getattr(query, name)
        if value is not None:
            found[name] = str(value).lower() if isinstance(value, bool) else value
    if query.sort != "gain":
        found["sort"] = query.sort
    return found


def _address(query: Query, **changes: str | None) -> str:
    parts = {**_chosen(query), **changes}
    return "/?" + urlencode({name: value for name, value in parts.items() if value is not None})


def _facets(query: Query, counted: dict[str, list[tuple[str, int]]]) -> list[tuple[str, str, list[Any]]]:
    chosen = _chosen(query)
    answer = []
    for name, title in _TITLES.items():
        if not title:
            continue
        values = []
        for value, count in counted[name][:_SHOWN]:
            is_chosen = chosen.get(name, "").lower() == str(value).lower()
            address = _address(query, **{name: None if is_chosen else str(value)})
            values.append(({"true": "yes", "false": "no"}.get(value, value), count, address, is_chosen))
        answer.append((name, title, values))
    return answer
