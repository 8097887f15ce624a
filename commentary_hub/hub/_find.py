"""Finding commentaries by dataset: the hub's own route where it has one, tags on any other Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from commentary_hub.errors import InputError
from commentary_hub.hub._failures import hub_errors

MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Found:
    """One commentary that was found.

    ``gain`` is the smallest measured difference of accuracy to a control (a fraction) with its 95 % interval;
    ``outcome`` is "helps", "no_difference", "hurts" or ``None`` for no evidence. On a hub without the commentary
    route only what tags say is known. ``folder`` is empty, or ``commentaries/<name>`` inside a dataset's repository.
    """

    repo_id: str
    revision: str | None
    kind: str | None
    dataset: str | None
    folder: str = ""
    gain: float | None = None
    gain_ci95: tuple[float, float] | None = None
    outcome: str | None = None
    verified: bool = False
    description: str = ""


def find(
    dataset: str | None = None,
    *,
    kind: str | None = None,
    search: str | None = None,
    limit: int = 20,
    token: str | None = None,
    endpoint: str | None = None,
) -> list[Found]:
    """Commentaries for ``dataset`` (a Hub id), of a ``kind``, or with the words ``search``.

    The best measured come first; with ``search`` those that hold the words in their name, then in their dataset's.
    Asks ``GET /api/commentaries``; a hub that has no such route is asked for datasets with the tags that every card
    carries (``commentary``, ``dataset:<id>``, ``commentary:<kind>``). Raises the leaves of `HubError`.
    """
    if limit < 1:
        raise InputError(f"limit is {limit}: ask for at least one")
    api = HfApi(endpoint=endpoint, token=token)
    wanted = {"dataset": dataset, "kind": kind, "search": search}
    params: dict[str, Any] = {name: value for name, value in wanted.items() if value}
    params |= {"limit": min(limit, MAX_PAGE), "facets": "false"}
    found: list[Found] = []
    with hub_errors("finding commentaries", "", api.endpoint):
        while len(found) < limit:
            page = _page(api, params)
            if page is None:
                return _by_tags(api, dataset, kind, search, limit)
            found += [_read(item) for item in page["items"]]
            if not page.get("next"):
                break
            params["cursor"] = page["next"]
    return found[:limit]


def _page(api: HfApi, params: dict[str, Any]) -> dict[str, Any] | None:
    """One page of the route, or ``None`` where the hub does not have it."""
    response = get_session().get(
        f"{api.endpoint}/api/commentaries", params=params, headers=build_hf_headers(token=api.token)
    )
    if response.status_code == 404 or "json" not in response.headers.get("content-type", ""):
        return None
    hf_raise_for_status(response)
    page = response.json()
    return page if isinstance(page, dict) and isinstance(page.get("items"), list) else None


def _read(item: dict[str, Any]) -> Found:
    interval = item.get("gain_ci95")
    return Found(
        repo_id=str(item["id"]),
        revision=item.get("revision"),
        kind=item.get("kind"),
        dataset=item.get("dataset"),
        folder=item.get("folder") or "",
        gain=item.get("gain"),
        gain_ci95=None if interval is None else (float(interval[0]), float(interval[1])),
        outcome=item.get("outcome"),
        verified=bool(item.get("verified")),
        description=item.get("description") or "",
    )


def _by_tags(api: HfApi, dataset: str | None, kind: str | None, search: str | None, limit: int) -> list[Found]:
    tags = ["commentary", *([f"dataset:{dataset}"] if dataset else []), *([f"commentary:{kind}"] if kind else [])]
    return [
        Found(
            repo_id=info.id,
            revision=info.sha,
            kind=_tag(info.tags, "commentary:"),
            dataset=_tag(info.tags, "dataset:"),
        )
        for info in api.list_datasets(filter=tags, search=search, limit=limit)
    ]


def _tag(tags: list[str] | None, prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in tags or () if tag.startswith(prefix)), None)
