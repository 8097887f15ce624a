"""Starting: tables, secrets, several processes at once. The same on every database and object store."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from commentary_hub.errors import HubConflict
from commentary_hub_server.app import _secret, open_world
from commentary_hub_server.rules.accounts import Directory
from commentary_hub_server.settings import Settings
from commentary_hub_server.store import connect, metadata, migrate

pytestmark = pytest.mark.xdist_group("storage")


def test_the_migrations_make_the_tables_that_the_code_describes(settings):
    world = open_world(settings)
    world.engine.dispose()
    engine = connect(settings.database)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, kind, _: kind != "table" or name in metadata.tables}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_several_processes_may_start_at_once(settings):
    if settings.database_url:
        engine = connect(settings.database)
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        engine.dispose()
    with ThreadPoolExecutor(4) as pool:
        worlds = list(pool.map(lambda _: open_world(settings), range(4)))
    assert len({one.secret for one in worlds}) == 1
    for one in worlds:
        one.engine.dispose()


def test_the_secret_appears_whole_to_everybody_who_starts_at_once(tmp_path):
    for number in range(50):
        folder = tmp_path / str(number)
        folder.mkdir()
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(_secret, [folder / "secret"] * 8))
        assert {len(one) for one in found} == {64}
        assert len(found) == 1
        assert [one.name for one in folder.iterdir()] == ["secret"]


def test_what_could_not_be_stored_is_in_no_error(settings):
    """Errors end in logs; what was to be stored may be private, or the hash of a secret."""
    world = open_world(settings)
    with pytest.raises(DatabaseError) as error, world.engine.begin() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "of ada"})
    assert "of ada" not in str(error.value)
    world.engine.dispose()


def test_xet_files_of_before_begin_a_new_day(tmp_path):
    settings = Settings(data_dir=tmp_path)
    engine = connect(settings.database)
    migrate(engine, "0005")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO xet_files VALUES ('1', x'00', x'00', x'00')"))
    engine.dispose()
    world = open_world(settings)
    with world.engine.connect() as connection:
        created_at = connection.execute(text("SELECT created_at FROM xet_files")).scalar_one()
    assert abs(created_at - time.time()) < 60
    world.engine.dispose()


def test_a_data_folder_of_before_keeps_its_tokens_and_gives_no_number_twice(tmp_path):
    settings = Settings(data_dir=tmp_path)
    engine = connect(settings.database)
    migrate(engine, "0004")
    directory = Directory(engine)
    directory.add_user("ada")
    first, second = (directory.create_token("ada", expires_at=4e9) for _ in range(2))
    before = directory.tokens("ada")
    engine.dispose()
    world = open_world(settings)
    assert world.directory.tokens("ada") == before
    number = world.directory.by_token(second).token_id
    world.directory.revoke_token("ada", number)
    world.directory.create_token("ada")
    assert [one.id for one in world.directory.tokens("ada")] == [number - 1, number + 1]
    with pytest.raises(HubConflict):  # still unique
        world.directory.create_token("ada", secret=first)
    world.engine.dispose()
