"""The four hashes of the Xet protocol and their text form.

Source: the Xet protocol specification 1.1.0, "Hashing"; checked against what hf_xet 1.8.0 sends.
"""

from collections.abc import Iterable, Sequence

import blake3

HASH_BYTES = 32
_DATA_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
_FILE_SALT = bytes(HASH_BYTES)
_BRANCHES = 4  # mean width of a Merkle node; a node has at least two and at most nine children


def keyed(key: bytes, data: bytes | memoryview) -> bytes:
    """BLAKE3 of ``data`` under a 32-byte key."""
    return blake3.blake3(data, key=key).digest()


def to_text(raw: bytes) -> str:
    """Write 32 bytes as four little-endian 64-bit numbers in hexadecimal.

    >>> to_text(bytes(range(32)))[:16]
    '0706050403020100'
    """
    if len(raw) != HASH_BYTES:
        raise ValueError(f"a Xet hash has 32 bytes, got {len(raw)}")
    return b"".join(raw[at : at + 8][::-1] for at in range(0, HASH_BYTES, 8)).hex()


def from_text(text: str) -> bytes:
    """Read the text form; anything but 64 lower-case hexadecimal digits raises ``ValueError``."""
    if len(text) != 2 * HASH_BYTES or set(text) - set("0123456789abcdef"):
        raise ValueError("a Xet hash is written as 64 lower-case hexadecimal digits")
    raw = bytes.fromhex(text)
    return b"".join(raw[at : at + 8][::-1] for at in range(0, HASH_BYTES, 8))


def chunk_hash(data: bytes | memoryview) -> bytes:
    """Hash of one chunk's uncompressed bytes."""
    return keyed(_DATA_KEY, data)


def xorb_hash(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """Merkle root over (chunk hash, length in bytes); zero for no chunks. O(number of chunks)."""
    nodes = list(chunks)
    if not nodes:
        return bytes(HASH_BYTES)
    while len(nodes) > 1:
        parents, at = [], 0
        while at < len(nodes):
            end = _cut(nodes, at)
            parents.append(_parent(nodes[at:end]))
            at = end
        nodes = parents
    return nodes[0][0]


def file_hash(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """Hash of a file, from (chunk hash, length) of all its chunks in order; zero for an empty file."""
    root = xorb_hash(chunks)
    return keyed(_FILE_SALT, root) if root != bytes(HASH_BYTES) else root


def range_hash(chunk_hashes: Iterable[bytes]) -> bytes:
    """Verification hash of one segment: whoever writes it has seen the segment's chunk hashes."""
    return keyed(_RANGE_KEY, b"".join(chunk_hashes))


def _cut(nodes: Sequence[tuple[bytes, int]], at: int) -> int:
    """Where the Merkle node that begins at ``at`` ends: the first child, from the third, that is 0 mod 4."""
    last = min(at + 2 * _BRANCHES + 1, len(nodes))
    for index in range(at + 2, last):
        if nodes[index][0][24] % _BRANCHES == 0:  # byte 24 is the low byte of the fourth little-endian number
            return index + 1
    return last


def _parent(children: Sequence[tuple[bytes, int]]) -> tuple[bytes, int]:
    lines = "".join(f"{to_text(digest)} : {size}\n" for digest, size in children)
    return keyed(_NODE_KEY, lines.encode()), sum(size for _, size in children)
