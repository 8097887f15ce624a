"""What every test has: a cache of its own, so that nothing is written to, or read from, the machine's."""

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("COMMENTARY_HUB_CACHE", str(tmp_path_factory.getbasetemp() / "commentary-hub-cache"))
