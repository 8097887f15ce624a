"""Accounts: sign in and out, tokens, a commentary's settings. Every form carries a token bound to its session."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from commentary_hub_server.routes.pages._site import Site, home

Field = Annotated[str, Form(max_length=1000)]


def add_account(router: APIRouter, site: Site) -> None:
    """Add the pages that change something."""
    _add_session(router, site)
    _add_tokens(router, site)
    _add_settings(router, site)


def _add_session(router: APIRouter, site: Site) -> None:
    @router.get("/sign-in")
    def form(request: Request) -> Response:
        return site.render(request, "sign_in.html", problem=None)

    @router.post("/sign-in")
    def sign_in(request: Request, csrf: Field, name: Field, password: Field) -> Response:
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        user = site.accounts.check_password(name, password)
        if user is None:
            return site.render(request, "sign_in.html", status=401, problem="Name or password is wrong.")
        return site.sign_in(user)

    @router.post("/sign-out")
    def sign_out(request: Request, csrf: Field) -> Response:
        return site.sign_in(None) if site.form_is_ours(request, csrf) else site.refused(request)


def _add_tokens(router: APIRouter, site: Site) -> None:
    @router.get("/tokens")
    def tokens(request: Request) -> Response:
        user = site.viewer(request).name
        if user is None:
            return RedirectResponse("/sign-in", 303)
        return site.render(request, "tokens.html", tokens=site.accounts.tokens(user), secret=None)

    @router.post("/tokens")
    def make(request: Request, csrf: Field, label: Field, role: Field) -> Response:
        user = site.viewer(request).name
        if user is None or role not in ("read", "write") or not site.form_is_ours(request, csrf):
            return site.refused(request)
        secret = site.accounts.create_token(user, label, role)
        return site.render(request, "tokens.html", tokens=site.accounts.tokens(user), secret=secret)

    @router.post("/tokens/revoke")
    def revoke(request: Request, csrf: Field, token: Field) -> Response:
        user = site.viewer(request).name
        if user is None or not site.form_is_ours(request, csrf):
            return site.refused(request)
        site.accounts.revoke_token(user, token)
        return RedirectResponse("/tokens", 303)


def _add_settings(router: APIRouter, site: Site) -> None:
    @router.get("/datasets/{owner}/{name}/settings")
    def settings(request: Request, owner: str, name: str) -> Response:
        entry = site.entry(request, owner, name)
        if entry is None or not site.may_administer(request, entry):
            return site.missing(request)
        return site.render(request, "settings.html", entry=entry, problem=None)

    @router.post("/datasets/{owner}/{name}/settings/private")
    def set_private(request: Request, owner: str, name: str, csrf: Field, private: Field) -> Response:
        entry = site.entry(request, owner, name)
        if entry is None or not site.may_administer(request, entry):
            return site.missing(request)
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        site.accounts.set_private(site.viewer(request), entry.repo_id, private=private == "yes")
        return RedirectResponse(f"{home(entry.repo_id)}/settings", 303)

    @router.post("/datasets/{owner}/{name}/settings/delete")
    def delete(request: Request, owner: str, name: str, csrf: Field, confirm: Field) -> Response:
        entry = site.entry(request, owner, name)
        if entry is None or not site.may_administer(request, entry):
            return site.missing(request)
        if not site.form_is_ours(request, csrf):
            return site.refused(request)
        if confirm != entry.repo_id:
            problem = f"Nothing was deleted: {entry.repo_id} was not typed."
            return site.render(request, "settings.html", status=400, entry=entry, problem=problem)
        site.accounts.delete(site.viewer(request), entry.repo_id)
        return RedirectResponse("/", 303)
