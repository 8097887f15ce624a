"""The tables of repositories. Contents are Merkle trees: what did not change is stored once."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from commentary_hub_server.store import metadata

repositories = Table(
    "repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(200), nullable=False, unique=True),  # type/owner/name in lower case
    Column("kind", String(8), nullable=False),  # dataset, model
    Column("name", String(200), nullable=False),  # owner/name as it was written
    Column("owner", String(100), nullable=False),  # lower case
    Column("private", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("size_bytes", BigInteger, nullable=False, default=0),  # of the objects it holds
    Column("epoch", Integer, nullable=False, server_default="0"),  # how often large objects were deleted for good
    Column("tags", Text, nullable=False, default="[]"),  # of the default branch's card, JSON
    Column("card", Text, nullable=False, default="{}"),  # its metadata, JSON
    Column("problem", Text),  # why its manifest is not listed
    Index("repositories_listing", "kind", "updated_at", "id"),
    Index("repositories_created", "kind", "created_at", "id"),
    Index("repositories_owner", "owner", "updated_at"),
    sqlite_autoincrement=True,  # a number is never given twice: signed links and Xet files name repositories by it
)

# Tags of the default branch's card, one row each, so that filters use an index.
tags = Table(
    "repository_tags",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(200), primary_key=True),
    Index("repository_tags_tag", "tag"),
)

moved = Table(
    "moved",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), nullable=False),
)

commits = Table(
    "commits",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String(40), primary_key=True),
    Column("parent", String(40)),
    Column("tree", String(40), nullable=False),
    Column("title", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("author", String(100), nullable=False),
    Column("created_at", Float, nullable=False),
)

refs = Table(
    "refs",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(300), primary_key=True),  # refs/heads/…, refs/tags/…
    Column("commit_id", String(40), nullable=False),
)

trees = Table(
    "trees",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# What a repository has uploaded or committed: a hash alone gives nobody another repository's bytes.
holdings = Table(
    "holdings",
    metadata,
    Column("repository_id", ForeignKey("repositories.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("xet", String(64)),  # the file's Xet hash, where its bytes lie in xorbs
    Column("created_at", Float, nullable=False),
    Column("removed", Boolean, nullable=False, default=False),  # deleted for good: old revisions that name it say so
    Index("holdings_sha256", "sha256"),
)

# Small text lies in the database: a commit of ten thousand small files is one transaction, not ten thousand objects.
blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
)
