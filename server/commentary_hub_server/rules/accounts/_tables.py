"""The tables of accounts. Names keep their case; ``key``, the name in lower case, is unique over users and orgs."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, String, Table, Text

from commentary_hub_server.store import metadata

owners = Table(
    "owners",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(100), nullable=False, unique=True),
    Column("name", String(100), nullable=False),
    Column("kind", String(8), nullable=False),  # user, org
    Column("full_name", Text, nullable=False, default=""),
    Column("email", Text, nullable=False, default=""),
    Column("password", Text),
    Column("is_admin", Boolean, nullable=False, default=False),
    Column("quota_bytes", BigInteger),
    Column("created_at", Float, nullable=False),
    Column("session_epoch", Integer, nullable=False, server_default="0"),  # sessions of an earlier one have ended
)

members = Table(
    "members",
    metadata,
    Column("org_id", ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", ForeignKey("owners.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("role", String(8), nullable=False),  # admin, write, read
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", ForeignKey("owners.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("label", String(100), nullable=False),
    Column("role", String(8), nullable=False),  # read, write
    Column("only_repo", String(200)),  # type/owner/name in lower case: the token's whole world
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    sqlite_autoincrement=True,  # a number is never given twice: grants and links name tokens by it
)
