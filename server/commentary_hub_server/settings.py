"""Every setting of the server, from the environment, once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from commentary_hub.errors import UsageError

PREFIX = "COMMENTARY_HUB_"


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's settings; each is read from ``COMMENTARY_HUB_<NAME>`` (see `variables`)."""

    data_dir: Path = field(
        default=Path("hub-data"), metadata={"text": "folder of the database, the objects and the secret"}
    )
    database_url: str = _setting("", "`postgresql://…`; empty for SQLite in the data folder")
    objects_url: str = _setting("", "`s3://bucket/prefix` (with the usual AWS_… variables); empty for the data folder")
    secret: str = _setting(
        "", "signs links and sessions, 32 characters or more; empty: made once, kept in the data folder"
    )
    public_url: str = _setting(
        "", "where the world reaches the hub, with any path prefix; empty: taken from each request's Host"
    )
    quota_bytes: int = _setting(0, "bytes that an owner's repositories may hold; 0 for no limit")
    accel_prefix: str = _setting("", "let nginx send files: the internal location that maps to the data folder")
    redirect_s: int = _setting(0, "let S3 send files: seconds for which a signed redirect is valid; 0 streams them")
    rate_limit: int = _setting(0, "requests a minute for each client; 0 for no limit")
    shutdown_s: int = _setting(600, "seconds that running uploads get to finish when the hub is stopped")
    secure_cookies: bool = _setting(
        default=False, text="mark session cookies as HTTPS only; always so where the public URL is https"
    )
    log_json: bool = _setting(default=False, text="write logs as JSON lines")
    proxy_hosts: str = _setting("127.0.0.1", "addresses of front servers whose X-Forwarded-… headers are believed")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """The settings of the environment; ``given`` ones (not ``None``) win. `UsageError` names a bad variable."""
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for one in fields(cls):
            text = environment.get(PREFIX + one.name.upper())
            if text is not None:
                values[one.name] = _parsed(one.name, one.default, text)
        found = cls(**values)
        return replace(found, **{name: value for name, value in given.items() if value is not None})

    @property
    def database(self) -> str:
        """The database's address."""
        return self.database_url or f"sqlite:///{self.data_dir / 'hub.sqlite3'}"

    @property
    def objects(self) -> str:
        """The object store's address."""
        return self.objects_url or f"file://{self.data_dir / 'objects'}"


def variables() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, for the documentation and its test."""
    return [(PREFIX + one.name.upper(), str(one.default), one.metadata["text"]) for one in fields(Settings)]


def _parsed(name: str, default: Any, text: str) -> Any:
    try:
        if isinstance(default, bool):
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[
                text.lower()
            ]
        if isinstance(default, int):
            return int(text)
        return Path(text) if isinstance(default, Path) else text
    except (KeyError, ValueError) as error:
        kind = "true or false" if isinstance(default, bool) else "a whole number"
        raise UsageError(f"{PREFIX}{name.upper()} is {text!r}: give {kind}") from error
