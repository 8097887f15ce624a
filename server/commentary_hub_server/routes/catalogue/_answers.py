"""What the catalogue answers, as the interface documents it: stable names, one example each."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict

from commentary_hub_server.rules.catalogue import DatasetLine, Entry

_COMMIT = "3b1c6f0f4c8e2b1a9d7e5f3a1b2c3d4e5f6a7b8c"
_ENTRY: Any = {
    "id": "ada/digits-weights",
    "revision": _COMMIT,
    "folder": "",
    "private": False,
    "updated_at": 1790000000.0,
    "name": "digits-weights",
    "owner": "ada",
    "kind": "example_weights",
    "dataset": "sklearn/digits",
    "method": "implicit, Neumann",
    "students": ["mlp", "cnn"],
    "licence": "apache-2.0",
    "gain": 0.036,
    "gain_ci95": [0.021, 0.052],
    "outcome": "helps",
    "verified": True,
    "deprecated": False,
    "description": "Weights for every training example, learned with 40 % wrong labels.",
}
MAX_FILES = 1000  # of one repository; the protocol of the hub lists all of them, by pages
_KEY = "00c1f0a5b7e2493d8a6f1e2d3c4b5a69"


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Line(_Answer):
    """One commentary as lists show it; ``gain`` is the smallest measured gain of accuracy over any control."""

    model_config = ConfigDict(json_schema_extra={"example": _ENTRY})

    id: str
    revision: str
    folder: str
    private: bool
    updated_at: float
    name: str
    owner: str
    kind: str
    dataset: str
    method: str | None
    students: list[str]
    licence: str | None
    gain: float | None
    gain_ci95: tuple[float, float] | None
    outcome: str | None
    verified: bool
    deprecated: bool
    description: str


class Listing(_Answer):
    """A page of lines, the count of all that match, the cursor of the next page, and counts per facet."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [_ENTRY],
                "total": 1,
                "next": None,
                "facets": {"kind": [["example_weights", 1]], "gain": [["0", 1], ["0.01", 1], ["0.05", 0]]},
            }
        }
    )

    items: list[Line]
    total: int
    next: str | None = None
    facets: dict[str, list[tuple[str, int]]] | None = None


class DatasetSummary(_Answer):
    """A dataset that has commentaries."""

    id: str
    count: int
    best_gain: float | None
    best_gain_ci95: tuple[float, float] | None
    outcome: str | None


class Datasets(_Answer):
    """Datasets, the best measured gain first."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "items": [
                    {
                        "id": "sklearn/digits",
                        "count": 4,
                        "best_gain": 0.036,
                        "best_gain_ci95": [0.021, 0.052],
                        "outcome": "helps",
                    }
                ]
            }
        }
    )

    items: list[DatasetSummary]


class Compared(Line):
    """A line with its evidence."""

    evidence: dict[str, Any] | None


class Comparison(_Answer):
    """Commentaries in the order asked; gains rank them only where ``same_dataset``."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"items": [{**_ENTRY, "evidence": None}] * 2, "same_dataset": True}}
    )

    items: list[Compared]
    same_dataset: bool


class FileLine(_Answer):
    """A file; ``digest`` is its SHA-256."""

    path: str
    size_bytes: int
    digest: str


class RevisionLine(_Answer):
    """One commit."""

    id: str
    title: str
    author: str
    created_at: float


class ParentLine(_Answer):
    """What it was made from; ``id`` where that is in this catalogue for you."""

    reference: str
    origin: str | None = None
    digest: str | None = None
    id: str | None = None


class Lineage(_Answer):
    """Where a commentary comes from, and what was made from it."""

    parents: list[ParentLine]
    children: list[str]


class One(Line):
    """Everything about one commentary; of its repository the first 1,000 ``files`` and the newest 100 ``revisions``."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **_ENTRY,
                "manifest": {"format": "commentary", "format_version": 1, "name": "digits-weights"},
                "evidence": {"format": "commentary-evidence", "outcome": "helps"},
                "files": [{"path": "commentary.safetensors", "size_bytes": 37_232, "digest": "9f86d081884c7d65…"}],
                "lineage": {"parents": [], "children": ["grace/digits-weights-longer"]},
                "revisions": [{"id": _COMMIT, "title": "Push", "author": "ada", "created_at": 1790000000.0}],
            }
        }
    )

    manifest: dict[str, Any]
    evidence: dict[str, Any] | None
    files: list[FileLine]
    lineage: Lineage
    revisions: list[RevisionLine]


class RowLine(_Answer):
    """One row of a table: content key and target digest in hex, and the stored numbers by tensor."""

    row: int
    key: str
    target: str
    values: dict[str, Any]


class Rows(_Answer):
    """Some rows and the count of all."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "total": 1437,
                "rows": [{"row": 0, "key": _KEY, "target": "b64216c480c06f77", "values": {"logits": [1.2, 2.4]}}],
            }
        }
    )

    total: int
    rows: list[RowLine]


def summary(entry: Entry) -> dict[str, Any]:
    """An entry as JSON: what lists, single answers and comparisons share."""
    shared = {name: getattr(entry, name) for name in Line.model_fields if name not in {"id", "students", "gain_ci95"}}
    interval = None if entry.gain_low is None or entry.gain_high is None else (entry.gain_low, entry.gain_high)
    return {"id": entry.repo_id, **shared, "students": list(entry.students), "gain_ci95": interval}


def dataset_summary(line: DatasetLine) -> DatasetSummary:
    """A dataset as JSON."""
    interval = None if line.best_low is None or line.best_high is None else (line.best_low, line.best_high)
    return DatasetSummary(
        id=line.dataset,
        count=line.count,
        best_gain=line.best_gain,
        best_gain_ci95=interval,
        outcome=line.outcome,
    )


def tagged(request: Request, answer: BaseModel) -> Response:
    """JSON with an ETag of its bytes; 304 where the client has them."""
    body = answer.model_dump_json().encode()
    etag = hashlib.blake2b(body, digest_size=16).hexdigest()
    headers = caching(etag)
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if f'"{etag}"' in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def caching(etag: str) -> dict[str, str]:
    """What one viewer sees is nobody else's to keep."""
    return {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has this answer already (If-None-Match)"}
}
