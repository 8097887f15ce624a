"""A commentary that stays on the hub: its manifest comes, and of its files any range of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_stream_backoff

from commentary_hub.errors import HubError
from commentary_hub.hub._failures import hub_errors
from commentary_hub.hub._pull import download_manifest
from commentary_hub.manifest import Manifest, Reference, read_manifest

_PARTIAL = 206


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

    def read(self, name: str, start: int, stop: int) -> bytes:
        """The bytes ``start`` to ``stop`` (exclusive) of a file, from the cache if it lies there whole.

        One request with a Range. Raises `HubError` where the hub answers with anything but these bytes (nothing else is
        read then), and what `pull` raises.
        """
        path = self._prefix + name
        cached = try_to_load_from_cache(self._repo_id, path, revision=self.commit, repo_type="dataset")
        if isinstance(cached, str):
            with Path(cached).open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        endpoint = self._api.endpoint
        url = hf_hub_url(self._repo_id, path, repo_type="dataset", revision=self.commit, endpoint=endpoint)
        headers = {**build_hf_headers(token=self._api.token), "Range": f"bytes={start}-{stop - 1}"}
        with (
            hub_errors(f"reading a part of {self._repo_id}/{path}", self._repo_id, endpoint),
            http_stream_backoff("GET", url, headers=headers) as response,
        ):
            hf_raise_for_status(response)
            content = response.read() if response.status_code == _PARTIAL else b""
        if len(content) != stop - start:
            raise HubError(
                f"{endpoint} did not send the {stop - start:,} bytes of {path} that were asked for (HTTP status "
                f"{response.status_code}): pull the whole commentary instead",
                repo_id=self._repo_id,
                endpoint=endpoint,
            )
        return content


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
