"""The human's description: ``README.md`` with the YAML block that a Hugging Face Hub reads."""

from __future__ import annotations

from typing import Any

import yaml

from commentary_hub.errors import ManifestInvalid
from commentary_hub.manifest._manifest import Manifest

LIBRARY_NAME = "commentary-hub"
_FENCE = "---"
_DEEPEST = 100
_MAX_BLOCK = 64 << 10  # characters
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def card_metadata(manifest: Manifest) -> dict[str, Any]:
    """The Hub-valid YAML block of a card: what makes a commentary findable on any Hugging Face Hub.

    The tags are ``commentary``, ``commentary:<kind>`` and ``dataset:<id>``.
    """
    identity = manifest.dataset.identity.id
    metadata: dict[str, Any] = {
        "library_name": LIBRARY_NAME,
        "pretty_name": manifest.name,
        "tags": ["commentary", f"commentary:{manifest.kind}", f"dataset:{identity}"],
    }
    if manifest.licence:
        metadata["license"] = manifest.licence
    return metadata


def render_card(manifest: Manifest, body: str) -> str:
    """A whole ``README.md``: the YAML block, then ``body`` (CommonMark)."""
    block = yaml.safe_dump(card_metadata(manifest), sort_keys=True, allow_unicode=True)
    return f"{_FENCE}\n{block}{_FENCE}\n\n{body.strip()}\n"


def _check_events(block: str) -> None:
    """Refuse what expands or nests without bound, before anything is built of it."""
    depth = 0
    for event in yaml.parse(block, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ManifestInvalid("the card's YAML block uses aliases (*name): write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ManifestInvalid(f"the card's YAML block nests more than {_DEEPEST} levels deep: make it flatter")


def split_card(text: str) -> tuple[dict[str, Any], str]:
    r"""A card's metadata and its body; a card without a YAML block has empty metadata.

    Raises `ManifestInvalid` where the block is not a YAML mapping or has more than 65,536 characters. Aliases are
    refused, because nested ones expand without bound.

    >>> split_card("---\ntags: [commentary]\n---\n# Hello")
    ({'tags': ['commentary']}, '# Hello')
    """
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].strip() != _FENCE:
        return {}, text
    try:
        end = next(number for number, line in enumerate(lines[1:], 1) if line.strip() == _FENCE)
    except StopIteration:
        return {}, text
    block = "\n".join(lines[1:end])
    if len(block) > _MAX_BLOCK:
        raise ManifestInvalid(f"the card's YAML block has more than {_MAX_BLOCK:,} characters: move text below it")
    try:
        _check_events(block)
        metadata = yaml.load(block, Loader=_LOADER)  # noqa: S506 - a safe loader, in C where there is one
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ManifestInvalid):
            raise
        raise ManifestInvalid(f"the card's YAML block cannot be read: {str(error).splitlines()[0]}") from None
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise ManifestInvalid("the card's YAML block is not a mapping of names to values")
    return metadata, "\n".join(lines[end + 1 :]).strip()
