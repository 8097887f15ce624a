"""Find commentaries: filters, words, facets, sorting, cursors. What a viewer may not read is not there at all."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    case,
    delete,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)

from commentary_hub.errors import InputError, ReferenceSyntaxError
from commentary_hub.manifest import Reference
from commentary_hub_server.rules.catalogue._entries import Entry
from commentary_hub_server.rules.catalogue._tables import entries, metadata, parents, students
from commentary_hub_server.rules.catalogue._text import text_index, words

Sort = Literal["relevance", "gain", "updated", "name"]
MAX_PAGE = 100
FACET_VALUES = 30
GAIN_STEPS = (0.0, 0.01, 0.05, 0.1)
"""Where the facet of measured gain counts: at least so much, as a fraction of accuracy."""
_BATCH = 200
_MAX_CARD = 100_000  # characters of a card that are searched: PostgreSQL holds 1 MiB of words, whatever they are
_NO_GAIN = -1e9  # accuracies differ by at most 1
_GAIN_SHARE = 0.25  # of the order by relevance, where one word elsewhere makes 1: it only decides between equals


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks: a user's name and the namespaces they may read privately (their own, their organisations')."""

    name: str | None = None
    namespaces: frozenset[str] = frozenset()
    is_admin: bool = False

    def may_read(self, repo_id: str, *, private: bool) -> bool:
        """Whether a repository exists for the viewer."""
        return not private or self.is_admin or repo_id.partition("/")[0].lower() in self.namespaces


STRANGER = Viewer()


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; ``None`` means anything. ``min_gain`` is a fraction of accuracy.

    Without a ``sort``, and for "relevance" without words, the order is by relevance where words are searched for, else
    by measured gain (`order`). Relevance is where the words stand: name, dataset, card; the better measured first.
    """

    search: str = ""
    dataset: str | None = None
    kind: str | None = None
    owner: str | None = None
    method: str | None = None
    student: str | None = None
    licence: str | None = None
    min_gain: float | None = None
    verified: bool | None = None
    sort: Sort | None = None
    limit: int = 20
    cursor: str | None = None

    @property
    def order(self) -> Sort:
        """What the answer is sorted by."""
        if self.sort in (None, "relevance"):
            return "relevance" if words(self.search) else "gain"
        return self.sort


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order, the count of all that match, and the cursor of the next page (``None`` at the end)."""

    entries: tuple[Entry, ...]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class DatasetLine:
    """A dataset with the number of its commentaries, and the best measured gain with its 95 % interval and outcome."""

    dataset: str
    count: int
    best_gain: float | None = None
    best_low: float | None = None
    best_high: float | None = None
    outcome: str | None = None


_SORTS: dict[str, tuple[Any, bool]] = {
    "gain": (entries.c.gain_order, True),
    "updated": (entries.c.updated_at, True),
    "name": (entries.c.name, False),
}
_FACETS: dict[str, ColumnElement[Any]] = {
    "dataset": entries.c.dataset,
    "kind": entries.c.kind,
    "owner": entries.c.owner,
    "method": entries.c.method,
    "licence": entries.c.licence,
    "verified": entries.c.verified,
    "outcome": entries.c.outcome,
}


