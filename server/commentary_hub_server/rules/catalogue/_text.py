"""Full text over name, dataset and card, by the database: FTS5 in SQLite, tsvector in PostgreSQL."""

from __future__ import annotations

import re
from typing import Protocol

from sqlalchemy import ColumnElement, Connection, column, func, select, table, text

from commentary_hub_server.rules.catalogue._tables import entries

MAX_WORDS = 12
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


def words(query: str) -> list[str]:
    """The searchable words of what somebody typed; operators and punctuation of the databases never get through.

    >>> words('"digits" OR ylecun/mnist*')
    ['digits', 'or', 'ylecun', 'mnist']
    """
    return re.findall(r"\w+", query.lower())[:MAX_WORDS]


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
        phrase = " ".join(f'"{word}"' for word in query) + "*"
        found = select(_words.c.rowid).where(text("catalogue_text MATCH :phrase").bindparams(phrase=phrase))
        return entries.c.id.in_(found)


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
        everything = re.sub(r"\W+", " ", f"{name} {dataset} {card}".lower())
        connection.execute(
            text("INSERT INTO catalogue_text(rowid, words) VALUES (:id, to_tsvector('simple', :everything))"),
            {"id": entry_id, "everything": everything},
        )

    def remove(self, connection: Connection, entry_id: int) -> None:
        """Delete that row."""
        connection.execute(text("DELETE FROM catalogue_text WHERE rowid = :id"), {"id": entry_id})

    def matches(self, query: list[str]) -> ColumnElement[bool]:
        """All words, the last as a prefix."""
        phrase = " & ".join(f"'{word}'" for word in query) + ":*"
        return entries.c.id.in_(
            select(_words.c.rowid).where(_words.c.words.op("@@")(func.to_tsquery("simple", phrase)))
        )


def text_index(dialect: str) -> TextIndex:
    """The index for a database, by SQLAlchemy's name of it."""
    return PostgresText() if dialect == "postgresql" else SqliteText()
