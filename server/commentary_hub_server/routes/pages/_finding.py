"""Find: home with search and facets, datasets, one dataset with its leaderboard, owners, comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi import Query as Parameter
from fastapi.responses import Response

from commentary_hub.errors import InputError
from commentary_hub_server.routes.pages._charts import Axis, points
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.rules.catalogue import Entry, Page, Query, Sort, Viewer

_FACETS = {
    "kind": "Kind", "dataset": "Dataset", "min_gain": "Measured gain", "verified": "Verified", "method": "Method",
    "student": "Student", "licence": "Licence", "owner": "Owner",
}  # fmt: skip
_SORTS = {"relevance": "relevance", "gain": "measured gain", "updated": "newest", "name": "name"}
_SHOWN = 6
_COMPARED, _DATASETS = 6, 100


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a facet: its label, its count, and the address with it chosen, or given up where it is."""

    label: str
    count: int
    href: str
    chosen: bool


def add_finding(router: APIRouter, site: Site) -> None:
    """Add the pages for looking around."""
    _add_home(router, site)
    _add_datasets(router, site)

    @router.get("/owners/{owner}")
    def owner_page(request: Request, owner: str, cursor: str | None = None) -> Response:
        viewer = site.viewer(request)
        query, page = _search(site, Query(owner=owner, cursor=cursor), viewer)
        if not page.total and (viewer.name or "").lower() != owner.lower():
            return site.missing(request)
        name = page.entries[0].owner if page.entries else owner
        following = f"?{urlencode({'cursor': page.next_cursor})}" if page.next_cursor else None
        return site.render(
            request, "owner.html", owner=name, page=page, next_href=following, axis=_axis(page.entries),
            is_self=(viewer.name or "").lower() == owner.lower(), is_first=query.cursor is None,
        )  # fmt: skip

    @router.get("/compare")
    def compare(request: Request, id: Annotated[list[str], Parameter()] = []) -> Response:  # noqa: A002, B006 - the name in the address; FastAPI copies it
        viewer = site.viewer(request)
        entries = []
        for one in dict.fromkeys(id[:_COMPARED]):
            parts = one.split("/")
            found = site.catalogue.one("/".join(parts[:2]), viewer, folder="/".join(parts[2:]))
            # The repository itself says who may read it.
            if found is not None and site.place(request, *found.repo_id.split("/")) is not None:
                entries.append(found)
        return site.render(
            request, "compare.html", entries=entries, same_dataset=len({one.dataset.lower() for one in entries}) < 2,
            axis=_axis(entries), lines=_differences(entries), is_short=len(entries) < len(id),
        )  # fmt: skip


def _add_home(router: APIRouter, site: Site) -> None:
    @router.get("/")
    def start(
        request: Request,
        *,
        search: str = "",
        dataset: str | None = None,
        kind: str | None = None,
        owner: str | None = None,
        method: str | None = None,
        student: str | None = None,
        licence: str | None = None,
        min_gain: str | None = None,
        verified: str | None = None,
        sort: str | None = None,
        cursor: str | None = None,
    ) -> Response:
        # Addresses are typed and shortened by people: what cannot be read is passed over, never an error.
        query = Query(
            search[:200], dataset, kind, owner, method, student, licence, _fraction(min_gain),
            {"true": True, "false": False}.get(verified or ""), sort if sort in _SORTS else None,  # type: ignore[arg-type]
            cursor=cursor,
        )  # fmt: skip
        viewer = site.viewer(request)
        query, page = _search(site, query, viewer)
        chosen = _chosen(query)
        return site.render(
            request,
            "home.html",
            query=query,
            page=page,
            axis=_axis(page.entries),
            facets=_facets(query, site.catalogue.facets(query, viewer)),
            chosen=[(_FACETS[name], _label(name, value), _address(query, **{name: None}))
                    for name, value in chosen.items() if name in _FACETS],
            kept=[(name, value) for name, value in chosen.items() if name != "search"],
            sorts=[(key, label, _address(query, sort=key)) for key, label in _SORTS.items()
                   if key != "relevance" or query.search],
            next_href=_address(query, cursor=page.next_cursor) if page.next_cursor else None,
            is_start=not chosen and query.cursor is None,
            popular=site.catalogue.datasets(viewer, limit=6) if not chosen else [],
        )  # fmt: skip


