"""``/api/commentaries``: parse, ask the catalogue, render. Private ones answer like missing ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Query as Parameter

from commentary_hub.errors import InputError
from commentary_hub_server.routes.catalogue._answers import (
    NOT_MODIFIED,
    Compared,
    Comparison,
    Datasets,
    Line,
    Listing,
    dataset_summary,
    summary,
    tagged,
)
from commentary_hub_server.routes.catalogue._one import add_one, evidence_of, found, read
from commentary_hub_server.rules.catalogue import Catalogue, Query, Shelf, Sort, Viewer

Identify = Callable[[Request], Viewer]


def build_router(catalogue: Catalogue, shelf: Shelf, identify: Identify) -> APIRouter:
    """The routes below ``/api/commentaries``; ``identify`` turns a request into its viewer."""
    router = APIRouter(prefix="/api/commentaries", tags=["catalogue"])
    _add_search(router, catalogue, identify)
    _add_datasets(router, catalogue, identify)
    _add_comparison(router, catalogue, shelf, identify)
    add_one(router, catalogue, shelf, identify)
    return router


def _add_search(router: APIRouter, catalogue: Catalogue, identify: Identify) -> None:
    @router.get("", summary="Search commentaries", response_model=Listing, responses=NOT_MODIFIED)
    def search(
        request: Request,
        *,
        search: Annotated[str, Parameter(max_length=200, description="Words in name, dataset or card")] = "",
        dataset: Annotated[str | None, Parameter(max_length=200, examples=["sklearn/digits"])] = None,
        kind: Annotated[str | None, Parameter(max_length=64, examples=["example_weights"])] = None,
        owner: Annotated[str | None, Parameter(max_length=100, examples=["ada"])] = None,
        method: Annotated[str | None, Parameter(max_length=200, examples=["implicit, Neumann"])] = None,
        student: Annotated[str | None, Parameter(max_length=200, examples=["mlp"])] = None,
        licence: Annotated[str | None, Parameter(max_length=100, examples=["apache-2.0"])] = None,
        min_gain: Annotated[float | None, Parameter(description="Fraction of accuracy", ge=-1, le=1)] = None,
        verified: Annotated[bool | None, Parameter(description="Somebody measured it again and agrees")] = None,
        sort: Annotated[
            Sort | None, Parameter(description="By default relevance where words are searched for, else gain")
        ] = None,
        limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Parameter(max_length=1000, description="`next` of the page before")] = None,
        facets: bool = True,
    ) -> Response:
        """Matching commentaries in order, the count of all, counts per facet, and the cursor of the next page.

        Relevance is where the words stand (name, dataset, card), the better measured first among equals. Each facet
        ignores its own filter. `gain` counts what has at least so much measured gain.
        """
        query = Query(
            search, dataset, kind, owner, method, student, licence, min_gain, verified, sort, limit, cursor
        )  # fmt: skip
        viewer = identify(request)
        try:
            page = catalogue.search(query, viewer)
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        return tagged(
            request,
            Listing(
                items=[Line.model_validate(summary(entry)) for entry in page.entries],
                total=page.total,
                next=page.next_cursor,
                facets=catalogue.facets(query, viewer) if facets else None,
            ),
        )


def _add_datasets(router: APIRouter, catalogue: Catalogue, identify: Identify) -> None:
    @router.get(
        "/datasets",
        summary="Datasets that have commentaries, the best measured gain first",
        response_model=Datasets,
        responses=NOT_MODIFIED,
    )
    def datasets(
        request: Request,
        prefix: Annotated[str, Parameter(max_length=200, description="How its id begins", examples=["sklearn/"])] = "",
        limit: Annotated[int, Parameter(ge=1, le=1000)] = 50,
    ) -> Response:
        """Suggestions by prefix: each dataset with its count and its best gain."""
        lines = catalogue.datasets(identify(request), prefix=prefix, limit=limit)
        return tagged(request, Datasets(items=[dataset_summary(line) for line in lines]))

    @router.get(
        "/datasets/{dataset:path}",
        summary="A dataset's commentaries, ranked by measured gain",
        response_model=Listing,
        responses=NOT_MODIFIED,
    )
    def dataset(request: Request, dataset: str) -> Response:
        """At most 100, without evidence last."""
        page = catalogue.search(Query(dataset=dataset, limit=100), identify(request))
        if not page.total:
            raise HTTPException(404, "no commentaries for such a dataset")
        return tagged(
            request,
            Listing(items=[Line.model_validate(summary(entry)) for entry in page.entries], total=page.total),
        )


def _add_comparison(router: APIRouter, catalogue: Catalogue, shelf: Shelf, identify: Identify) -> None:
    @router.get(
        "/compare", summary="Two or more commentaries side by side", response_model=Comparison, responses=NOT_MODIFIED
    )
    def compare(
        request: Request,
        id: Annotated[  # noqa: A002 - the name in the address
            list[str], Parameter(min_length=2, max_length=10, examples=[["ada/digits-weights", "grace/digits-blend"]])
        ],
    ) -> Response:
        """Summary and evidence of each, in the order asked; an id may go on with the folder inside a repository."""
        viewer = identify(request)
        entries = [
            found(catalogue, shelf, "/".join(one.split("/")[:2]), viewer, "/".join(one.split("/")[2:])) for one in id
        ]
        items = [
            Compared.model_validate({**summary(entry), "evidence": evidence_of(read(shelf, entry))})
            for entry in entries
        ]
        same = len({entry.dataset.lower() for entry in entries}) == 1
        return tagged(request, Comparison(items=items, same_dataset=same))
