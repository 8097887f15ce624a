"""A commentary's files: list, one file, pictures, history, the difference of two revisions."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from commentary_hub.errors import TensorFileInvalid
from commentary_hub_server.routes.pages._site import Site
from commentary_hub_server.rules.catalogue import Entry, StoredFile, difference, read_header

MAX_TEXT_BYTES = 60_000  # escaped, this stays below a page's 150 kB
MAX_PICTURE_BYTES = 8 * 1024 * 1024
_PICTURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_TEXTS = (".json", ".md", ".toml", ".txt", ".csv")


def add_files(router: APIRouter, site: Site) -> None:
    """Add the pages about files and revisions."""

    @router.get("/datasets/{owner}/{name}/tree/{revision:path}")
    def tree(request: Request, owner: str, name: str, revision: str) -> Response:
        entry, commit = _at(site, request, owner, name, revision)
        if entry is None or commit is None:
            return site.missing(request)
        files = site.shelf.files(entry.repo_id, commit)[:500]
        allowed = site.may_administer(request, entry)
        return site.render(request, "files.html", entry=entry, revision=commit, files=files, may_administer=allowed)

    @router.get("/datasets/{owner}/{name}/blob/{revision}/{path:path}")
    def blob(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        entry, commit = _at(site, request, owner, name, revision)
        file = _file(site, entry, commit, path)
        if entry is None or commit is None or file is None:
            return site.missing(request)
        header, problem, text = None, None, ""
        if path.endswith(".safetensors"):
            try:
                header = read_header(
                    lambda start, length: site.shelf.read(entry.repo_id, commit, path, start, length), file.size_bytes
                )
            except TensorFileInvalid as error:
                problem = str(error)
        elif path.lower().endswith(_TEXTS):
            text = site.shelf.read(entry.repo_id, commit, path, 0, MAX_TEXT_BYTES).decode(errors="replace")
        else:
            problem = "Files of this type can be downloaded, not shown."
        return site.render(
            request, "file.html", entry=entry, path=path, header=header, problem=problem, text=text,
            cut=file.size_bytes > MAX_TEXT_BYTES, may_administer=site.may_administer(request, entry),
        )  # fmt: skip

    @router.get("/datasets/{owner}/{name}/picture/{revision}/{path:path}")
    def picture(request: Request, owner: str, name: str, revision: str, path: str) -> Response:
        entry, commit = _at(site, request, owner, name, revision)
        file = _file(site, entry, commit, path)
        if entry is None or commit is None or file is None or file.size_bytes > MAX_PICTURE_BYTES:
            return site.missing(request)
        data = site.shelf.read(entry.repo_id, commit, path, 0, MAX_PICTURE_BYTES)
        # By its first bytes, never by its name: what is not a picture is not served from here.
        kind = next((kind for magic, kind in _PICTURES.items() if data.startswith(magic)), None)
        if kind is None:
            return site.missing(request)
        policy = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=kind, headers={**policy, "Cache-Control": "private, max-age=300"})

    _add_history(router, site)


def _add_history(router: APIRouter, site: Site) -> None:
    @router.get("/datasets/{owner}/{name}/commits/{revision:path}")
    def commits(request: Request, owner: str, name: str, revision: str) -> Response:
        entry, commit = _at(site, request, owner, name, revision)
        if entry is None or commit is None:
            return site.missing(request)
        revisions = site.shelf.history(entry.repo_id, commit, 100)
        allowed = site.may_administer(request, entry)
        return site.render(request, "history.html", entry=entry, revisions=revisions, may_administer=allowed)

    @router.get("/datasets/{owner}/{name}/difference")
    def compared(request: Request, owner: str, name: str, before: str, after: str) -> Response:
        entry, old = _at(site, request, owner, name, before)
        _, new = _at(site, request, owner, name, after)
        if entry is None or old is None or new is None:
            return site.missing(request)
        return site.render(
            request, "difference.html", entry=entry, before=old, after=new,
            changes=difference(site.shelf, entry.repo_id, old, new), may_administer=site.may_administer(request, entry),
        )  # fmt: skip


def _at(site: Site, request: Request, owner: str, name: str, revision: str) -> tuple[Entry | None, str | None]:
    entry = site.entry(request, owner, name)
    return entry, site.shelf.resolve(entry.repo_id, revision) if entry else None


def _file(site: Site, entry: Entry | None, commit: str | None, path: str) -> StoredFile | None:
    if entry is None or commit is None:
        return None
    return next((file for file in site.shelf.files(entry.repo_id, commit) if file.path == path), None)
