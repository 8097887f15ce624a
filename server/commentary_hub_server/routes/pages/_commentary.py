"""The page of one commentary: how to use it, whether it helps, what it says. And of a repository without one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from commentary_hub.errors import ArtefactError
from commentary_hub.manifest import CARD_NAME, Evidence, Measurement, Outcome
from commentary_hub_server.routes.pages._charts import Axis
from commentary_hub_server.routes.pages._findings import Findings, Weights, findings
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.routes.pages._snippets import endpoint_line, export_line, snippets
from commentary_hub_server.routes.pages._templates import home
from commentary_hub_server.rules.catalogue import (
    PICTURE_ENDINGS,
    Commentary,
    Entry,
    Place,
    read_commentary,
    render_card_html,
)

MAX_PICTURES = 12
MAX_STUDENTS, MAX_CONTROLS = 8, 16
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Board:
    """One student's part of the evidence: its own accuracy, and the gain over each control on one axis."""

    student: str
    own: Measurement | None
    lines: tuple[tuple[Measurement, Outcome | None], ...]
    axis: Axis


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the artefact, with its alternative text."""

    path: str
    href: str
    caption: str


def add_commentary(router: APIRouter, site: Site) -> None:
    """Add the page that everything leads to."""

    @router.get("/datasets/{owner}/{name}")
    def at_root(request: Request, owner: str, name: str, threshold: str = "0.5") -> Response:
        place = site.place(request, owner, name)
        if place is None:
            return site.missing(request)
        entry = site.catalogue.one(place.repo_id, site.viewer(request))
        if entry is None:
            return _repository(site, request, place)
        return _page(site, request, place, entry, threshold)

    @router.get("/datasets/{owner}/{name}/commentaries/{inside}")
    def inside_a_dataset(request: Request, owner: str, name: str, inside: str, threshold: str = "0.5") -> Response:
        place = site.place(request, owner, name)
        if place is None:
            return site.missing(request)
        entry = site.catalogue.one(place.repo_id, site.viewer(request), folder=f"commentaries/{inside}")
        return site.missing(request) if entry is None else _page(site, request, place, entry, threshold)


def _page(site: Site, request: Request, place: Place, entry: Entry, threshold: str) -> Response:
    try:
        found = read_commentary(site.shelf, entry.repo_id, entry.revision, folder=entry.folder)
    except (ArtefactError, FileNotFoundError):
        return site.missing(request)
    viewer = site.viewer(request)
    card = render_card_html(found.card, home(entry.repo_id), entry.revision, entry.folder)
    pictures = _pictures(site, found)
    shown = findings(site.shelf, found, _threshold(threshold))
    return site.render(
        request,
        "commentary.html",
        **{**site.heading(request, place), "entry": entry},
        manifest=found.manifest,
        evidence=found.evidence,
        boards=_boards(found.evidence),
        snippets=snippets(entry),
        endpoint=endpoint_line(str(request.base_url)),
        export=export_line(entry, found.manifest),
        card=card,
        # What the card shows anyway is not shown twice, except where it is all that can be seen of the commentary.
        pictures=[picture for picture in pictures if shown is None or not _is_shown(picture, shown, card)],
        findings=shown,
        parents=site.catalogue.parents(entry, viewer),
        children=site.catalogue.children(entry.repo_id, viewer),
    )


def _is_shown(picture: Picture, findings: Findings, card: str) -> bool:
    is_sheet = isinstance(findings, Weights) and findings.sheet is not None and findings.sheet.path == picture.path
    return is_sheet or picture.href in card


def _repository(site: Site, request: Request, place: Place) -> Response:
    """The page of a repository that holds no commentary at its root: what it holds, or why that is not listed."""
    commit = site.shelf.resolve(place.repo_id, "main")
    card = ""
    if commit is not None:
        try:
            text = site.shelf.read(place.repo_id, commit, CARD_NAME, 0, _MAX_CARD_BYTES).decode(errors="replace")
            card = render_card_html(text, home(place.repo_id), commit)
        except FileNotFoundError:
            card = ""
    inside = site.catalogue.of_repository(place.repo_id, site.viewer(request))
    return site.render(
        request, "repository.html", **site.heading(request, place), inside=inside, card=card,
        axis=Axis.over(*(value for one in inside for value in (one.gain_low, one.gain_high))),
        endpoint=endpoint_line(str(request.base_url)),
    )  # fmt: skip


def _boards(evidence: Evidence | None) -> list[Board]:
    if evidence is None:
        return []
    outcomes = {(verdict.student, verdict.control): verdict.outcome for verdict in evidence.verdicts}
    axis = Axis.over(*(end for line in evidence.measurements for end in line.difference_ci95 or ()))
    boards = []
    for student in [*dict.fromkeys(line.student for line in evidence.measurements)][:MAX_STUDENTS]:
        lines = [line for line in evidence.measurements if line.student == student]
        own = next((line for line in lines if line.difference_mean is None), None)
        compared = tuple((line, outcomes.get((student, line.control))) for line in lines if line is not own)[
            :MAX_CONTROLS
        ]
        boards.append(Board(student, own, compared, axis))
    return boards


def _pictures(site: Site, found: Commentary) -> list[Picture]:
    """Pictures below ``plots/``, with the texts of ``captions.json``."""
    folder = f"{found.prefix}plots/"
    base = f"{home(found.repo_id)}/picture/{found.revision}"
    try:
        raw = json.loads(site.shelf.read(found.repo_id, found.revision, f"{folder}captions.json", 0, 1 << 18))
        captions = raw if isinstance(raw, dict) else {}
    except (FileNotFoundError, ValueError, RecursionError):
        captions = {}
    paths = [file.path for file in found.files if file.path.startswith(folder) and file.path.endswith(PICTURE_ENDINGS)]
    pictures = []
    for path in paths[:MAX_PICTURES]:
        name = path.removeprefix(folder)
        caption = str(captions.get(name) or name.rpartition(".")[0].replace("_", " ").replace("-", " "))
        pictures.append(Picture(path, f"{base}/{quote(path)}", caption[:500]))
    return pictures


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.5
    return min(1.0, max(0.0, value)) if value == value else 0.5  # noqa: PLR0124 - nan
