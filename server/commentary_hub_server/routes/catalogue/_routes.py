"""``/api/commentaries``: parse, ask the catalogue, render. Private ones answer like missing ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Query as Parameter

from commentary_hub.errors import ArtefactError, InputError
from commentary_hub_server.rules.catalogue import (
    Catalogue,
    Commentary,
    DatasetLine,
    Entry,
    Query,
    Shelf,
    Sort,
    Viewer,
    arrow_stream,
    read_commentary,
    rows_by_key,
    rows_by_range,
    tensor_file,
)

ARROW_TYPE = "application/vnd.apache.arrow.stream"
Identify = Callable[[Request], Viewer]

_EXAMPLE = {
    "id": "ada/digits-weights",
    "revision": "3b1c6f0f4c8e2b1a9d7e5f3a1b2c3d4e5f6a7b8c",
    "name": "digits-weights",
    "kind": "example_weights",
    "dataset": "sklearn/digits",
    "gain": 0.36,
    "gain_ci95": [0.33, 0.39],
    "outcome": "helps",
    "verified": True,
}
_LIST_EXAMPLE = {"items": [_EXAMPLE], "total": 1, "next": None, "facets": {"kind": [["example_weights", 1]]}}


def build_router(catalogue: Catalogue, shelf: Shelf, identify: Identify) -> APIRouter:
    """The routes below ``/api/commentaries``; ``identify`` turns a request into its viewer."""
    router = APIRouter(prefix="/api/commentaries", tags=["catalogue"])
    _add_search(router, catalogue, identify)
    _add_comparison(router, catalogue, shelf, identify)
    _add_one(router, catalogue, shelf, identify)
    return router


def _add_search(router: APIRouter, catalogue: Catalogue, identify: Identify) -> None:
    @router.get("", summary="Search commentaries", responses=_documented(_LIST_EXAMPLE))
    def search(
        request: Request,
        *,
        search: Annotated[str, Parameter(max_length=200, description="words in name, dataset or card")] = "",
        dataset: Annotated[str | None, Parameter(max_length=200, examples=["sklearn/digits"])] = None,
        kind: Annotated[str | None, Parameter(max_length=64, examples=["example_weights"])] = None,
        owner: Annotated[str | None, Parameter(max_length=100)] = None,
        method: Annotated[str | None, Parameter(max_length=200)] = None,
        student: Annotated[str | None, Parameter(max_length=200)] = None,
        licence: Annotated[str | None, Parameter(max_length=100)] = None,
        min_gain: Annotated[float | None, Parameter(description="fraction of accuracy", ge=-1, le=1)] = None,
        verified: bool | None = None,
        sort: Sort = "gain",
        limit: Annotated[int, Parameter(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Parameter(max_length=1000)] = None,
        facets: bool = True,
    ) -> Response:
        """Matching commentaries in order, the count of all, counts per facet, and the cursor of the next page."""
        query = Query(
            search, dataset, kind, owner, method, student, licence, min_gain, verified, sort, limit, cursor
        )  # fmt: skip
        viewer = identify(request)
        try:
            page = catalogue.search(query, viewer)
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        answer: dict[str, Any] = {
            "items": [summary(entry) for entry in page.entries],
            "total": page.total,
            "next": page.next_cursor,
        }
        if facets:
            answer["facets"] = catalogue.facets(query, viewer)
        return tagged(request, answer)

    @router.get("/datasets", summary="Datasets that have commentaries, the best measured gain first")
    def datasets(
        request: Request,
        prefix: Annotated[str, Parameter(max_length=200)] = "",
        limit: Annotated[int, Parameter(ge=1, le=1000)] = 50,
    ) -> Response:
        """Suggestions by prefix: each dataset with its count and its best gain."""
        lines = catalogue.datasets(identify(request), prefix=prefix, limit=limit)
        return tagged(request, {"items": [_dataset(line) for line in lines]})

    @router.get("/datasets/{dataset:path}", summary="A dataset's commentaries, ranked by measured gain")
    def dataset(request: Request, dataset: str) -> Response:
        """At most 100, without evidence last."""
        page = catalogue.search(Query(dataset=dataset, limit=100), identify(request))
        if not page.total:
            raise HTTPException(404, f"no commentaries for {dataset!r}")
        return tagged(request, {"items": [summary(entry) for entry in page.entries], "total": page.total})


def _add_comparison(router: APIRouter, catalogue: Catalogue, shelf: Shelf, identify: Identify) -> None:
    @router.get("/compare", summary="Two or more commentaries side by side")
    def compare(
        request: Request,
        id: Annotated[list[str], Parameter(min_length=2, max_length=10)],  # noqa: A002 - the name in the address
    ) -> Response:
        """Summary and evidence of each, in the order asked."""
        viewer = identify(request)
        found = [_found(catalogue, one, viewer) for one in id]
        items = [{**summary(entry), "evidence": _evidence(read(shelf, entry))} for entry in found]
        same = len({entry.dataset for entry in found}) == 1
        return tagged(request, {"items": items, "same_dataset": same})


def _add_one(router: APIRouter, catalogue: Catalogue, shelf: Shelf, identify: Identify) -> None:
    @router.get("/{owner}/{name}", summary="One commentary", responses=_documented(_EXAMPLE))
    def one(request: Request, owner: str, name: str) -> Response:
        """Manifest, evidence, files, lineage and revisions."""
        entry = _found(catalogue, f"{owner}/{name}", identify(request))
        commentary = read(shelf, entry)
        manifest = commentary.manifest.model_dump(mode="json", exclude_none=True)
        return tagged(
            request,
            {
                **summary(entry),
                "manifest": manifest,
                "evidence": _evidence(commentary),
                "files": [asdict(file) for file in commentary.files],
                "lineage": manifest.get("parents", []),
                "revisions": [asdict(revision) for revision in shelf.history(entry.repo_id, entry.revision, 100)],
            },
        )

    @router.get("/{owner}/{name}/rows", summary="Rows by content key or by range, as JSON or Arrow")
    def rows(
        request: Request,
        owner: str,
        name: str,
        key: Annotated[str | None, Parameter(description="32 hex digits", max_length=64)] = None,
        first: Annotated[int, Parameter(ge=0, le=1 << 40)] = 0,
        count: Annotated[int, Parameter(ge=0, le=1000)] = 100,
        format: Literal["json", "arrow"] = "json",  # noqa: A002 - the name in the address
    ) -> Response:
        """Content key, target digest and stored values of each row; values are the tensors' own numbers."""
        entry = _found(catalogue, f"{owner}/{name}", identify(request))
        try:
            read_bytes, header = tensor_file(shelf, read(shelf, entry))
            if key is not None:
                table = rows_by_key(read_bytes, header, key)
            else:
                table = rows_by_range(read_bytes, header, first, count)
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        except ArtefactError as error:
            raise HTTPException(422, str(error)) from error
        except FileNotFoundError as error:
            raise HTTPException(404, "the commentary has no tensor file") from error
        if format == "arrow":
            return Response(arrow_stream(table), media_type=ARROW_TYPE, headers=_caching(entry.revision))
        return tagged(request, {"total": table.total, "rows": [asdict(row) for row in table.rows]})


