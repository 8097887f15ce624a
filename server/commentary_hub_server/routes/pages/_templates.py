"""The templates' environment: escaping on, undefined names are errors, and the few words that templates use."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from commentary_hub_server.routes.pages import _charts
from commentary_hub_server.routes.pages._charts import points
from commentary_hub_server.rules.catalogue import Entry

STATIC = Path(__file__).parents[2] / "static"
OUTCOMES = {"helps": "helps", "hurts": "hurts", "no_difference": "no difference", None: "not measured"}


@cache
def templates() -> Environment:
    """The environment of all pages, each compiled by now: nobody's first view waits for it."""
    folder = Path(__file__).parents[2] / "templates"
    found = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    found.trim_blocks = found.lstrip_blocks = True
    found.globals.update(
        charts=_charts, home=home, page_of=page_of, dataset_page=dataset_page, owner_page=owner_page, static=static,
        outcomes=OUTCOMES,
    )  # fmt: skip
    found.filters.update(points=points, day=day, size=size, words=words, number=number, percent=percent, ticked=ticked)
    for name in found.list_templates():
        found.get_template(name)
    return found


def static(name: str) -> str:
    """The address of a static file; it changes with the file's content, so that browsers may keep it for ever."""
    return f"/static/{name}?v={version(name)}"


def version(name: str) -> str:
    """A short digest of a static file."""
    known = _VERSIONS.get(name)
    if known is None:
        known = _VERSIONS[name] = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return known


_VERSIONS: dict[str, str] = {}


def home(repo_id: str) -> str:
    """The address of a repository's page, the one that clients print after a push."""
    return f"/datasets/{quote(repo_id)}"


def page_of(entry: Entry) -> str:
    """The address of a commentary's page."""
    return home(entry.repo_id) + (f"/{quote(entry.folder)}" if entry.folder else "")


def dataset_page(dataset: str) -> str:
    """The address of a dataset's page."""
    return f"/for/{quote(dataset)}"


def owner_page(owner: str) -> str:
    """The address of an owner's page."""
    return f"/owners/{quote(owner)}"


def day(seconds: float) -> str:
    """A day in UTC.

    >>> day(0)
    '1 January 1970'
    """
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%B} {moment.year}"


def size(count: int) -> str:
    """Bytes for people.

    >>> size(900), size(1_500_000)
    ('900 B', '1.5 MB')
    """
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def words(name: str) -> str:
    """A name of the code as words.

    >>> words("example_weights")
    'example weights'
    """
    return name.replace("_", " ").replace("-", " ")


def ticked(text: str) -> Markup:
    """Text whose `code` stands between backticks, as HTML.

    >>> print(ticked("`next` of <a> page"))
    <code>next</code> of &lt;a&gt; page
    """
    parts = [str(escape(part)) for part in text.split("`")]
    return Markup("".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts)))  # noqa: S704 - escaped above


def number(count: int) -> str:
    """A count with thin groups of thousands.

    >>> number(50000)
    '50,000'
    """
    return f"{count:,}"


def percent(fraction: float) -> str:
    """A fraction in per cent with one decimal.

    >>> percent(0.8912)
    '89.1'
    """
    return f"{fraction * 100:.1f}"
