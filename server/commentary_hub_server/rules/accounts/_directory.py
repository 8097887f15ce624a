"""The directory of accounts: the only place that reads or writes users, organisations and tokens."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from dataclasses import dataclass, replace

from pwdlib import PasswordHash
from sqlalchemy import ColumnElement, Connection, Engine, Row, delete, insert, select, update

from commentary_hub.errors import HubAccessDenied, HubConflict, HubNotFound, InputError
from commentary_hub_server.rules.accounts._tables import members, owners, tokens
from commentary_hub_server.store import taken

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
# Names that are parts of addresses and must never be owners.
RESERVED = frozenset(
    {"api", "datasets", "models", "spaces", "for", "owners", "compare", "static", "docs", "sign-in", "sign-out",
     "tokens", "settings", "healthz", "readyz", "metrics", "v1", "cas", "openapi.json", "organizations", "users", "new",
     "lfs"}
)  # fmt: skip
_SHORT = "_"  # the organisation that owns repositories whose ids have one segment
_WEAKEST_PASSWORD = 8
_HASHED_AT_ONCE = 4  # argon2 takes 64 MiB and a core each time


@dataclass(frozen=True, slots=True)
class Owner:
    """A user or an organisation; ``quota_bytes`` is ``None`` for the server's default."""

    name: str
    kind: str
    full_name: str
    email: str
    is_admin: bool
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class Profile:
    """Who asks: a user, what their token may do, and the namespaces they may read and write (lower case).

    ``only_repo`` narrows the token to one repository (``dataset/owner/name`` in lower case).
    """

    user: Owner | None = None
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    orgs: tuple[tuple[str, str, str], ...] = ()  # name, full name, role
    token_label: str = ""
    token_role: str = "read"  # noqa: S105 - a role, no secret
    only_repo: str | None = None
    token_id: int = 0

    @property
    def is_admin(self) -> bool:
        """Whether everything is theirs."""
        return self.user is not None and self.user.is_admin

    def may_read(self, repo_key: str, *, private: bool) -> bool:
        """Whether a repository (``dataset/owner/name``) exists for them."""
        if self.only_repo is not None and self.only_repo != repo_key and private:
            return False
        return not private or self.is_admin or repo_key.split("/")[1] in self.reads

    def may_write(self, repo_key: str) -> bool:
        """Whether they may commit to, create or settle a repository of that key."""
        if self.token_role == "read" or (self.only_repo is not None and self.only_repo != repo_key):  # noqa: S105
            return False
        return self.is_admin or repo_key.split("/")[1] in self.writes


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its owner sees it."""

    id: int
    label: str
    role: str
    created_at: float
    expires_at: float | None


class Directory:
    """Accounts in a database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(read_only=True)
        self._passwords = PasswordHash.recommended()
        self._hashing = threading.BoundedSemaphore(_HASHED_AT_ONCE)
        # Compared against where there is no such user, so that both answers take equally long.
        self._nobody = self._passwords.hash(secrets.token_urlsafe(16))

    def is_empty(self) -> bool:
        """Whether nobody has an account yet."""
        with self._reads.connect() as connection:
            return connection.execute(select(owners.c.id).limit(1)).first() is None

    def add_user(
        self,
        name: str,
        *,
        email: str = "",
        full_name: str = "",
        password: str | None = None,
        is_admin: bool = False,
    ) -> Owner:
        """Add a user; raises `InputError` for a bad name, `HubConflict` where it is taken (whatever the case)."""
        return self._add(name, "user", email=email, full_name=full_name, password=password, is_admin=is_admin)

    def add_org(self, name: str, *, full_name: str = "", member: str | None = None, role: str = "admin") -> Owner:
        """Add an organisation, with a first member."""
        org = self._add(name, "org", full_name=full_name)
        if member is not None:
            self.add_member(name, member, role=role)
        return org

    def add_member(self, org: str, user: str, *, role: str = "write") -> None:
        """Give a user a role (read, write, admin) in an organisation."""
        if role not in {"read", "write", "admin"}:
            raise InputError(f"{role!r} is no role: give read, write or admin")
        with self._engine.begin() as connection:
            org_id, user_id = self._row(connection, org, "org").id, self._row(connection, user, "user").id
            where = (members.c.org_id == org_id) & (members.c.user_id == user_id)
            connection.execute(delete(members).where(where))
            connection.execute(insert(members).values(org_id=org_id, user_id=user_id, role=role))

    def remove_member(self, org: str, user: str) -> None:
        """Take a user's role in an organisation back; raises `HubNotFound` where they have none."""
        with self._engine.begin() as connection:
            org_id, user_id = self._row(connection, org, "org").id, self._row(connection, user, "user").id
            where = (members.c.org_id == org_id) & (members.c.user_id == user_id)
            if not connection.execute(delete(members).where(where)).rowcount:
                raise HubNotFound(f"{user} is no member of {org}", name=user)

    def disable(self, name: str) -> None:
        """Let a user in no more: without password, tokens, sessions, roles and rights; what they pushed stays."""
        with self._engine.begin() as connection:
            row = self._row(connection, name, "user")
            connection.execute(delete(tokens).where(tokens.c.user_id == row.id))
            connection.execute(delete(members).where(members.c.user_id == row.id))
            ended = {"password": None, "is_admin": False, "session_epoch": owners.c.session_epoch + 1}
            connection.execute(update(owners).where(owners.c.id == row.id).values(ended))

    def members(self, org: str) -> list[tuple[str, str]]:
        """(user, role) of an organisation; raises `HubNotFound`."""
        with self._reads.connect() as connection:
            found = connection.execute(
                select(owners.c.name, members.c.role)
                .join(members, members.c.user_id == owners.c.id)
                .where(members.c.org_id == self._row(connection, org, "org").id)
                .order_by(owners.c.key)
            )
            return [(row.name, row.role) for row in found]

    def owner(self, name: str) -> Owner | None:
        """A user or an organisation by name, in any case."""
        with self._reads.connect() as connection:
            row = connection.execute(select(owners).where(owners.c.key == name.lower())).first()
        return None if row is None else _owner(row)

    def owners(self) -> list[Owner]:
        """All users and organisations, by name."""
        with self._reads.connect() as connection:
            return [_owner(row) for row in connection.execute(select(owners).order_by(owners.c.key))]

    def set_quota(self, name: str, quota_bytes: int | None) -> None:
        """Set what an owner's repositories may hold: 0 for no limit, ``None`` for the server's default."""
        if quota_bytes is not None and quota_bytes < 0:
            raise InputError("a quota is 0 bytes (no limit) or more")
        with self._engine.begin() as connection:
            row = update(owners).where(owners.c.key == name.lower()).values(quota_bytes=quota_bytes)
            if not connection.execute(row).rowcount:
                raise HubNotFound(f"there is no user or organisation {name!r}", name=name)

    def set_password(self, name: str, password: str) -> None:
        """Set a user's password for the pages, and end the sessions that the old one began."""
        if len(password) < _WEAKEST_PASSWORD:
            raise InputError(f"a password needs at least {_WEAKEST_PASSWORD} characters")
        with self._engine.begin() as connection:
            row = self._row(connection, name, "user")
            hashed = self._passwords.hash(password)
            epoch = owners.c.session_epoch + 1
            connection.execute(update(owners).where(owners.c.id == row.id).values(password=hashed, session_epoch=epoch))

    def session_epoch(self, name: str) -> int | None:
        """The number of a user's live sessions: those that carry an earlier one have ended."""
        with self._reads.connect() as connection:
            mine = (owners.c.key == name.lower()) & (owners.c.kind == "user")
            return connection.execute(select(owners.c.session_epoch).where(mine)).scalar()

    def end_sessions(self, name: str) -> None:
        """Let all sessions of a user end."""
        with self._engine.begin() as connection:
            mine = (owners.c.key == name.lower()) & (owners.c.kind == "user")
            connection.execute(update(owners).where(mine).values(session_epoch=owners.c.session_epoch + 1))

    def check_password(self, name: str, password: str) -> str | None:
        """The user's name as stored where the password is theirs; about equally slow whatever the answer."""
        with self._reads.connect() as connection:
            row = connection.execute(
                select(owners.c.name, owners.c.password).where(owners.c.key == name.lower(), owners.c.kind == "user")
            ).first()
        hashed = row.password if row is not None and row.password else self._nobody
        with self._hashing:
            right = self._passwords.verify(password[:1000], hashed)
        return row.name if row is not None and row.password and right else None

    def create_token(
        self,
        user: str,
        *,
        label: str = "token",
        role: str = "write",
        secret: str | None = None,
        expires_at: float | None = None,
        only_repo: str | None = None,
    ) -> str:
        """A new token's secret; only its hash is kept."""
        if role not in {"read", "write"}:
            raise InputError(f"{role!r} is no role of a token: give read or write")
        secret = secret or f"hf_{secrets.token_urlsafe(32)}"
        if len(secret) < 8 or not secret.isascii() or any(c.isspace() for c in secret):
            raise InputError("a token needs at least 8 characters without spaces")
        values = {
            "digest": _digest(secret), "label": label[:100], "role": role, "only_repo": only_repo,
            "created_at": time.time(), "expires_at": expires_at,
        }  # fmt: skip
        with self._engine.begin() as connection:
            row = self._row(connection, user, "user")
            if connection.execute(select(tokens.c.id).where(tokens.c.digest == values["digest"])).first() is not None:
                raise HubConflict("this token exists already: let the hub make one")
            connection.execute(insert(tokens).values(user_id=row.id, **values))
        return secret

    def tokens(self, user: str) -> list[Token]:
        """A user's tokens, without secrets."""
        with self._reads.connect() as connection:
            row = self._row(connection, user, "user")
            found = connection.execute(select(tokens).where(tokens.c.user_id == row.id).order_by(tokens.c.id))
            return [Token(one.id, one.label, one.role, one.created_at, one.expires_at) for one in found]

    def revoke_token(self, user: str, token_id: int) -> None:
        """Forget one of the user's own tokens."""
        with self._engine.begin() as connection:
            row = self._row(connection, user, "user")
            connection.execute(delete(tokens).where(tokens.c.user_id == row.id, tokens.c.id == token_id))

    def by_token(self, secret: str | None) -> Profile:
        """Who a bearer token belongs to; without one a stranger. Raises `HubAccessDenied` for a wrong or old one."""
        if secret is None:
            return Profile()
        found = self._by_token(tokens.c.digest == _digest(secret))
        if found is None:
            raise HubAccessDenied("Invalid credentials in Authorization header")
        return found

    def by_token_id(self, number: int) -> Profile:
        """What the token of this number may now: nothing more than a stranger, where it was revoked or is too old."""
        return self._by_token(tokens.c.id == number) or Profile()

    def _by_token(self, condition: ColumnElement[bool]) -> Profile | None:
        with self._reads.connect() as connection:
            token = connection.execute(select(tokens).where(condition)).first()
            if token is None or (token.expires_at is not None and token.expires_at <= time.time()):
                return None
            row = connection.execute(select(owners).where(owners.c.id == token.user_id)).one()
            found = self._profile(connection, row, label=token.label, role=token.role, only_repo=token.only_repo)
            return replace(found, token_id=token.id)

    def by_name(self, name: str | None) -> Profile:
        """A signed-in user of the pages; a name that is gone is a stranger."""
        if name is None:
            return Profile()
        with self._reads.connect() as connection:
            row = connection.execute(
                select(owners).where(owners.c.key == name.lower(), owners.c.kind == "user")
            ).first()
            return Profile() if row is None else self._profile(connection, row, role="write")

    def _profile(
        self,
        connection: Connection,
        row: Row[tuple[object, ...]],
        *,
        role: str,
        label: str = "",
        only_repo: str | None = None,
    ) -> Profile:
        found = connection.execute(
            select(owners.c.key, owners.c.name, owners.c.full_name, members.c.role)
            .join(members, members.c.org_id == owners.c.id)
            .where(members.c.user_id == row.id)
            .order_by(owners.c.key)
        ).all()
        return Profile(
            user=_owner(row),
            reads=frozenset({row.key, *(org.key for org in found)}),
            writes=frozenset({row.key, *(org.key for org in found if org.role != "read")}),
            orgs=tuple((org.name, org.full_name, org.role) for org in found),
            token_label=label,
            token_role=role,
            only_repo=only_repo,
        )

    def _add(
        self,
        name: str,
        kind: str,
        *,
        email: str = "",
        full_name: str = "",
        password: str | None = None,
        is_admin: bool = False,
    ) -> Owner:
        fits = _NAME.fullmatch(name) or (name, kind) == (_SHORT, "org")
        if not fits or ".." in name or "--" in name or name.lower() in RESERVED:
            raise InputError(
                f"{name!r} cannot be a name: use letters, digits, '.', '_', '-', and no word of the hub's own"
            )
        if password is not None and len(password) < _WEAKEST_PASSWORD:
            raise InputError(f"a password needs at least {_WEAKEST_PASSWORD} characters")
        said = f"{name} exists already: choose another name"
        with taken(said, name=name), self._engine.begin() as connection:
            if connection.execute(select(owners.c.id).where(owners.c.key == name.lower())).first() is not None:
                raise HubConflict(said, name=name)
            connection.execute(
                insert(owners).values(
                    key=name.lower(),
                    name=name,
                    kind=kind,
                    full_name=full_name,
                    email=email,
                    is_admin=is_admin,
                    password=None if password is None else self._passwords.hash(password),
                    created_at=time.time(),
                )
            )
        return Owner(name, kind, full_name, email, is_admin, None)

    def _row(self, connection: Connection, name: str, kind: str) -> Row[tuple[object, ...]]:
        row = connection.execute(select(owners).where(owners.c.key == name.lower(), owners.c.kind == kind)).first()
        if row is None:
            what = "user" if kind == "user" else "organisation"
            raise HubNotFound(
                f"there is no {what} {name!r}: add it first ('commentary-hub {kind} add {name}')", name=name
            )
        return row


def _owner(row: Row[tuple[object, ...]]) -> Owner:
    return Owner(row.name, row.kind, row.full_name, row.email, row.is_admin, row.quota_bytes)


def _digest(secret: str) -> str:
    """Tokens are long and random, so a plain hash suffices; what is stored cannot be used to sign in."""
    return hashlib.sha256(secret.encode()).hexdigest()