class Catalogue:
    """The index over all commentaries in one database; every question names its viewer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(read_only=True)
        self._text = text_index(engine.dialect.name)

    def create(self) -> None:
        """Make what is missing; idempotent."""
        with self._engine.begin() as connection:
            metadata.create_all(connection)
            self._text.create(connection)

    def put(self, entry: Entry, connection: Connection | None = None) -> None:
        """Add or replace an entry; inside the caller's transaction where ``connection`` is given."""
        if connection is None:
            with self._engine.begin() as own:
                return self.put(entry, own)
        self._forget(connection, entry.repo_id, entry.folder)
        row = connection.execute(insert(entries).values(**_columns(entry)))
        key = row.inserted_primary_key
        assert key is not None
        if entry.students:
            connection.execute(insert(students), [{"entry_id": key[0], "student": name} for name in entry.students])
        if entry.parents:
            lines = [
                {"entry_id": key[0], "position": at, "reference": text, "parent_key": _repository(text).lower()}
                for at, text in enumerate(entry.parents)
            ]
            connection.execute(insert(parents), lines)
        card = entry.card[:_MAX_CARD]
        self._text.put(connection, key[0], f"{entry.repo_id} {entry.name}", entry.dataset, card)
        return None

    def remove(self, repo_id: str, connection: Connection | None = None) -> None:
        """Forget every commentary of a repository."""
        if connection is None:
            with self._engine.begin() as own:
                return self.remove(repo_id, own)
        self._forget(connection, repo_id, None)
        return None

    def set_private(self, repo_id: str, *, private: bool, connection: Connection | None = None) -> None:
        """Follow a repository's setting, in the transaction that changes it."""
        if connection is None:
            with self._engine.begin() as own:
                return self.set_private(repo_id, private=private, connection=own)
        connection.execute(entries.update().where(entries.c.repo_key == repo_id.lower()).values(private=private))
        return None

    def search(self, query: Query, viewer: Viewer = STRANGER) -> Page:
        """One page of what matches; raises `InputError` for a cursor that this catalogue did not give out."""
        condition = self._condition(query, viewer)
        column, descending = self._sorted_by(query)
        limit = max(1, min(query.limit, MAX_PAGE))
        ordered: Select[Any] = select(entries, column.label("sorted_by")).where(condition)
        if query.cursor:
            ordered = ordered.where(_after(query, column, descending=descending))
        sorted_by: ColumnElement[Any] = literal_column("sorted_by")  # its name, so that it is worked out once a row
        if descending:
            ordered = ordered.order_by(sorted_by.desc(), entries.c.id.desc())
        else:
            ordered = ordered.order_by(sorted_by, entries.c.id)
        with self._reads.connect() as connection:
            total = connection.scalar(select(func.count()).select_from(entries).where(condition)) or 0
            rows = connection.execute(ordered.limit(limit + 1)).mappings().all()
            page = rows[:limit]
            found = _entries(connection, page)
        following = _cursor(query.order, page[-1]["sorted_by"], page[-1]["id"]) if len(rows) > limit else None
        return Page(found, total, following)

    def facets(self, query: Query, viewer: Viewer = STRANGER) -> dict[str, list[tuple[str, int]]]:
        """Counts per value, most frequent first; each facet ignores its own filter, to let one change one's mind.

        ``gain`` counts what has at least so much measured gain, for each of `GAIN_STEPS`.
        """
        answer = {}
        with self._reads.connect() as connection:
            for name, column in _FACETS.items():
                count = func.count()
                statement = (
                    select(column, count)
                    .where(self._condition(query, viewer, without=name), column.is_not(None))
                    .group_by(column)
                )
                rows = connection.execute(statement.order_by(count.desc(), column).limit(FACET_VALUES))
                answer[name] = [(str(value).lower() if name == "verified" else value, number) for value, number in rows]
            statement = (
                select(students.c.student, func.count())
                .join(entries, entries.c.id == students.c.entry_id)
                .where(self._condition(query, viewer, without="student"))
                .group_by(students.c.student)
                .order_by(func.count().desc(), students.c.student)
            )
            answer["student"] = [(name, number) for name, number in connection.execute(statement.limit(FACET_VALUES))]
            reached = [func.count(case((entries.c.gain >= least, 1))) for least in GAIN_STEPS]
            counts = connection.execute(
                select(*reached).where(self._condition(query, viewer, without="min_gain"))
            ).one()
            answer["gain"] = [(f"{least:g}", number) for least, number in zip(GAIN_STEPS, counts, strict=True)]
        return answer

    def one(self, repo_id: str, viewer: Viewer = STRANGER, *, folder: str = "") -> Entry | None:
        """One entry, or ``None`` where it is missing or not the viewer's to see: the two cannot be told apart."""
        condition = and_(entries.c.repo_key == repo_id.lower(), entries.c.folder == folder, _visible(viewer))
        found = self._select(select(entries).where(condition))
        return found[0] if found else None

    def of_repository(self, repo_id: str, viewer: Viewer = STRANGER) -> tuple[Entry, ...]:
        """All commentaries of one repository that the viewer may see, the one at its root first."""
        condition = and_(entries.c.repo_key == repo_id.lower(), _visible(viewer))
        return self._select(select(entries).where(condition).order_by(entries.c.folder))

    def parents(self, entry: Entry, viewer: Viewer = STRANGER) -> list[tuple[str, Entry | None]]:
        """What an entry was made from: each reference, with its entry where that is in the catalogue for the viewer."""
        return [(text, self.one(found, viewer) if (found := _repository(text)) else None) for text in entry.parents]

    def children(self, repo_id: str, viewer: Viewer = STRANGER, *, limit: int = 50) -> tuple[Entry, ...]:
        """What the viewer may see of what was made from a commentary, newest first."""
        made = select(parents.c.entry_id).where(parents.c.parent_key == repo_id.lower())
        condition = and_(entries.c.id.in_(made), _visible(viewer))
        return self._select(select(entries).where(condition).order_by(entries.c.updated_at.desc()).limit(limit))

    def _select(self, statement: Select[Any]) -> tuple[Entry, ...]:
        with self._reads.connect() as connection:
            return _entries(connection, connection.execute(statement).mappings().all())

    def datasets(self, viewer: Viewer = STRANGER, *, prefix: str = "", limit: int = 50) -> list[DatasetLine]:
        """Datasets with commentaries, the best measured gain first."""
        best = func.max(entries.c.gain_order)
        prefixed = func.lower(entries.c.dataset).startswith(prefix.lower(), autoescape=True)
        statement = (
            select(entries.c.dataset, func.count(), best)
            .where(_visible(viewer), *([prefixed] if prefix else []))
            .group_by(entries.c.dataset)
            .order_by(best.desc(), entries.c.dataset)
            .limit(max(1, min(limit, 1000)))
        )
        with self._reads.connect() as connection:
            lines = connection.execute(statement).all()
            wanted = [(dataset, gain) for dataset, _, gain in lines if gain > _NO_GAIN]
            measured = self._measured(connection, wanted, viewer)
        return [DatasetLine(dataset, count, *measured.get(dataset, ())) for dataset, count, _ in lines]

    def _measured(
        self, connection: Connection, wanted: list[tuple[str, float]], viewer: Viewer
    ) -> dict[str, tuple[float, float, float, str]]:
        """(gain, low, high, outcome) of the oldest entry of each dataset that has the gain asked for."""
        columns = (entries.c.dataset, entries.c.gain, entries.c.gain_low, entries.c.gain_high, entries.c.outcome)
        found: dict[str, tuple[float, float, float, str]] = {}
        for start in range(0, len(wanted), _BATCH):
            pairs = tuple_(entries.c.dataset, entries.c.gain_order).in_(wanted[start : start + _BATCH])
            statement = select(*columns).where(pairs, _visible(viewer)).order_by(entries.c.id.desc())
            found |= {dataset: tuple(rest) for dataset, *rest in connection.execute(statement)}
        return found

    def _sorted_by(self, query: Query) -> tuple[Any, bool]:
        """What orders the answer, and whether its highest comes first."""
        if query.order == "relevance":
            return self._text.score(words(query.search)) + _GAIN_SHARE * func.coalesce(entries.c.gain, -1.0), True
        return _SORTS[query.order]

    def _condition(self, query: Query, viewer: Viewer, *, without: str = "") -> ColumnElement[bool]:
        parts = [_visible(viewer)]
        for name in ("dataset", "kind", "owner", "method", "licence", "verified"):
            wanted = getattr(query, name)
            if wanted is not None and name != without:
                column = entries.c[name]
                same = func.lower(column) == func.lower(wanted) if isinstance(wanted, str) else column == wanted
                parts.append(same)
        if query.student is not None and without != "student":
            chosen = select(students.c.entry_id).where(students.c.student == query.student)
            parts.append(entries.c.id.in_(chosen))
        if query.min_gain is not None and without != "min_gain":
            parts.append(entries.c.gain >= query.min_gain)
        typed = words(query.search)
        if typed:
            parts.append(self._text.matches(typed))
        elif query.search.strip():
            parts.append(false())
        return and_(true(), *parts)

    def _forget(self, connection: Connection, repo_id: str, folder: str | None) -> None:
        condition = entries.c.repo_key == repo_id.lower()
        if folder is not None:
            condition = and_(condition, entries.c.folder == folder)
        for number in connection.scalars(select(entries.c.id).where(condition)).all():
            self._text.remove(connection, number)
            connection.execute(delete(students).where(students.c.entry_id == number))
            connection.execute(delete(parents).where(parents.c.entry_id == number))
            connection.execute(delete(entries).where(entries.c.id == number))


