"""The catalogue's tables: derived from the repositories, so that they can be dropped and filled again."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

entries = Table(
    "catalogue_entries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("repo_key", String(200), nullable=False),
    Column("repo_id", String(200), nullable=False),
    Column("folder", String(500), nullable=False),
    Column("owner", String(100), nullable=False),
    Column("revision", String(64), nullable=False),
    Column("private", Boolean, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("name", String(100), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("dataset", Text, nullable=False),
    Column("method", Text),
    Column("licence", Text),
    Column("gain", Float),
    Column("gain_low", Float),
    Column("gain_high", Float),
    # One total order for sorting and cursors: entries without evidence come last.
    Column("gain_order", Float, nullable=False),
    Column("outcome", String(16)),
    Column("verified", Boolean, nullable=False),
    Column("deprecated", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Index("catalogue_repo", "repo_key", "folder", unique=True),
    Index("catalogue_gain", "private", "gain_order", "id"),
    Index("catalogue_updated", "private", "updated_at", "id"),
    Index("catalogue_dataset", "private", "dataset", "gain_order"),
    Index("catalogue_owner", "owner"),
    # Counting facets reads this alone, not the rows with their long texts.
    Index(
        "catalogue_facets", "private", "kind", "dataset", "owner", "method", "licence", "verified", "outcome", "gain"
    ),
)

students = Table(
    "catalogue_students",
    metadata,
    Column("entry_id", ForeignKey("catalogue_entries.id", ondelete="CASCADE"), primary_key=True),
    Column("student", String(200), primary_key=True),
)

# What each commentary was made from: ``parent_key`` is a repository in lower case, empty for a foreign origin.
parents = Table(
    "catalogue_parents",
    metadata,
    Column("entry_id", ForeignKey("catalogue_entries.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("parent_key", String(200), nullable=False),
    Index("catalogue_children", "parent_key"),
)
