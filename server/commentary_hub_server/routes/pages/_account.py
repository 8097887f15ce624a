"""Accounts: sign in and out, tokens, a repository's settings. Every form carries a token bound to its session."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from commentary_hub_server.routes.pages._site import Site, local
from commentary_hub_server.routes.pages._templates import home
from commentary_hub_server.rules.catalogue import Place

Field = Annotated[str, Form(max_length=1000)]
"""What is left out is empty, which no handler accepts: a page answers, not a list of faults."""


def add_account(router: APIRouter, site: Site) -> None:
    """Add the pages that change something."""
    _add_session(router, site)
    _add_tokens(router, site)
    _add_settings(router, site)


def _add_session(router: APIRouter, site: Site) -> None:
    @router.get("/sign-in")
    def form(request: Request, to: str = "/") -> Response:
        return site.render(request, "sign_in.html", problem=None, to=local(to), name="")

    @router.post("/sign-in")
    def sign_in(
        request: Request, csrf: Field = "", name: Field = "", password: Field = "", to: Field = "/"
    ) -> Response:
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        address = request.client.host if request.client else ""
        wait_s = site.attempts.begin(name, address)
        if wait_s:
            problem = f"Too many attempts: wait {-(-wait_s // 60)} minutes, then try again."
            answer = site.render(request, "sign_in.html", status=429, problem=problem, to=local(to), name=name)
            answer.headers["Retry-After"] = str(wait_s)
            return answer
        user = site.accounts.check_password(name, password)
        if user is None:
            problem = "Name or password is wrong."
            return site.render(request, "sign_in.html", status=401, problem=problem, to=local(to), name=name)
        site.attempts.succeeded(name, address)
        return site.sign_in(user, to)

    @router.post("/sign-out")
    def sign_out(request: Request, csrf: Field = "") -> Response:
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        user = site.session(request).user
        if user is not None:
            site.accounts.end_sessions(user)
        return site.sign_in(None)


def _add_tokens(router: APIRouter, site: Site) -> None:
    @router.get("/tokens")
    def tokens(request: Request) -> Response:
        user = site.viewer(request).name
        if user is None:
            return RedirectResponse("/sign-in?to=/tokens", 303)
        return site.render(
            request, "tokens.html", tokens=site.accounts.tokens(user), secret=None, base=str(request.base_url)
        )

    @router.post("/tokens")
    def make(request: Request, csrf: Field = "", label: Field = "", role: Field = "") -> Response:
        user = site.viewer(request).name
        if user is None or role not in {"read", "write"} or not site.form_is_ours(request, csrf):
            return site.refused(request)
        secret = site.accounts.create_token(user, label, role)
        return site.render(
            request, "tokens.html", tokens=site.accounts.tokens(user), secret=secret, base=str(request.base_url)
        )

    @router.post("/tokens/revoke")
    def revoke(request: Request, csrf: Field = "", token: Field = "") -> Response:
        user = site.viewer(request).name
        if user is None or not site.form_is_ours(request, csrf):
            return site.refused(request)
        site.accounts.revoke_token(user, token)
        return RedirectResponse("/tokens", 303)


def _add_settings(router: APIRouter, site: Site) -> None:
    def administered(request: Request, owner: str, name: str) -> Place | None:
        """The repository, for those who may settle it; for everybody else there is no such page."""
        place = site.place(request, owner, name)
        allowed = place is not None and site.accounts.may_administer(site.viewer(request), place.repo_id)
        return place if allowed else None

    @router.get("/datasets/{owner}/{name}/settings")
    def settings(request: Request, owner: str, name: str) -> Response:
        place = administered(request, owner, name)
        if place is None:
            return site.missing(request)
        return site.render(request, "settings.html", **site.heading(request, place), problem=None)

    @router.post("/datasets/{owner}/{name}/settings/private")
    def set_private(request: Request, owner: str, name: str, csrf: Field = "", private: Field = "") -> Response:
        place = administered(request, owner, name)
        if place is None:
            return site.missing(request)
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        site.accounts.set_private(site.viewer(request), place.repo_id, private=private == "yes")
        return RedirectResponse(f"{home(place.repo_id)}/settings", 303)

    @router.post("/datasets/{owner}/{name}/settings/delete")
    def delete(request: Request, owner: str, name: str, csrf: Field = "", confirm: Field = "") -> Response:
        place = administered(request, owner, name)
        if place is None:
            return site.missing(request)
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        if confirm != place.repo_id:
            problem = f"Nothing was deleted: {place.repo_id} was not typed."
            return site.render(request, "settings.html", status=400, **site.heading(request, place), problem=problem)
        site.accounts.delete(site.viewer(request), place.repo_id)
        return RedirectResponse("/", 303)
