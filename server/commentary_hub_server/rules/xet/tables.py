"""The tables behind Xet: xorbs with their chunks, who holds them, and the files made of them."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, LargeBinary, String, Table

from commentary_hub_server.store import metadata

xorbs = Table(
    "xet_xorbs",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("chunks", LargeBinary, nullable=False),  # 32 B hash, then length, offset, stored as u32, per chunk
    Column("created_at", Float, nullable=False),
    Column("size_bytes", BigInteger, nullable=False, server_default="0"),  # as stored
)

chunks = Table(
    "xet_chunks",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("xorb", LargeBinary(32), primary_key=True),
)

# A lease keeps a fresh xorb until a file uses it; the row of a file's xorb has no end.
holders = Table(
    "xet_holders",
    metadata,
    Column("xorb", LargeBinary(32), primary_key=True),
    Column("repository", String(32), primary_key=True),
    Column("until", BigInteger, nullable=False),  # seconds since the epoch; FOREVER where a file uses it
    Index("xet_holders_repository", "repository"),
)

files = Table(
    "xet_files",
    metadata,
    Column("repository", String(32), primary_key=True),
    Column("hash", LargeBinary(32), primary_key=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("segments", LargeBinary, nullable=False),  # 32 B xorb, then length u64, start, end u32, per segment
    Column("created_at", Float, nullable=False, server_default="0"),  # when a shard last named it
    Index("xet_files_sha256", "repository", "sha256"),
)

file_xorbs = Table(
    "xet_file_xorbs",
    metadata,
    Column("repository", String(32), primary_key=True),
    Column("file", LargeBinary(32), primary_key=True),
    Column("xorb", LargeBinary(32), primary_key=True),
    Index("xet_file_xorbs_xorb", "repository", "xorb"),
)
