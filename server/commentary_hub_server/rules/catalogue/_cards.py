"""A card as safe HTML: CommonMark and tables and mathematics, sanitised; pictures only from the repository.

Its relative links lead to the repository's files, and those to a heading to that heading.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import nh3
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin
from mdit_py_plugins.anchors.index import slugify
from mdit_py_plugins.dollarmath import dollarmath_plugin

from commentary_hub.errors import ManifestInvalid
from commentary_hub.manifest import split_card
from commentary_hub_server.rules.catalogue import _mathematics

MAX_CARD_CHARACTERS = 60_000
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp")
_TAGS = {
    "a", "blockquote", "br", "code", "dd", "del", "dl", "dt", "em", "h2", "h3", "h4", "h5", "h6", "hr", "img", "li",
    "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul", "span",
} | _mathematics.TAGS  # fmt: skip
_ATTRIBUTES = {
    "a": {"href", "title"}, "img": {"src", "alt", "title", "loading"}, "td": {"class"}, "th": {"class"},
    "code": {"class"}, "span": {"class"}, "ol": {"start"},
    **{f"h{level}": {"id"} for level in range(2, 7)},
    **dict.fromkeys(_mathematics.TAGS, _mathematics.ATTRIBUTES),
}  # fmt: skip
_CLASSES = {"math", "left", "right", "center"}
_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|/")  # with a scheme, or from the root of this site or of another
_LANGUAGE = re.compile(r"language-[A-Za-z0-9_+-]{1,30}")
_IDS = "card-"  # before what a card names, so that it cannot stand for a part of the page
_MAX_SLUG = 100
_MAX_FORMULAS = 200
_MAX_PICTURES = 500


@lru_cache(maxsize=64)  # of what is shown again and again
def render_card_html(text: str, home: str, revision: str, folder: str = "") -> str:
    """The card's body without its YAML block, safe to show.

    What it names relatively is the repository's, whose page is at ``home``, seen from ``folder``: pictures are at
    ``home/picture/revision/path``, files and folders at ``home/blob/…`` and ``home/tree/…``. Nothing outside of the
    repository is meant by it.

    Of a long body the first 60,000 characters, and what stands before its picture 501.

    Mathematics ($…$, $$…$$) becomes MathML (the first 200 formulas), or stays as its source. Headings are moved down
    one level, because the page has its own first one. A card whose YAML block cannot be read shows as it is.
    """
    try:
        _, body = split_card(text)
    except ManifestInvalid:
        body = text
    body = body[:MAX_CARD_CHARACTERS]
    return str(
        nh3.clean(
            _parser().render("![".join(body.split("![", _MAX_PICTURES + 1)[: _MAX_PICTURES + 1])),
            tags=_TAGS,
            attributes=_ATTRIBUTES,
            attribute_filter=lambda tag, name, value: _filter(home, revision, folder, tag, name, value),
            id_prefix=_IDS,
            link_rel="nofollow noopener noreferrer",
            url_schemes={"http", "https", "mailto"},
        )
    )


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 40}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_labels=False, double_inline=True, renderer=_formulas())
    parser.use(anchors_plugin, max_level=6, slug_func=_slugs())
    parser.core.ruler.push("one_level_down", _one_level_down)
    return parser


def _slugs() -> Callable[[str], str]:
    """GitHub's, numbered where one comes again: the plugin would try all numbers from the first for each."""
    seen: Counter[str] = Counter()

    def slug(title: str) -> str:
        found = slugify(title)[:_MAX_SLUG]
        seen[found] += 1
        return found if seen[found] == 1 else f"{found}-{seen[found] - 1}"

    return slug


def _formulas() -> Callable[[str, dict[str, Any]], str]:
    left = iter(range(_MAX_FORMULAS))

    def render(source: str, options: dict[str, Any]) -> str:
        if next(left, None) is None:
            return f'<code class="math">{escape(source)}</code>'
        return _mathematics.mathml(source, display=bool(options.get("display_mode")))

    return render


def _one_level_down(state: Any) -> None:
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
        if token.type in ("th_open", "td_open") and "style" in token.attrs:
            token.attrs = {"class": str(token.attrs["style"]).partition(":")[2]}


def _filter(home: str, revision: str, folder: str, tag: str, name: str, value: str) -> str | None:
    if tag == "img" and name == "src":
        path = _inside(folder, value)
        # A picture elsewhere would tell its server who reads the card.
        return f"{home}/picture/{revision}/{quote(path)}" if path and path.lower().endswith(PICTURE_ENDINGS) else None
    if name == "href" and value.startswith("#"):
        return f"#{_IDS}{value[1:]}"
    if name == "href" and not _ELSEWHERE.match(value):
        path = _inside(folder, value)
        if path is None:
            return None
        parts = urlsplit(value)
        is_folder = path == "." or parts.path.endswith("/")
        page = f"{home}/{'tree' if is_folder else 'blob'}/{revision}/{quote(path)}".removesuffix("/.")
        return f"{page}#{parts.fragment}" if parts.fragment else page
    if name == "class":
        return value if value in _CLASSES or _LANGUAGE.fullmatch(value) else None
    return value


def _inside(folder: str, source: str) -> str | None:
    """The path in the repository of what is named relatively in a folder; ``None`` for what is not inside."""
    try:
        parts = urlsplit(source)
    except ValueError:
        return None
    named = unquote(parts.path)
    path = posixpath.normpath(posixpath.join(folder, named))
    if parts.scheme or parts.netloc or named.startswith("/") or path.split("/")[0] == ".." or "\\" in path:
        return None
    return path
