"""A backup beside running uploads: whole without what is still arriving, or not there at all."""

import os

import pytest

from commentary_hub.errors import CommentaryHubError
from commentary_hub_server.app import open_world
from commentary_hub_server.rules.repositories import Change
from commentary_hub_server.settings import Settings
from commentary_hub_server.upkeep import back_up, check


@pytest.fixture
def settings(tmp_path):
    settings = Settings(data_dir=tmp_path / "hub")
    world = open_world(settings)
    world.directory.add_user("ada")
    repo = world.repositories.create("dataset", "ada", "set", private=False)
    world.history.commit(repo, "main", [Change("a.bin", data=os.urandom(200_000))], title="t", author="ada")
    world.objects.put(f"parts/{repo.id}-{'0' * 64}/00001", [b"the first part"])
    world.engine.dispose()
    return settings


def vanish(folder, name):
    """What a listing shows and nobody can open any more."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to("gone")


def test_parts_that_are_joined_while_it_copies_do_no_harm(settings, tmp_path):
    vanish(next((settings.data_dir / "objects" / "parts").iterdir()), "00002")
    back_up(settings, tmp_path / "copy")
    assert not (tmp_path / "copy" / "objects" / "parts").exists()
    restored = open_world(Settings(data_dir=tmp_path / "copy"))
    found = check(restored)
    assert (found.objects, found.problems) == (1, [])
    restored.engine.dispose()


def test_a_backup_that_fails_says_why_in_one_line_and_leaves_nothing(settings, tmp_path):
    vanish(settings.data_dir / "objects" / "xorbs", "one")
    with pytest.raises(
        CommentaryHubError, match=r"xorbs/one: .*No such file.*; mend that, then back up again$"
    ) as told:
        back_up(settings, tmp_path / "copy")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "copy").exists()
    (settings.data_dir / "objects" / "xorbs" / "one").unlink()
    back_up(settings, tmp_path / "copy")  # the same again, once it is mended
    (tmp_path / "file").touch()
    with pytest.raises(CommentaryHubError, match="Not a directory"):
        back_up(settings, tmp_path / "file" / "copy")
