"""A commentary that stays on the hub: its manifest comes, and of its files any range of bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, BinaryIO

from huggingface_hub import HfApi, constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from commentary_hub.errors import HubError
from commentary_hub.hub._failures import hub_errors
from commentary_hub.hub._pull import download_manifest
from commentary_hub.hub._ranges import Piece, Span, cut, grouped, joined, most_bytes, parts
from commentary_hub.manifest import Manifest, Reference, read_manifest

_Ask = Callable[[Sequence[Span]], "list[Piece] | None"]
_PARTIAL = 206
_NOT_SEVERAL = {200, 400, 416, 501}
"""How servers answer that don't know how to send several ranges at once."""
_CONNECTIONS = 8
_REQUEST_BYTES = 1 << 15
"""A request takes as long as so many bytes more of the one before: 2 ms of work between two ends of one machine at
16 MB/s, and 50 ms of way, eight at a time, at 5 MB/s. Faster lines would rather have more."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One commit of a commentary: ``manifest``, and `read` for its other files.

    ``folder`` is where the cache of ``huggingface_hub`` keeps what has come of this commit.
    """

    manifest: Manifest
    folder: Path
    commit: str
    _repo_id: str
    _prefix: str
    _api: HfApi
    _one_at_a_time: Event = field(default_factory=Event, compare=False)

    def read(self, name: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of each span [start, stop) of a file (ascending, disjoint), from the cache if it lies there whole.

        A hundred ranges are asked for by one request, and eight requests at once, over connections that are kept. A
        server need not know how to answer several ranges: this one is then asked for one at a time, and for those near
        each other as one. Raises `HubError` where the hub answers with anything but these bytes (no more is read than
        they could have), and what `pull` raises.
        """
        path = self._prefix + name
        cached = try_to_load_from_cache(self._repo_id, path, revision=self.commit, repo_type="dataset")
        if isinstance(cached, str):
            with Path(cached).open("rb") as file:
                return [_read_at(file, start, stop) for start, stop in spans]
        endpoint, headers = self._api.endpoint, build_hf_headers(token=self._api.token)
        url = hf_hub_url(self._repo_id, path, repo_type="dataset", revision=self.commit, endpoint=endpoint)
        ask = partial(self._ask, path, url, headers)
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            pieces = None if self._one_at_a_time.is_set() else _together(ask, spans, pool)
            if pieces is None:
                self._one_at_a_time.set()
                alone = [group for span in joined(spans, _REQUEST_BYTES) for group in grouped([span])]
                pieces = [piece for found in pool.map(ask, alone) for piece in found or ()]
        found = cut(spans, pieces)
        if found is None:
            raise self._wrong(path, spans, 206)
        return found

    def _ask(self, path: str, url: str, headers: dict[str, str], group: Sequence[Span]) -> list[Piece] | None:
        """One request; ``None`` where it asked for several ranges and the answer is anything else."""
        ranges = ",".join(f"{start}-{stop - 1}" for start, stop in group)
        # A server that compresses what it sends leaves ranges aside, so it is asked not to.
        headers = headers | {"Range": f"bytes={ranges}", "Accept-Encoding": "identity"}
        with (
            hub_errors(f"reading a part of {self._repo_id}/{path}", self._repo_id, self._api.endpoint),
            http_stream_backoff("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response,
        ):
            if len(group) > 1 and response.status_code in _NOT_SEVERAL:
                return None
            hf_raise_for_status(response)
            content = _bounded(response, most_bytes(group)) if response.status_code == _PARTIAL else b""
            if len(group) > 1:
                pieces = parts(response.headers.get("content-type", ""), content)
                return pieces if pieces is not None and cut(group, pieces) is not None else None
            (start, stop) = group[0]
            if len(content) != stop - start:
                raise self._wrong(path, group, response.status_code)
        return [(start, content)]

    def _wrong(self, path: str, spans: Sequence[Span], status: int) -> HubError:
        size = sum(stop - start for start, stop in spans)
        return HubError(
            f"{self._api.endpoint} did not send the {size:,} bytes of {path} that were asked for (HTTP status "
            f"{status}): pull the whole commentary instead",
            repo_id=self._repo_id,
            endpoint=self._api.endpoint,
        )


def _together(ask: _Ask, spans: Sequence[Span], pool: ThreadPoolExecutor) -> list[Piece] | None:
    """The pieces that hold ``spans``, several to a request; ``None`` where the server doesn't do this."""
    groups = grouped(spans)
    answers = [ask(group) for group in groups[:1]]  # by itself: it shows whether others make sense
    if None not in answers:
        answers += pool.map(ask, groups[1:])
    pieces: list[Piece] = []
    for found in answers:
        if found is None:
            return None
        pieces += found
    return pieces


def _read_at(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)


def _bounded(response: Any, size: int) -> bytes:
    """A streamed answer, or as much of it as shows that it is longer than ``size``."""
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > size:
            break
    return bytes(content)


def remote(
    reference: str, *, commentary: str | None = None, token: str | None = None, endpoint: str | None = None
) -> Remote:
    """The commentary ``reference`` without its files: only the manifest is downloaded (offline: it must be cached).

    Raises the leaves of `HubError`, and of `ArtefactError` for its manifest.
    """
    source = Reference.parse(reference)
    api = HfApi(endpoint=endpoint, token=token)
    prefix = f"commentaries/{commentary}/" if commentary else ""
    with hub_errors(f"opening {source}", source.repo_id, api.endpoint):
        path = download_manifest(api, source, prefix)
    commit = path.parents[len(PurePosixPath(prefix).parts)].name
    return Remote(read_manifest(path.parent), path.parent, commit, source.repo_id, prefix, api)
