"""What ``huggingface_hub`` raises, in the words of this library: which hub, which repository, what to do."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import errors as hf
from huggingface_hub.utils import HFValidationError

from commentary_hub.errors import (
    HubAccessDenied,
    HubConflict,
    HubError,
    HubNotFound,
    HubUnreachable,
    ReferenceSyntaxError,
)

_CLIENTS = ("httpx", "httpx2")  # what huggingface_hub 1.x and 2.x speak with


def _no_connection() -> tuple[type[Exception], ...]:
    """The clients' exceptions for a hub that does not answer, of those clients that are installed."""
    found: list[type[Exception]] = [hf.OfflineModeIsEnabled]
    for name in _CLIENTS:
        try:
            found.append(importlib.import_module(name).TransportError)
        except ImportError:
            continue
    return tuple(found)


@contextmanager
def hub_errors(doing: str, repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn the client's exceptions inside the block into leaves of `HubError`; ``doing`` starts the message."""
    facts = {"repo_id": repo_id, "endpoint": endpoint}
    unreachable: tuple[type[Exception], ...] = (hf.LocalEntryNotFoundError, *_no_connection())
    try:
        yield
    except HFValidationError as error:
        raise ReferenceSyntaxError(f"{repo_id!r} is not a repository name: {error}", reference=repo_id) from error
    except hf.LocalTokenNotFoundError as error:
        raise HubAccessDenied(
            f"{doing} needs a token for {endpoint}: set HF_TOKEN or log in with 'hf auth login'", **facts
        ) from error
    except hf.RevisionNotFoundError as error:
        raise HubNotFound(f"{doing}: no such revision at {endpoint}", **facts) from error
    except hf.RepositoryNotFoundError as error:
        raise _missing_repository(error, doing, endpoint, facts) from error
    except hf.RemoteEntryNotFoundError as error:
        raise HubNotFound(f"{doing}: the repository at {endpoint} has no such file", **facts) from error
    except hf.HfHubHTTPError as error:
        raise _refusal(error, doing, endpoint, facts) from error
    except unreachable as error:
        raise HubUnreachable(
            f"{doing}: {endpoint} does not answer and nothing is cached; check HF_ENDPOINT and the network, then do "
            "the same again",
            **facts,
        ) from error


def _missing_repository(error: hf.HfHubHTTPError, doing: str, endpoint: str, facts: dict[str, str]) -> HubError:
    if error.response is not None and error.response.status_code == 401:
        return HubAccessDenied(f"{doing}: {endpoint} does not accept this token: check HF_TOKEN", **facts)
    return HubNotFound(
        f"{doing}: no such repository at {endpoint}, or it is private and your token may not see it", **facts
    )


def _refusal(error: hf.HfHubHTTPError, doing: str, endpoint: str, facts: dict[str, str]) -> HubError:
    status = error.response.status_code if error.response is not None else 0
    said = (error.server_message or "").strip() or f"HTTP status {status}"
    if status in {401, 403}:
        return HubAccessDenied(
            f"{doing}: {endpoint} refuses ({said}): check HF_TOKEN and that the token may write to this name", **facts
        )
    if status == 404:
        return HubNotFound(f"{doing}: {endpoint} has no such thing ({said})", **facts)
    if status in {409, 412}:
        return HubConflict(f"{doing}: it exists or has moved ({said}): pull first, or choose another name", **facts)
    return HubError(f"{doing}: {endpoint} answered {said}; nothing was lost, do the same again", status=status, **facts)