def summary(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: what lists, single answers and comparisons share."""
    interval = None if entry.gain_low is None else [entry.gain_low, entry.gain_high]
    return {
        "id": entry.repo_id,
        "revision": entry.revision,
        "folder": entry.folder,
        "private": entry.private,
        "updated_at": entry.updated_at,
        "name": entry.name,
        "owner": entry.owner,
        "kind": entry.kind,
        "dataset": entry.dataset,
        "method": entry.method,
        "students": list(entry.students),
        "licence": entry.licence,
        "gain": entry.gain,
        "gain_ci95": interval,
        "outcome": entry.outcome,
        "verified": entry.verified,
        "deprecated": entry.deprecated,
        "description": entry.description,
    }


def read(shelf: Shelf, entry: Entry) -> Commentary:
    """The commentary behind an entry; 404 where its files are gone or no longer sound."""
    try:
        return read_commentary(shelf, entry.repo_id, entry.revision, folder=entry.folder)
    except (ArtefactError, FileNotFoundError) as error:
        raise HTTPException(404, "no such commentary") from error


def tagged(request: Request, answer: Any) -> Response:
    """JSON with an ETag of its bytes; 304 where the client has them."""
    body = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    etag = hashlib.blake2b(body, digest_size=16).hexdigest()
    headers = _caching(etag)
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if f'"{etag}"' in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _found(catalogue: Catalogue, repo_id: str, viewer: Viewer) -> Entry:
    entry = catalogue.one(repo_id, viewer)
    if entry is None:
        raise HTTPException(404, "no such commentary")
    return entry


def _evidence(commentary: Commentary) -> dict[str, Any] | None:
    return commentary.evidence.model_dump(mode="json", exclude_none=True) if commentary.evidence else None


def _dataset(line: DatasetLine) -> dict[str, Any]:
    return {"id": line.dataset, "count": line.count, "best_gain": line.best_gain}


def _caching(etag: str) -> dict[str, str]:
    # What one viewer sees is nobody else's to keep.
    return {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}


def _documented(example: Any) -> dict[int | str, dict[str, Any]]:
    return {
        200: {"content": {"application/json": {"example": example}}},
        304: {"description": "The client has this answer already (If-None-Match)"},
    }
