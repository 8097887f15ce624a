"""Signed, expiring grants: who may do what, in which repository."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import dataclass


class GrantRefused(PermissionError):
    """The token is forged, expired or for something else."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A grant's content: ``user`` may ("read" or "write") in ``repo`` until ``expires`` (unix seconds).

    ``token`` numbers the token that asked for it (0: a stranger): the grant may never more than that token may now.
    """

    user: str
    repo: str
    permission: str
    expires: int
    token: int = 0

    @property
    def writes(self) -> bool:
        """Whether uploads are allowed."""
        return self.permission == "write"


class Signer:
    """Signs JSON arrays with HMAC-SHA256; structure is inside the signature, so no field can leak into another."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("the signing secret needs at least 32 bytes")
        self._secret = secret

    def sign(self, purpose: str, *fields: str | int) -> str:
        """Return an URL-safe token for the fields, bound to one purpose."""
        body = json.dumps([purpose, *fields], separators=(",", ":")).encode()
        mark = hmac.digest(self._secret, body, hashlib.sha256)
        return base64.urlsafe_b64encode(mark + body).decode().rstrip("=")

    def open(self, purpose: str, token: str) -> list[str | int]:
        """Return the fields of a token that this signer made for this purpose."""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError) as error:
            raise GrantRefused("the token is malformed") from error
        mark, body = raw[:32], raw[32:]
        if not hmac.compare_digest(mark, hmac.digest(self._secret, body, hashlib.sha256)):
            raise GrantRefused("the token's signature is wrong")
        fields: list[str | int] = json.loads(body)
        if fields[0] != purpose:
            raise GrantRefused("the token was made for something else")
        return fields[1:]

    def name(self, purpose: str, *fields: str | int) -> str:
        """Return 32 hex digits for the fields, which another secret, so another data folder, would not give."""
        body = json.dumps([purpose, *fields], separators=(",", ":")).encode()
        return hmac.digest(self._secret, body, hashlib.sha256).hex()[:32]

    def grant(self, scope: Scope) -> str:
        """Return the access token of a scope."""
        return self.sign("xet", scope.user, scope.repo, scope.permission, scope.token, scope.expires)

    def scope(self, token: str) -> Scope:
        """Return the scope of an access token; an expired one is refused."""
        user, repo, permission, number, expires = self.open("xet", token)
        if int(expires) <= time.time():
            raise GrantRefused("the token has expired: ask for a new one")
        return Scope(str(user), str(repo), str(permission), int(expires), int(number))
