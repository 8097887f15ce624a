"""A hub's rules over each database and each object store."""

import uuid

import pytest
from sqlalchemy import create_engine, text

from commentary_hub_server.app import open_world
from commentary_hub_server.settings import Settings


@pytest.fixture(params=["sqlite-local", "postgresql-local"])
def settings(request, tmp_path, monkeypatch):
    name, database, objects = f"t{uuid.uuid4().hex[:12]}", "", ""
    if request.param.startswith("postgresql"):
        host = request.getfixturevalue("postgresql_host")
        admin = create_engine(f"postgresql+psycopg://hub@/postgres?host={host}", isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {request.getfixturevalue('migrated')}"))
        admin.dispose()
        database = f"postgresql://hub@/{name}?host={host}"
    if request.param.endswith("s3"):
        for variable, value in request.getfixturevalue("s3_variables").items():
            monkeypatch.setenv(variable, value)
        objects = f"s3://hub/{name}"
    return Settings(data_dir=tmp_path, database_url=database, objects_url=objects)


@pytest.fixture(scope="session")
def migrated(postgresql_host, tmp_path_factory):
    """A database with all tables, to copy."""
    admin = create_engine(f"postgresql+psycopg://hub@/postgres?host={postgresql_host}", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE migrated"))
    admin.dispose()
    url = f"postgresql://hub@/migrated?host={postgresql_host}"
    open_world(Settings(data_dir=tmp_path_factory.mktemp("migrated"), database_url=url)).engine.dispose()
    return "migrated"


@pytest.fixture
def world(settings):
    one = open_world(settings)
    one.directory.add_user("ada")
    yield one
    one.engine.dispose()


@pytest.fixture
def repo(world):
    return world.repositories.create("dataset", "ada", "Set", private=False)
