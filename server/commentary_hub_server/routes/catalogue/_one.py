"""One commentary over REST: everything about it, and its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi import Query as Parameter

from commentary_hub.errors import ArtefactError, InputError
from commentary_hub_server.routes.catalogue._answers import (
    MAX_FILES,
    NOT_MODIFIED,
    Lineage,
    One,
    ParentLine,
    RowLine,
    Rows,
    caching,
    summary,
    tagged,
)
from commentary_hub_server.rules.catalogue import (
    Catalogue,
    Commentary,
    Entry,
    Shelf,
    Viewer,
    arrow_stream,
    read_commentary,
    rows_by_key,
    rows_by_range,
    tensor_file,
)

ARROW_TYPE = "application/vnd.apache.arrow.stream"
Folder = Annotated[
    str,
    Parameter(max_length=200, description="Where it lies inside a dataset's own repository: `commentaries/<name>`"),
]


def add_one(router: APIRouter, catalogue: Catalogue, shelf: Shelf, identify: Callable[[Request], Viewer]) -> None:
    """Add the routes of a single commentary."""

    @router.get("/{owner}/{name}", summary="One commentary", response_model=One, responses=NOT_MODIFIED)
    def one(request: Request, owner: str, name: str, folder: Folder = "") -> Response:
        """Manifest, evidence, files, lineage and revisions; 422 says why a repository's manifest is not listed."""
        viewer = identify(request)
        _demand(shelf, f"{owner}/{name}", viewer)
        entry = catalogue.one(f"{owner}/{name}", viewer, folder=folder)
        if entry is None:
            raise _unlisted(shelf, f"{owner}/{name}")
        commentary = read(shelf, entry)
        return tagged(
            request,
            One.model_validate(
                {
                    **summary(entry),
                    "manifest": commentary.manifest.model_dump(mode="json", exclude_none=True),
                    "evidence": evidence_of(commentary),
                    "files": [asdict(file) for file in shelf.files(entry.repo_id, entry.revision, limit=MAX_FILES)],
                    "lineage": _lineage(catalogue, entry, commentary, viewer),
                    "revisions": [asdict(line) for line in shelf.history(entry.repo_id, entry.revision, 100)],
                }
            ),
        )

    @router.get(
        "/{owner}/{name}/rows",
        summary="Rows by content key or by range, as JSON or Arrow",
        response_model=Rows,
        responses=NOT_MODIFIED | {200: {"content": {ARROW_TYPE: {}}}},
    )
    def rows(
        request: Request,
        owner: str,
        name: str,
        key: Annotated[
            str | None,
            Parameter(description="32 hex digits", max_length=64, examples=["00c1f0a5b7e2493d8a6f1e2d3c4b5a69"]),
        ] = None,
        first: Annotated[int, Parameter(ge=0, le=1 << 40)] = 0,
        count: Annotated[int, Parameter(ge=0, le=1000)] = 100,
        format: Literal["json", "arrow"] = "json",  # noqa: A002 - the name in the address
        folder: Folder = "",
    ) -> Response:
        """Content key, target digest and stored values of each row; values are the tensors' own numbers."""
        entry = found(catalogue, shelf, f"{owner}/{name}", identify(request), folder)
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
            stream = arrow_stream(table)
            return Response(stream, media_type=ARROW_TYPE, headers=caching(f"{entry.revision}-arrow"))
        lines = [RowLine.model_validate(asdict(row)) for row in table.rows]
        return tagged(request, Rows(total=table.total, rows=lines))


def found(catalogue: Catalogue, shelf: Shelf, repo_id: str, viewer: Viewer, folder: str = "") -> Entry:
    """The entry; 404 where it is missing or not the viewer's to see."""
    _demand(shelf, repo_id, viewer)
    entry = catalogue.one(repo_id, viewer, folder=folder)
    if entry is None:
        raise _missing()
    return entry


def read(shelf: Shelf, entry: Entry) -> Commentary:
    """The commentary behind an entry; 404 where its files are gone or no longer sound."""
    try:
        return read_commentary(shelf, entry.repo_id, entry.revision, folder=entry.folder)
    except (ArtefactError, FileNotFoundError) as error:
        raise _missing() from error


def evidence_of(commentary: Commentary) -> dict[str, Any] | None:
    """The evidence as JSON."""
    return commentary.evidence.model_dump(mode="json", exclude_none=True) if commentary.evidence else None


def _lineage(catalogue: Catalogue, entry: Entry, commentary: Commentary, viewer: Viewer) -> Lineage:
    known = dict(catalogue.parents(entry, viewer))
    parents = []
    for parent in commentary.manifest.parents:
        there = known.get(parent.reference)
        parents.append(
            ParentLine(
                reference=parent.reference,
                origin=parent.origin,
                digest=parent.digest,
                id=there.repo_id if there is not None else None,
            )
        )
    return Lineage(parents=parents, children=[child.id for child in catalogue.children(entry.repo_id, viewer)])


def _demand(shelf: Shelf, repo_id: str, viewer: Viewer) -> None:
    """The repository itself says who may read it, whatever the catalogue lists."""
    place = shelf.place(repo_id)
    if place is None or not viewer.may_read(place.repo_id, private=place.private):
        raise _missing()


def _unlisted(shelf: Shelf, repo_id: str) -> HTTPException:
    """Why a repository that may be read is not listed."""
    place = shelf.place(repo_id)
    if place is None or place.problem is None:
        return _missing()
    return HTTPException(422, f"{place.repo_id} is kept, but not listed: {place.problem}")


def _missing() -> HTTPException:
    return HTTPException(404, "no such commentary")
