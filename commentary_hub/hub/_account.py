"""Who is signed in."""

from __future__ import annotations

from huggingface_hub import HfApi, get_token

from commentary_hub.hub._failures import hub_errors


def account(*, token: str | None = None, endpoint: str | None = None) -> str | None:
    """The account that the token belongs to, ``None`` where there is no token.

    ``endpoint`` and ``token`` default to HF_ENDPOINT and HF_TOKEN or the ``hf`` login. Raises the leaves of `HubError`
    where the hub does not answer or does not know the token.
    """
    if token is None and get_token() is None:
        return None
    api = HfApi(endpoint=endpoint, token=token)
    with hub_errors("asking who is signed in", "", api.endpoint):
        return str(api.whoami()["name"])
