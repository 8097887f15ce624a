"""Settings come from the environment, once, and a wrong one is named before anything starts."""

from pathlib import Path

import pytest

from commentary_hub.errors import UsageError
from commentary_hub_server.app import open_world
from commentary_hub_server.settings import Settings, variables


def test_every_setting_is_read_from_its_variable():
    given = {name: {"int": "7", "bool": "yes"}.get(type(default).__name__, "text") for name, default in _defaults()}
    settings = Settings.from_environment(given)
    for name, default in _defaults():
        found = getattr(settings, name.removeprefix("COMMENTARY_HUB_").lower())
        assert found == {"int": 7, "bool": True, "str": "text"}.get(type(default).__name__, Path("text"))
    assert Settings.from_environment(given, data_dir=Path("other")).data_dir == Path("other")
    assert Settings.from_environment({}) == Settings()


def _defaults():
    return [(name, getattr(Settings(), name.removeprefix("COMMENTARY_HUB_").lower())) for name, _, _ in variables()]


@pytest.mark.parametrize(
    ("name", "value"), [("RATE_LIMIT", "many"), ("LOG_JSON", "perhaps"), ("QUOTA_BYTES", "1 GB"), ("SHUTDOWN_S", "")]
)
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(UsageError, match=f"COMMENTARY_HUB_{name}"):
        Settings.from_environment({f"COMMENTARY_HUB_{name}": value})


def test_a_weak_secret_is_refused_and_a_made_one_is_kept_private(tmp_path):
    with pytest.raises(UsageError, match="COMMENTARY_HUB_SECRET"):
        open_world(Settings(data_dir=tmp_path / "weak", secret="guess"))
    first = open_world(Settings(data_dir=tmp_path / "hub"))
    second = open_world(Settings(data_dir=tmp_path / "hub"))
    assert first.secret == second.secret
    assert len(first.secret) >= 32
    assert (tmp_path / "hub" / "secret").stat().st_mode & 0o077 == 0
    for world in (first, second):
        world.engine.dispose()