def _visible(viewer: Viewer) -> ColumnElement[bool]:
    """The one place that decides what exists for whom."""
    if viewer.is_admin:
        return true()
    public = entries.c.private == false()
    if not viewer.namespaces:
        return public
    return or_(public, func.lower(entries.c.owner).in_(sorted(viewer.namespaces)))


def _columns(entry: Entry) -> dict[str, Any]:
    names = {column.name for column in entries.columns} - {"id", "repo_key", "owner", "gain_order"}
    return {
        **{name: getattr(entry, name) for name in names},
        "repo_key": entry.repo_id.lower(),
        "owner": entry.owner,
        "gain_order": _NO_GAIN if entry.gain is None else entry.gain,
    }


def _entries(connection: Connection, rows: Any) -> tuple[Entry, ...]:
    taught = _many(connection, students.c.student, students, rows)
    made_from = _many(connection, parents.c.reference, parents, rows)
    skipped = {"id", "repo_key", "owner", "gain_order", "sorted_by"}
    return tuple(
        Entry(
            **{name: value for name, value in row.items() if name not in skipped},
            students=tuple(taught.get(row["id"], ())),
            parents=tuple(made_from.get(row["id"], ())),
        )
        for row in rows
    )


def _many(connection: Connection, column: Any, table: Any, rows: Any) -> dict[int, list[str]]:
    """The values of a table that has several lines for each entry, in the order of its key."""
    found: dict[int, list[str]] = {}
    if rows:
        chosen = table.c.entry_id.in_([row["id"] for row in rows])
        for number, value in connection.execute(
            select(table.c.entry_id, column).where(chosen).order_by(*table.primary_key.columns)
        ):
            found.setdefault(number, []).append(value)
    return found


def _repository(reference: str) -> str:
    """``owner/name`` of a reference; empty for a foreign origin."""
    try:
        return Reference.parse(reference).repo_id
    except ReferenceSyntaxError:
        return ""


def _cursor(sort: str, value: Any, number: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, value, number]).encode()).decode().rstrip("=")


def _after(query: Query, column: Any, *, descending: bool) -> ColumnElement[bool]:
    text = query.cursor or ""
    try:
        sort, value, number = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        kind = str if query.order == "name" else float
        if sort != query.order or not isinstance(value, kind) or not isinstance(number, int) or abs(number) >= 1 << 62:
            raise ValueError(sort)
        str(value).encode()  # a lone surrogate is JSON, and no text
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise InputError("the cursor does not belong to this search: start again without one", cursor=text) from None
    if descending:
        return or_(column < value, and_(column == value, entries.c.id < number))
    return or_(column > value, and_(column == value, entries.c.id > number))
