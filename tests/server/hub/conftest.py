"""A hub for each module, a client of ada's, and a repository for each test."""

import pytest
from huggingface_hub import HfApi

from tests.server.hub.asking import DATA
from tests.server.hub.running import running


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as one:
        yield one


@pytest.fixture(scope="module")
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token("ada"))


@pytest.fixture
def repo(api, request):
    name = f"ada/{request.node.originalname.replace('_', '-')[:50]}-{abs(hash(request.node.name)) % 10**6}"
    api.create_repo(name, repo_type=DATA)
    return name
