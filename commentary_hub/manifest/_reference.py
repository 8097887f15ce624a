"""References to commentaries on a hub: ``owner/name`` or ``owner/name@revision``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from commentary_hub.errors import ReferenceSyntaxError

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?"
_REFERENCE = re.compile(rf"(?P<owner>{_NAME})/(?P<name>{_NAME})(?:@(?P<revision>[^\s@]{{1,255}}))?")


@dataclass(frozen=True, slots=True)
class Reference:
    """One repository on a hub, at a revision.

    ``revision`` is a branch, a tag or a commit id; ``None`` means the repository's default branch.

    >>> Reference.parse("ada/digits-weights@v1")
    Reference(owner='ada', name='digits-weights', revision='v1')
    >>> Reference.parse("ada/digits-weights").repo_id
    'ada/digits-weights'
    """

    owner: str
    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read ``owner/name[@revision]``; raises `ReferenceSyntaxError` with the form that is expected."""
        match = _REFERENCE.fullmatch(text)
        if match is None or ".." in text or "--" in match["name"] or "--" in match["owner"]:
            raise ReferenceSyntaxError(
                f"{text!r} is not a reference: write owner/name or owner/name@revision "
                "(letters, digits, '.', '_' and '-')",
                reference=text,
            )
        return cls(owner=match["owner"], name=match["name"], revision=match["revision"])

    @property
    def repo_id(self) -> str:
        """What ``huggingface_hub`` calls the repository: ``owner/name``."""
        return f"{self.owner}/{self.name}"

    def __str__(self) -> str:
        return self.repo_id if self.revision is None else f"{self.repo_id}@{self.revision}"
