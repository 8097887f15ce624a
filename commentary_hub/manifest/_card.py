"""The human's description: ``README.md`` with the YAML block that a Hugging Face Hub reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from commentary_hub.errors import ManifestInvalid
from commentary_hub.manifest._manifest import Manifest

LIBRARY_NAME = "commentary-hub"
_FENCE = "---"
_DEEPEST = 100
_MAX_BLOCK = 1 << 20  # characters
_MAX_SIZE = 2 << 20  # characters with all aliases written out: a second to read
_A_VALUE = 24  # characters more for each value, which takes time and memory however short it is
_LONGEST_NUMBER = 1000  # characters: reading one takes the square of them
_OF_NUMBERS = frozenset("+-.:_0123456789")
_OF_HEXADECIMAL = _OF_NUMBERS | frozenset("xabcdefABCDEF")
_LONG_NUMBERS = 10_000  # of more than 15 characters: those whose hashes are equal take a mapping the square of them
_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
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


@dataclass(slots=True)
class _Part:
    """How much a part of a block is with its aliases written out: characters, each value 24 more; levels below it."""

    size: int = 0
    levels: int = 0
    anchor: str | None = None


def _check_events(block: str) -> None:
    """Refuse what expands or nests without bound, before anything is built of it."""
    opened, named, long_numbers = [_Part()], dict[str, _Part](), 0
    for event in yaml.parse(block, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append(_Part(_A_VALUE, 0, event.anchor))
            done = _Part()
        elif isinstance(event, yaml.CollectionEndEvent):
            done = opened.pop()
            done.levels += 1
        elif isinstance(event, yaml.ScalarEvent):
            done = _Part(_A_VALUE + len(event.value), 0, event.anchor)
            number = event.tag in _NUMBERS or set(event.value) <= _OF_NUMBERS
            if number and len(event.value) > _LONGEST_NUMBER:
                raise ManifestInvalid(f"the card's YAML block has a number of more than {_LONGEST_NUMBER:,} characters")
            long_numbers += len(event.value) > 15 and set(event.value) <= _OF_HEXADECIMAL
            if long_numbers > _LONG_NUMBERS:
                raise ManifestInvalid(f"the card's YAML block has more than {_LONG_NUMBERS:,} long numbers: shorten it")
        elif isinstance(event, yaml.AliasEvent):
            found = named.get(event.anchor or "")
            if found is None:
                raise ManifestInvalid(f"the card's YAML block uses *{event.anchor} where &{event.anchor} has not ended")
            done = _Part(found.size, found.levels)
        else:
            continue
        if done.anchor is not None:
            named[done.anchor] = done
        _add(opened, done)


def _add(opened: list[_Part], part: _Part) -> None:
    """Count a part into the innermost one that is open."""
    around = opened[-1]
    around.size += part.size
    around.levels = max(around.levels, part.levels)
    if len(opened) - 1 + part.levels > _DEEPEST:
        raise ManifestInvalid(f"the card's YAML block nests more than {_DEEPEST} levels deep: make it flatter")
    if around.size > _MAX_SIZE:
        raise ManifestInvalid(
            f"the card's YAML block, with its aliases (*name) written out, has more than {_MAX_SIZE:,} characters, of "
            f"which each value counts for {_A_VALUE} more: shorten it"
        )


def split_card(text: str) -> tuple[dict[str, Any], str]:
    r"""A card's metadata and its body; a card without a YAML block has empty metadata.

    Raises `ManifestInvalid` where the block is not a YAML mapping, has more than 1,048,576 characters, or comes to
    much more than that with its aliases written out: nested ones expand without bound.

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
    if re.search(r"^%TAG", block, re.MULTILINE):  # the parser compares each with all before it
        raise ManifestInvalid("the card's YAML block has %TAG directives, which no card needs: take them out")
    try:
        _check_events(block)
        metadata = yaml.load(block, Loader=_LOADER)  # noqa: S506 - a safe loader, in C where there is one
    except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        if isinstance(error, ManifestInvalid):
            raise
        raise ManifestInvalid(f"the card's YAML block cannot be read: {str(error).splitlines()[0]}") from None
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise ManifestInvalid("the card's YAML block is not a mapping of names to values")
    return metadata, "\n".join(lines[end + 1 :]).strip()
