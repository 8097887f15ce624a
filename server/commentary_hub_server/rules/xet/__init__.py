"""Xet: content-addressed, deduplicated uploads and downloads, verified before anything becomes visible."""

from ._database import DatabaseIndex, StoredXorbs, forget_file, has_file, xorb_key
from ._hashing import chunk_hash, file_hash, from_text, range_hash, to_text, xorb_hash
from ._memory import MemoryIndex, MemoryXorbs
from ._service import MAX_BODY_BYTES, Index, Part, Plan, Unknown, XetService, XorbBytes, XorbUpload
from ._shard import Segment, Shard, ShardFile, ShardXorb, parse_shard, write_shard
from ._tokens import GrantRefused, Scope, Signer
from ._xorb import Chunk, XetRefused, Xorb, unpack_chunks, verify_xorb

__all__ = [
    "MAX_BODY_BYTES",
    "Chunk",
    "DatabaseIndex",
    "GrantRefused",
    "Index",
    "MemoryIndex",
    "MemoryXorbs",
    "Part",
    "Plan",
    "Scope",
    "Segment",
    "Shard",
    "ShardFile",
    "ShardXorb",
    "Signer",
    "StoredXorbs",
    "Unknown",
    "XetRefused",
    "XetService",
    "Xorb",
    "XorbBytes",
    "XorbUpload",
    "chunk_hash",
    "file_hash",
    "forget_file",
    "from_text",
    "has_file",
    "parse_shard",
    "range_hash",
    "to_text",
    "unpack_chunks",
    "verify_xorb",
    "write_shard",
    "xorb_hash",
    "xorb_key",
]
