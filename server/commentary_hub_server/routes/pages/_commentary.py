"""The page of one commentary: how to use it, whether it helps, what it says."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from commentary_hub.errors import ArtefactError
from commentary_hub.manifest import Evidence
from commentary_hub_server.routes.pages._charts import Interval, curriculum, histogram, intervals
from commentary_hub_server.routes.pages._site import Site, home
from commentary_hub_server.routes.pages._snippets import snippets
from commentary_hub_server.rules.catalogue import (
    Commentary,
    Entry,
    read_commentary,
    render_card_html,
    rows_by_range,
    tensor_file,
    weights,
)

_NEIGHBOURS = 6
MAX_PICTURES = 12


def add_commentary(router: APIRouter, site: Site) -> None:
    """Add the page that everything leads to."""

    @router.get("/datasets/{owner}/{name}")
    def commentary(request: Request, owner: str, name: str, threshold: float = 0.5) -> Response:
        entry = site.entry(request, owner, name)
        if entry is None:
            return site.missing(request)
        try:
            found = read_commentary(site.shelf, entry.repo_id, entry.revision, folder=entry.folder)
        except (ArtefactError, FileNotFoundError):
            return site.missing(request)
        base = f"{home(entry.repo_id)}/picture/{entry.revision}/{entry.folder}".rstrip("/")
        return site.render(
            request,
            "commentary.html",
            entry=entry,
            manifest=found.manifest,
            evidence=found.evidence,
            boards=_boards(found.evidence),
            snippets=snippets(entry),
            card=render_card_html(found.card, base),
            pictures=_pictures(found, entry),
            may_administer=site.may_administer(request, entry),
            **_weights(site, found, min(1.0, max(0.0, threshold)) if threshold == threshold else 0.5),  # noqa: PLR0124 - nan
        )


def _boards(evidence: Evidence | None) -> list[tuple[str, Any]]:
    if evidence is None:
        return []
    outcomes = {(verdict.student, verdict.control): verdict.outcome for verdict in evidence.verdicts}
    answer = []
    for student in evidence.protocol.students:
        lines = [
            Interval(
                f"over {line.control.replace('_', ' ')}",
                line.difference_mean,
                *line.difference_ci95,
                outcomes.get((student, line.control)),
            )
            for line in evidence.measurements
            if line.student == student and line.difference_mean is not None and line.difference_ci95 is not None
        ]
        if lines:
            answer.append((student, intervals(lines, name=f"Gain in points, {student}")))
    return answer


def _pictures(found: Commentary, entry: Entry) -> list[tuple[str, str]]:
    prefix = f"{entry.folder}/plots/" if entry.folder else "plots/"
    base = f"{home(entry.repo_id)}/picture/{entry.revision}"
    paths = [file.path for file in found.files if file.path.startswith(prefix) and file.path.endswith(".png")]
    return [(path, f"{base}/{quote(path)}") for path in paths[:MAX_PICTURES]]


def _weights(site: Site, found: Commentary, threshold: float) -> dict[str, Any]:
    empty: dict[str, Any] = {"histogram": None, "curriculum": None, "heat": None, "threshold": threshold}
    if found.manifest.kind != "example_weights":
        return empty
    try:
        read, header = tensor_file(site.shelf, found)
        table = weights(read, header)
        if not table:
            return empty
        last = [line[-1] for line in table]
        # A sampled table no longer says which row a weight belongs to: then only counts are shown.
        whole = len(last) == rows_by_range(read, header, 0, 0).total
        shown = sorted(range(len(last)), key=lambda at: abs(last[at] - threshold))
        sides = [
            _side(read, header, last, [at for at in shown if (last[at] < threshold) is low], low=low, whole=whole)
            for low in (True, False)
        ]
    except (ArtefactError, FileNotFoundError):
        return empty
    stages = len(table[0])
    quartiles: list[tuple[str, list[float]]] = []
    if stages > 1:
        ordered = [sorted(line[stage] for line in table) for stage in range(stages)]
        for label, at in (("median", 0.5), ("upper quartile", 0.75), ("lower quartile", 0.25)):
            quartiles.append((label, [values[int(at * (len(values) - 1))] for values in ordered]))
    return {
        **empty,
        "histogram": histogram(last, threshold),
        "weight_count": len(last),
        "sides": sides,
        "curriculum": curriculum(quartiles) if quartiles else None,
    }


def _side(
    read: Any, header: Any, values: list[float], rows: list[int], *, low: bool, whole: bool
) -> tuple[str, int, list[Any]]:
    """The examples nearest the threshold: where a different choice would change something first."""
    nearest = [(rows_by_range(read, header, at, 1).rows[0].key, values[at]) for at in rows[: _NEIGHBOURS * whole]]
    return ("Below" if low else "Above", len(rows), nearest)
