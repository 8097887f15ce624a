"""What every hub route shares: who asks, which repository, and how a refusal looks to the client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from commentary_hub.errors import (
    CommentaryHubError,
    DigestMismatch,
    HubAccessDenied,
    HubConflict,
    HubNotFound,
    InputError,
)
from commentary_hub_server.routes.hub._addresses import plain
from commentary_hub_server.rules.accounts import Directory, Profile
from commentary_hub_server.rules.repositories import Commit, History, Quota, Repositories, Repository
from commentary_hub_server.rules.uploads import Uploads
from commentary_hub_server.rules.xet import Signer, XetService
from commentary_hub_server.store import Objects


class Refused(Exception):
    """A refusal as the clients recognise it: a status, and a code in ``X-Error-Code``."""

    def __init__(
        self, status: int, message: str, code: str | None = None, *, headers: dict[str, str] | None = None, **body: Any
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body
        self.headers = headers or {}


def refusal(error: Refused | CommentaryHubError) -> JSONResponse:
    """The reply for a refusal or for one of our errors."""
    cut_off = isinstance(error, DigestMismatch)
    if isinstance(error, CommentaryHubError):
        error = Refused(_status(error), error.message, error.facts.get("code"))
    plain_text = "".join(one if one.isascii() and one.isprintable() else "?" for one in error.message)
    headers = {"X-Error-Message": plain_text[:500].strip()}
    if error.status == 413 or cut_off:
        headers["Connection"] = "close"  # the rest of the body is not even read
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.body}, error.status, headers | error.headers)


async def http_refusal(_request: Request, error: Exception) -> JSONResponse:
    """The reply for what the web framework refuses: a bad parameter, an unknown address."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return refusal(Refused(400, f"{where}: {first['msg']}"))
    assert isinstance(error, HTTPException)
    return refusal(Refused(error.status_code, str(error.detail), headers=dict(error.headers or {})))


async def unstorable(_request: Request, error: Exception) -> JSONResponse:
    """The reply for a text that no database takes: half a character, a NUL, or more than a column holds."""
    if isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8":
        raise error
    return refusal(Refused(400, "a text here is too long, or holds a character that cannot be stored"))


def _status(error: CommentaryHubError) -> int:
    if isinstance(error, HubConflict):
        return int(error.facts.get("status", 409))
    if isinstance(error, HubAccessDenied):
        return 401
    if isinstance(error, HubNotFound):
        return 404
    return 400 if isinstance(error, InputError | DigestMismatch) else 500


@dataclass(frozen=True, slots=True)
class Doors:
    """The rules behind the routes, and the questions that every route asks first."""

    repositories: Repositories
    history: History
    directory: Directory
    objects: Objects
    xet: XetService
    signer: Signer
    uploads: Uploads
    quota: Quota
    public_url: str = ""
    accel_prefix: str | None = None
    redirect_s: int | None = None
    spools: Path | None = None  # where large bodies wait until they are whole; the system's temporary folder

    def base(self, request: Request) -> str:
        """Where the world reaches this hub: as set, or as it was asked."""
        return self.public_url or str(request.base_url).rstrip("/")

    def here(self, request: Request, query: Iterable[tuple[str, str]]) -> str:
        """The address that was asked, encoded as it was, with another query."""
        path = request.scope["raw_path"].split(b"?")[0].decode("latin-1")
        root = request.scope.get("root_path", "")
        return f"{self.base(request)}{path.removeprefix(root)}?{urlencode(list(query))}"

    def profile(self, request: Request) -> Profile:
        """Who asks, by their bearer token; a wrong token is refused, none is a stranger."""
        profile = self.bearer(request.headers.get("authorization", ""))
        if profile.user is not None:
            request.state.caller = profile.user.name  # for the rate limit
        return profile

    def bearer(self, header: str) -> Profile:
        """Who an Authorization header belongs to."""
        scheme, _, token = header.partition(" ")
        return self.directory.by_token(token.strip() if scheme.lower() == "bearer" and token.strip() else None)

    def repository(self, request: Request, kind: str, owner: str, name: str, *, write: bool = False) -> Repository:
        """The repository, if it exists for the one who asks; a private one is missing for everybody else."""
        profile = self.profile(request)
        found = self.repositories.get(kind, f"{owner}/{name}")
        if found is None or not profile.may_read(found.key, private=found.private):
            raise Refused(404, "Repository not found", "RepoNotFound")
        if write and not profile.may_write(found.key):
            if profile.user is None:
                raise Refused(401, "Log in first: writing needs a token with the role write")
            raise Refused(403, f"Your token may not write to {found.name}: it needs the role write there")
        return found

    def commit(self, repository: Repository, revision: str) -> Commit:
        """The commit that a revision names."""
        found = self.history.resolve(repository, plain(revision))
        if found is None:
            raise Refused(404, f"Invalid rev id: {plain(revision)}", "RevisionNotFound")
        return found

    def demand_user(self, request: Request) -> Profile:
        """Who asks; a stranger is refused."""
        profile = self.profile(request)
        if profile.user is None:
            raise Refused(401, "Invalid username or password.")
        return profile
