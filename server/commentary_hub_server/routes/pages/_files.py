"""A repository's files: list, one file, pictures, history, the difference of two revisions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from commentary_hub.errors import TensorFileInvalid
from commentary_hub_server.routes.hub import plain
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.routes.pages._templates import home
from commentary_hub_server.rules.catalogue import PICTURE_ENDINGS, Place, Shelf, StoredFile, difference, read_header

MAX_FILES = 150
MAX_COUNTED = 10_000
MAX_TEXT_BYTES = 60_000  # escaped, this stays below a page's 150 kB
MAX_PICTURE_BYTES = 8 * 1024 * 1024
_PIECE = 1 << 20
MAX_TENSORS, MAX_NAME = 500, 200
MAX_HEADER_CHARACTERS = 40_000  # of tensors' names, and of metadata, as a page holds them
MAX_REVISIONS = 100
MAX_BRANCH_PARTS = 6  # between slashes that are not encoded: each is looked up
TEXTS = (".json", ".md", ".toml", ".txt", ".csv", ".jsonl", ".yaml", ".yml")
Shown = TypeVar("Shown")
_PICTURES = {
    rb"\x89PNG\r\n\x1a\n": "image/png", rb"\xff\xd8\xff": "image/jpeg", rb"GIF8": "image/gif",
    rb"(?s)RIFF.{4}WEBP": "image/webp",
}  # fmt: skip


def add_files(router: APIRouter, site: Site) -> None:
    """Add the pages about files and revisions."""

    @router.get("/datasets/{owner}/{name}/tree/{address:path}")
    def tree(request: Request, owner: str, name: str, address: str, after: str = "") -> Response:
        place = site.place(request, owner, name)
        listed = file_list(site.shelf, place.repo_id, home(place.repo_id), address, after) if place else None
        if place is None or listed is None:
            return site.missing(request)
        if isinstance(listed, Response):
            return listed
        shown = (".safetensors", *TEXTS, *PICTURE_ENDINGS)
        return site.render(request, "files.html", **site.heading(request, place), **listed, shown=shown)

    @router.get("/datasets/{owner}/{name}/blob/{revision}/{path:path}")
    def blob(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        place, commit = _at(site, request, owner, name, revision)
        path = plain(path)
        file = _file(site, place, commit, path)
        if place is None or commit is None:
            return site.missing(request)
        if file is None:
            folder = path.strip("/")
            is_folder = bool(site.shelf.files(place.repo_id, commit, folder=folder, limit=1))
            where = f"{home(place.repo_id)}/tree/{commit}/{quote(folder)}"
            return RedirectResponse(where) if is_folder else site.missing(request)
        header, problem, text = None, None, None
        if path.endswith(".safetensors"):
            try:
                header = read_header(
                    lambda start, length: site.shelf.read(place.repo_id, commit, path, start, length), file.size_bytes
                )
            except TensorFileInvalid as error:
                problem = str(error)
        elif path.lower().endswith(TEXTS):
            text = site.shelf.read(place.repo_id, commit, path, 0, MAX_TEXT_BYTES).decode(errors="replace")
        return site.render(
            request, "file.html", **site.heading(request, place), revision=commit, file=file, header=header,
            problem=problem, text=text, is_cut=file.size_bytes > MAX_TEXT_BYTES,
            tensors=_fitting([(one.name[:MAX_NAME], one) for one in header.tensors] if header else [], MAX_TENSORS),
            metadata=_fitting([(f"{a[:MAX_NAME]}{b}", (a, b)) for a, b in header.metadata.items()] if header else []),
            max_name=MAX_NAME,
            is_picture=path.lower().endswith(PICTURE_ENDINGS),
        )  # fmt: skip

    @router.get("/datasets/{owner}/{name}/raw/{revision}/{path:path}")
    def raw(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        place, commit = _at(site, request, owner, name, revision)
        if place is None or commit is None:
            return site.missing(request)
        return RedirectResponse(f"{home(place.repo_id)}/resolve/{commit}/{quote(plain(path))}")

    _add_pictures(router, site)
    _add_history(router, site)


def _add_pictures(router: APIRouter, site: Site) -> None:
    @router.get("/datasets/{owner}/{name}/picture/{revision}/{path:path}")
    def picture(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        place, commit = _at(site, request, owner, name, revision)
        path = plain(path)
        file = _file(site, place, commit, path)
        if place is None or commit is None or file is None or file.size_bytes > MAX_PICTURE_BYTES:
            return site.missing(request)
        first = site.shelf.read(place.repo_id, commit, path, 0, _PIECE)
        # By its first bytes, never by its name: what is not a picture is not served from here.
        kind = next((kind for magic, kind in _PICTURES.items() if re.match(magic, first)), None)
        if kind is None:
            return site.missing(request)
        policy = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
        headers = {**policy, "Cache-Control": "private, max-age=300", "Vary": "Cookie"}
        headers["Content-Length"] = str(file.size_bytes)

        def pieces() -> Iterator[bytes]:
            yield first
            for start in range(_PIECE, file.size_bytes, _PIECE):
                yield site.shelf.read(place.repo_id, commit, path, start, _PIECE)

        return StreamingResponse(pieces(), media_type=kind, headers=headers)


def _add_history(router: APIRouter, site: Site) -> None:
    @router.get("/datasets/{owner}/{name}/commit/{revision}")
    def one_commit(request: Request, owner: str, name: str, revision: str) -> Response:
        """The address that clients print after an upload: what it changed."""
        place, commit = _at(site, request, owner, name, revision)
        if place is None or commit is None:
            return site.missing(request)
        before = [one.id for one in site.shelf.history(place.repo_id, commit, 2)[1:]]
        end = f"difference?before={before[0]}&after={commit}" if before else f"tree/{commit}"
        return RedirectResponse(f"{home(place.repo_id)}/{end}")

    @router.get("/datasets/{owner}/{name}/commits/{revision:path}")
    def commits(request: Request, owner: str, name: str, revision: str) -> Response:
        place, commit = _at(site, request, owner, name, revision)
        if place is None or commit is None:
            return site.missing(request)
        revisions = site.shelf.history(place.repo_id, commit, MAX_REVISIONS)
        return site.render(request, "history.html", **site.heading(request, place), revisions=revisions)

    @router.get("/datasets/{owner}/{name}/difference")
    def compared(request: Request, owner: str, name: str, before: str = "", after: str = "main") -> Response:
        place, new = _at(site, request, owner, name, after)
        old = site.shelf.resolve(place.repo_id, before) if place is not None and before else None
        if place is None or old is None or new is None:
            return site.missing(request)
        return site.render(
            request, "difference.html", **site.heading(request, place), before=old, after=new,
            changes=difference(site.shelf, place.repo_id, old, new),
        )  # fmt: skip


def _at(site: Site, request: Request, owner: str, name: str, revision: str) -> tuple[Place | None, str | None]:
    place = site.place(request, owner, name)
    return place, site.shelf.resolve(place.repo_id, plain(revision)) if place else None


def file_list(shelf: Shelf, repo_id: str, home: str, address: str, after: str) -> dict[str, Any] | Response | None:
    """What a list of the files at ``revision/folder`` says, behind the path ``after``, of a repository at ``home``.

    Of a file it is the way to its page, and ``None`` where there is neither. Whoever shows the list adds ``shown``, the
    endings of files with a page of their own.
    """
    commit, folder = _below(shelf, repo_id, address)
    if commit is None:
        return None
    files = shelf.files(repo_id, commit, folder=folder, limit=MAX_COUNTED + 1)
    if folder and not files:
        is_file = bool(shelf.some(repo_id, commit, [folder]))
        return RedirectResponse(f"{home}/blob/{commit}/{quote(folder)}") if is_file else None
    later = shelf.files(repo_id, commit, folder=folder, after=after, limit=MAX_FILES + 1) if after else files
    return {
        "address": home, "revision": commit, "folder": folder, "files": later[:MAX_FILES],
        "count": len(files), "most": MAX_COUNTED,
        "total_bytes": sum(file.size_bytes for file in files),
        "after": later[MAX_FILES - 1].path if len(later) > MAX_FILES else None,
    }  # fmt: skip


def _below(shelf: Shelf, repo_id: str, address: str) -> tuple[str | None, str]:
    """The commit and the folder of ``revision/folder``; a branch's slash is encoded as clients do it, or not."""
    parts = address.split("/")
    for count in range(1, min(len(parts), MAX_BRANCH_PARTS) + 1):
        commit = shelf.resolve(repo_id, plain("/".join(parts[:count])))
        if commit is not None:
            return commit, plain("/".join(parts[count:])).strip("/")
    return None, ""


def _file(site: Site, place: Place | None, commit: str | None, path: str) -> StoredFile | None:
    if place is None or commit is None:
        return None
    return next(iter(site.shelf.some(place.repo_id, commit, [path])), None)


def _fitting(said: Sequence[tuple[str, Shown]], most: int = 100) -> list[Shown]:
    """The first few of what is shown, as many as a page has room for by the texts that stand for them."""
    shown, left = [], MAX_HEADER_CHARACTERS
    for text, one in said[:most]:
        left -= len(escape(text))
        if left < 0:
            break
        shown.append(one)
    return shown
