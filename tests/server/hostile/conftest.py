"""A hub with one user and one repository, a module's own."""

import pytest

from tests.server.hub.running import running


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with running(folder) as one:
        one.folder, one.ada = folder, one.token("ada")
        one.by = one.world.directory.by_token(one.ada).token_id
        one.repo = one.world.repositories.create("dataset", "ada", "set", private=False)
        yield one
