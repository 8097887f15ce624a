"""Rate limits: told in every reply, kept for each user and each address."""

import httpx2
from huggingface_hub import HfApi

from tests.server.hub.asking import http
from tests.server.hub.running import running


def test_limits_are_told_and_kept(tmp_path):
    with running(tmp_path, rate_limit=20) as hub:
        api = HfApi(endpoint=hub.url, token=hub.token("ada"))
        first = http(api, "GET", "/api/whoami-v2")
        assert first.headers["ratelimit"].startswith('"requests";r=19;t=')
        assert first.headers["ratelimit-policy"] == '"requests";q=20;w=60'
        for _ in range(19):
            http(api, "GET", "/api/whoami-v2")
        refused = http(api, "GET", "/api/whoami-v2")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        # Inventing tokens helps nobody.
        codes = [
            http(HfApi(endpoint=hub.url, token=f"hf_invented_{n}"), "GET", "/api/whoami-v2").status_code
            for n in range(25)
        ]
        assert codes[0] == 401
        assert codes[-1] == 429


def test_an_invented_header_counts_for_its_address_and_a_user_once(tmp_path):
    with running(tmp_path, rate_limit=20) as hub:
        for n in range(20):
            assert httpx2.get(f"{hub.url}/healthz", headers={"Authorization": f"Bearer x{n}"}).status_code == 200
        assert httpx2.get(f"{hub.url}/healthz", headers={"Authorization": "Bearer x"}).status_code == 429
    with running(tmp_path, rate_limit=20) as hub:
        apis = [HfApi(endpoint=hub.url, token=hub.token("ada")) for _ in range(2)]
        for one in apis:
            http(one, "GET", "/api/whoami-v2")
        left = [http(one, "GET", "/api/whoami-v2").headers["ratelimit"].partition("r=")[2][:2] for one in apis]
        assert left == ["17", "16"]
        for _ in range(30):  # what strangers at the same address do does not touch a user
            httpx2.get(f"{hub.url}/healthz")
        assert http(apis[0], "GET", "/api/whoami-v2").status_code == 200
