"""The catalogue's `Accounts` over the directory and the repositories; every method checks the right to do it."""

from __future__ import annotations

from commentary_hub.errors import HubAccessDenied, HubNotFound
from commentary_hub_server.rules.accounts import Directory, Profile
from commentary_hub_server.rules.catalogue import STRANGER, TokenLine, Viewer
from commentary_hub_server.rules.repositories import Repositories, Repository


def viewer_of(profile: Profile) -> Viewer:
    """Who looks, in the catalogue's terms; a token for one repository reads no private ones by search."""
    if profile.user is None:
        return STRANGER
    if profile.only_repo is not None:
        return Viewer(profile.user.name)
    return Viewer(profile.user.name, profile.reads, profile.is_admin)


class Membership:
    """Implements `Accounts`."""

    def __init__(self, directory: Directory, repositories: Repositories) -> None:
        self._directory, self._repositories = directory, repositories

    def check_password(self, name: str, password: str) -> str | None:
        """The user's name, where the password is theirs."""
        return self._directory.check_password(name, password)

    def viewer(self, name: str | None) -> Viewer:
        """Who this is now."""
        return viewer_of(self._directory.by_name(name))

    def session_epoch(self, name: str) -> int | None:
        """The number that every live session of a user carries."""
        return self._directory.session_epoch(name)

    def end_sessions(self, name: str) -> None:
        """Let all sessions of a user end."""
        self._directory.end_sessions(name)

    def tokens(self, name: str) -> list[TokenLine]:
        """The user's tokens."""
        return [TokenLine(str(t.id), t.label, t.role, t.created_at, t.expires_at) for t in self._directory.tokens(name)]

    def create_token(self, name: str, label: str, role: str) -> str:
        """A new token's secret."""
        return self._directory.create_token(name, label=label, role=role)

    def revoke_token(self, name: str, token_id: str) -> None:
        """Forget one of the user's tokens."""
        if token_id.isdecimal() and len(token_id) < 19:
            self._directory.revoke_token(name, int(token_id))

    def may_administer(self, viewer: Viewer, repo_id: str) -> bool:
        """Whether settings and deletion are the viewer's."""
        repository = self._repositories.get("dataset", repo_id)
        if repository is None or viewer.name is None:
            return False
        return self._directory.by_name(viewer.name).may_write(repository.key)

    def set_private(self, viewer: Viewer, repo_id: str, *, private: bool) -> None:
        """Hide or show a repository."""
        repository = self._demand(viewer, repo_id)
        self._repositories.set_private(repository, private=private)

    def delete(self, viewer: Viewer, repo_id: str) -> None:
        """Delete a repository with all its revisions."""
        repository = self._demand(viewer, repo_id)
        self._repositories.delete(repository)

    def _demand(self, viewer: Viewer, repo_id: str) -> Repository:
        repository = self._repositories.get("dataset", repo_id)
        if repository is None:
            raise HubNotFound("there is no such repository")
        if not self.may_administer(viewer, repo_id):
            raise HubAccessDenied(f"{repo_id} is not yours to change")
        return repository