def _add_datasets(router: APIRouter, site: Site) -> None:
    @router.get("/datasets")
    def datasets(request: Request) -> Response:
        lines = site.catalogue.datasets(site.viewer(request), limit=_DATASETS)
        return site.render(
            request,
            "datasets.html",
            lines=lines,
            is_cut=len(lines) == _DATASETS,
            axis=Axis.over(*(value for line in lines for value in (line.best_low, line.best_high))),
        )

    @router.get("/for/{dataset:path}")
    def dataset_page(request: Request, dataset: str, cursor: str | None = None) -> Response:
        _, page = _search(site, Query(dataset=dataset, limit=50, cursor=cursor), site.viewer(request))
        if not page.total:
            return site.missing(request)
        following = f"?{urlencode({'cursor': page.next_cursor})}" if page.next_cursor else None
        return site.render(
            request, "dataset.html", dataset=page.entries[0].dataset, page=page, axis=_axis(page.entries),
            next_href=following,
        )  # fmt: skip


def _search(site: Site, query: Query, viewer: Viewer) -> tuple[Query, Page]:
    """The page, the first one where the cursor is not of this search."""
    try:
        return query, site.catalogue.search(query, viewer)
    except InputError:
        query = replace(query, cursor=None)
        return query, site.catalogue.search(query, viewer)


def _axis(entries: Any) -> Axis:
    return Axis.over(*(value for entry in entries for value in (entry.gain_low, entry.gain_high)))


def _differences(entries: list[Entry]) -> list[tuple[str, list[str]]]:
    """The rows of a comparison, in words."""
    return [
        ("Dataset", [entry.dataset for entry in entries]),
        ("Kind", [entry.kind.replace("_", " ") for entry in entries]),
        ("Method", [entry.method or "–" for entry in entries]),
        ("Students", [", ".join(entry.students) or "–" for entry in entries]),
        ("Verified", ["yes" if entry.verified else "no" for entry in entries]),
        ("Licence", [entry.licence or "–" for entry in entries]),
    ]


def _chosen(query: Query) -> dict[str, str]:
    found = {"search": query.search} if query.search else {}
    for name in _FACETS:
        value = getattr(query, name)
        if value is not None:
            found[name] = (
                str(value).lower() if isinstance(value, bool) else f"{value:g}" if name == "min_gain" else value
            )
    if query.order != replace(query, sort=None).order:
        found["sort"] = query.order
    return found


def _address(query: Query, **changes: str | None) -> str:
    parts = {**_chosen(query), **changes}
    text = urlencode({name: value for name, value in parts.items() if value is not None})
    return f"/?{text}" if text else "/"


def _facets(query: Query, counted: dict[str, list[tuple[str, int]]]) -> list[tuple[str, list[Choice]]]:
    chosen = _chosen(query)
    answer = []
    for name, title in _FACETS.items():
        choices = []
        for value, count in counted["gain" if name == "min_gain" else name][:_SHOWN]:
            is_chosen = chosen.get(name, "").lower() == value.lower()
            if count or is_chosen:
                href = _address(query, **{name: None if is_chosen else value})
                choices.append(Choice(_label(name, value), count, href, is_chosen))
        if choices:
            answer.append((title, choices))
    return answer


def _label(name: str, value: str) -> str:
    if name == "verified":
        return {"true": "verified", "false": "not verified"}[value]
    if name == "min_gain":
        return f"{points(float(value)) if float(value) else '0'} points or more"
    return value.replace("_", " ") if name == "kind" else value


def _fraction(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if -1 <= value <= 1 else None


assert set(get_args(Sort)) == set(_SORTS)
