"""Full text over name, dataset and card, by the database: FTS5 in SQLite, tsvector in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, Protocol

from sqlalchemy import ColumnElement, Connection, case, column, func, literal_column, select, table, text

from commentary_hub_server.rules.catalogue._tables import entries

MAX_WORDS = 12
Part = Literal["name", "dataset"]
WORTH: dict[Part | None, int] = {"name": 4, "dataset": 2, None: 1}
"""What a word that was searched for is worth where it stands: in the name, in the dataset, elsewhere (in the card)."""
_words = table("catalogue_text", column("rowid"), column("words"))


class TextIndex(Protocol):
    """What a database must offer to be searched by words."""

    def create(self, connection: Connection) -> None:
        """Make the index where it is missing."""

    def put(self, connection: Connection, entry_id: int, name: str, dataset: str, card: str) -> None:
        """Add the text of an entry that has none."""

    def remove(self, connection: Connection, entry_id: int) -> None:
        """Forget an entry's text."""

    def matches(self, query: list[str]) -> ColumnElement[bool]:
        """A condition on `entries`: holds all words, the last one perhaps only begun."""

    def score(self, query: list[str]) -> ColumnElement[int]:
        """How well an entry that matches fits: the sum over the words of the best `WORTH` of each.

        The usual ranks (FTS5's bm25) weigh a word by how few texts hold it, private ones included, so that the order of
        two public ones would tell a stranger how many private ones there are. This one looks at the entry alone.
        """


def words(query: str) -> list[str]:
    """The searchable words of what somebody typed; operators and punctuation of the databases never get through.

    Each word is there once, where it stands last, as the last one may be only begun.

    >>> words('"digits" OR ylecun/mnist* or digits')
    ['ylecun', 'mnist', 'or', 'digits']
    """
    typed = re.findall(r"\w+", query.lower())[:MAX_WORDS]
    return list(dict.fromkeys(reversed(typed)))[::-1]


class SqliteText:
    """FTS5 with the unicode61 tokenizer."""

    def create(self, connection: Connection) -> None:
        """Make the virtual table."""
        connection.execute(
            text(
                "CREATE VIRTUAL TABLE IF NOT EXISTS catalogue_text "
                "USING fts5(name, dataset, card, tokenize='unicode61 tokenchars ''_''')"
            )
        )

    def put(self, connection: Connection, entry_id: int, name: str, dataset: str, card: str) -> None:
        """One row under the entry's number."""
        connection.execute(
            text("INSERT INTO catalogue_text(rowid, name, dataset, card) VALUES (:id, :name, :dataset, :card)"),
            {"id": entry_id, "name": name, "dataset": dataset, "card": card},
        )

    def remove(self, connection: Connection, entry_id: int) -> None:
        """Delete that row."""
        connection.execute(text("DELETE FROM catalogue_text WHERE rowid = :id"), {"id": entry_id})

    def matches(self, query: list[str]) -> ColumnElement[bool]:
        """Each word quoted, so that FTS5's own operators are words."""
        return self._among(" ".join(f'"{word}"' for word in query) + "*")

    def score(self, query: list[str]) -> ColumnElement[int]:
        """By FTS5's column filters."""
        return _score(query, lambda part, word, last: self._among(f'{part} : "{word}"{"*" if last else ""}'))

    def _among(self, phrase: str) -> ColumnElement[bool]:
        matching = literal_column("catalogue_text").op("MATCH", is_comparison=True)(phrase)
        return entries.c.id.in_(select(_words.c.rowid).where(matching))


class PostgresText:
    """A tsvector with a GIN index; the ``simple`` configuration, since cards come in any language."""

    def create(self, connection: Connection) -> None:
        """Make table and index."""
        connection.execute(
            text("CREATE TABLE IF NOT EXISTS catalogue_text (rowid bigint PRIMARY KEY, words tsvector NOT NULL)")
        )
        connection.execute(text("CREATE INDEX IF NOT EXISTS catalogue_words ON catalogue_text USING gin(words)"))

    def put(self, connection: Connection, entry_id: int, name: str, dataset: str, card: str) -> None:
        """Split at everything but letters, digits and underscores, as the query is split."""
        parts = {"name": name, "dataset": dataset, "card": card}
        connection.execute(
            text(
                "INSERT INTO catalogue_text(rowid, words) VALUES (:id, setweight(to_tsvector('simple', :name), 'A') || "
                "setweight(to_tsvector('simple', :dataset), 'B') || to_tsvector('simple', :card))"
            ),
            {"id": entry_id, **{part: re.sub(r"\W+", " ", said.lower()) for part, said in parts.items()}},
        )

    def remove(self, connection: Connection, entry_id: int) -> None:
        """Delete that row."""
        connection.execute(text("DELETE FROM catalogue_text WHERE rowid = :id"), {"id": entry_id})

    def matches(self, query: list[str]) -> ColumnElement[bool]:
        """All words, the last as a prefix."""
        return self._among(" & ".join(f"'{word}'" for word in query) + ":*")

    def score(self, query: list[str]) -> ColumnElement[int]:
        """By the weights of the lexemes: A in the name, B in the dataset."""
        letters = {"name": "A", "dataset": "B"}
        return _score(query, lambda part, word, last: self._among(f"'{word}':{'*' if last else ''}{letters[part]}"))

    def _among(self, phrase: str) -> ColumnElement[bool]:
        matching = _words.c.words.op("@@")(func.to_tsquery("simple", phrase))
        return entries.c.id.in_(select(_words.c.rowid).where(matching))


def text_index(dialect: str) -> TextIndex:
    """The index for a database, by SQLAlchemy's name of it."""
    return PostgresText() if dialect == "postgresql" else SqliteText()


def _score(query: list[str], holds: Callable[[Part, str, bool], ColumnElement[bool]]) -> ColumnElement[int]:
    total: ColumnElement[Any] = literal_column("0")
    for at, word in enumerate(query):
        last = at == len(query) - 1
        named, about = holds("name", word, last), holds("dataset", word, last)
        total += case((named, WORTH["name"]), (about, WORTH["dataset"]), else_=WORTH[None])
    return total
