"""What every page shares: templates, sessions, the guard of forms, headers, and finding a commentary for a viewer."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from commentary_hub_server.routes.pages._charts import points, spark
from commentary_hub_server.rules.catalogue import Accounts, Catalogue, Entry, Shelf, Viewer

SESSION_S = 14 * 24 * 3600
COOKIE = "commentary_hub_session"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Vary": "Cookie",
}


@dataclass(frozen=True, slots=True)
class Session:
    """Who sits at the browser; ``nonce`` binds the forms' tokens to this session."""

    user: str | None
    nonce: str
    is_new: bool = False


class Site:
    """The pages' own world, handed to each group of routes."""

    def __init__(
        self, catalogue: Catalogue, shelf: Shelf, accounts: Accounts, secret: str, *, secure: bool = False
    ) -> None:
        self.catalogue, self.shelf, self.accounts = catalogue, shelf, accounts
        self._secure = secure
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._guard = URLSafeTimedSerializer(secret, salt="form")
        folder = Path(__file__).parents[2] / "templates"
        self._templates = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
        self._templates.trim_blocks = self._templates.lstrip_blocks = True
        self._templates.globals.update(
            points=points, spark=spark, day=day, size=size, home=home, dataset_page=dataset_page
        )

    def session(self, request: Request) -> Session:
        """The session of a request; a fresh anonymous one where there is none, or it is forged or too old."""
        try:
            found = self._sessions.loads(request.cookies.get(COOKIE, ""), max_age=SESSION_S)
            return Session(found["user"], found["nonce"])
        except (BadSignature, KeyError, TypeError):
            return Session(None, secrets.token_urlsafe(16), is_new=True)

    def viewer(self, request: Request) -> Viewer:
        """Who looks at the pages: the session's user, as the accounts know them now."""
        return self.accounts.viewer(self.session(request).user)

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page with its headers; forms on it carry the session's token."""
        session = self.session(request)
        viewer = self.accounts.viewer(session.user)
        csrf = self._guard.dumps(session.nonce)
        body = self._templates.get_template(template).render(viewer=viewer, csrf=csrf, **values)
        response = HTMLResponse(body, status, dict(PAGE_HEADERS))
        if session.is_new and 'name="csrf"' in body:
            self._keep(response, session)
        return response

    def missing(self, request: Request) -> Response:
        """The one answer for what does not exist and for what the viewer may not see."""
        return self.render(request, "problem.html", status=404, title="Not found", text="There is no such page.")

    def form_is_ours(self, request: Request, token: str) -> bool:
        """Whether a form was served to this very session by this site."""
        try:
            nonce = str(self._guard.loads(token, max_age=SESSION_S))
        except BadSignature:
            return False
        return hmac.compare_digest(nonce, self.session(request).nonce)

    def refused(self, request: Request) -> Response:
        """The answer to a form that is not ours."""
        text = "The form is too old or came from another site: load the page again, then send it."
        return self.render(request, "problem.html", status=403, title="Not accepted", text=text)

    def sign_in(self, user: str | None, to: str = "/") -> Response:
        """Begin a session under a fresh nonce (``None`` signs out)."""
        response = RedirectResponse(to, 303, dict(PAGE_HEADERS))
        self._keep(response, Session(user, secrets.token_urlsafe(16)))
        return response

    def entry(self, request: Request, owner: str, name: str) -> Entry | None:
        """The commentary, if it exists for this viewer."""
        return self.catalogue.one(f"{owner}/{name}", self.viewer(request))

    def may_administer(self, request: Request, entry: Entry) -> bool:
        """Whether settings are shown."""
        return self.accounts.may_administer(self.viewer(request), entry.repo_id)

    def _keep(self, response: Response, session: Session) -> None:
        value = self._sessions.dumps({"user": session.user, "nonce": session.nonce})
        response.set_cookie(COOKIE, value, max_age=SESSION_S, httponly=True, samesite="lax", secure=self._secure)


def home(repo_id: str) -> str:
    """The address of a commentary's page, the one that clients print after a push."""
    return f"/datasets/{quote(repo_id)}"


def dataset_page(dataset: str) -> str:
    """The address of a dataset's page."""
    return f"/for/{quote(dataset)}"


def day(seconds: float) -> str:
    """A day in UTC, as 2026-11-24."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def size(count: int) -> str:
    """Bytes for people.

    >>> size(900), size(1_500_000)
    ('900 B', '1.5 MB')
    """
    number = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
