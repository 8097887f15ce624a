"""What every page shares: templates, sessions, the guard of forms, headers, and finding things for a viewer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

from commentary_hub_server.routes.pages._templates import templates
from commentary_hub_server.rules.catalogue import Accounts, Catalogue, Entry, Place, Shelf, Viewer
from commentary_hub_server.rules.membership import Attempts

SESSION_S = 14 * 24 * 3600
COOKIE = "commentary_hub_session"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
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
        self.attempts = Attempts()
        self._secure = secure
        self._sessions = URLSafeTimedSerializer(secret, salt="session")
        self._guard = hashlib.sha256(b"forms" + secret.encode()).digest()
        self._templates = templates()

    def session(self, request: Request) -> Session:
        """The session of a request; a fresh anonymous one where there is none, or it is forged, ended or too old."""
        known: Session | None = getattr(request.state, "session", None)
        if known is None:
            known = request.state.session = self._session(request.cookies.get(COOKIE, ""))
        return known

    def _session(self, cookie: str) -> Session:
        try:
            found = self._sessions.loads(cookie, max_age=SESSION_S)
            user, nonce, epoch = found["user"], found["nonce"], found["epoch"]
        except (BadSignature, KeyError, TypeError):
            user, nonce, epoch = None, "", None
        if not nonce or (user is not None and self.accounts.session_epoch(user) != epoch):
            return Session(None, secrets.token_urlsafe(16), is_new=True)
        return Session(user, nonce)

    def viewer(self, request: Request) -> Viewer:
        """Who looks at the pages: the session's user, as the accounts know them now."""
        return self.accounts.viewer(self.session(request).user)

    def render(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page with its headers; forms on it carry the session's token."""
        session = self.session(request)
        viewer = self.accounts.viewer(session.user)
        body = self._templates.get_template(template).render(viewer=viewer, csrf=self._token(session), **values)
        response = HTMLResponse(body, status, dict(PAGE_HEADERS))
        if session.is_new and 'name="csrf"' in body:
            self._keep(response, session)
        return response

    def missing(self, request: Request) -> Response:
        """The one answer for what does not exist and for what the viewer may not see."""
        return self.render(
            request,
            "problem.html",
            status=404,
            title="Not found",
            text="There is no such page, or it is not yours to see.",
        )

    def nowhere(self, request: Request) -> Response:
        """The answer where the hub has no page at all: people see one, programs the 404 that they expect."""
        is_page = request.method == "GET" and not request.url.path.startswith("/api/")
        if not is_page or "text/html" not in request.headers.get("accept", ""):
            raise HTTPException(404)
        return self.missing(request)

    def form_is_ours(self, request: Request, token: str) -> bool:
        """Whether a form was served to this very session by this site."""
        return hmac.compare_digest(token.encode(), self._token(self.session(request)).encode())

    def refused(self, request: Request) -> Response:
        """The answer to a form that is not ours."""
        text = "The form is too old or came from another site: load the page again, then send it."
        return self.render(request, "problem.html", status=403, title="Not accepted", text=text)

    def sign_in(self, user: str | None, to: str = "/") -> Response:
        """Begin a session under a fresh nonce (``None`` signs out) and go on to a page of this site."""
        response = RedirectResponse(local(to), 303, dict(PAGE_HEADERS))
        self._keep(response, Session(user, secrets.token_urlsafe(16)))
        return response

    def place(self, request: Request, owner: str, name: str) -> Place | None:
        """The repository, if it exists for this viewer."""
        found = self.shelf.place(f"{owner}/{name}")
        if found is None or not self.viewer(request).may_read(found.repo_id, private=found.private):
            return None
        return found

    def heading(self, request: Request, place: Place) -> dict[str, Any]:
        """What the head of every page about a repository shows: the place, the commentary at its root, the rights."""
        viewer = self.viewer(request)
        entry: Entry | None = self.catalogue.one(place.repo_id, viewer)
        return {
            "place": place,
            "entry": entry,
            "may_administer": self.accounts.may_administer(viewer, place.repo_id),
        }

    def _token(self, session: Session) -> str:
        return hmac.new(self._guard, session.nonce.encode(), hashlib.sha256).hexdigest()

    def _keep(self, response: Response, session: Session) -> None:
        epoch = None if session.user is None else self.accounts.session_epoch(session.user)
        value = self._sessions.dumps({"user": session.user, "nonce": session.nonce, "epoch": epoch})
        response.set_cookie(COOKIE, value, max_age=SESSION_S, httponly=True, samesite="lax", secure=self._secure)


def local(address: str) -> str:
    r"""An address of this site as it is, the home page for any other.

    >>> local("/tokens"), local("//evil.example"), local("/\\evil.example"), local("https://evil.example")
    ('/tokens', '/', '/', '/')
    """
    plain = address.isprintable() and "\\" not in address
    return address if plain and address.startswith("/") and not address.startswith("//") else "/"
