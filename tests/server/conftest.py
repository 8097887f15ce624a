"""What every test of the server may ask for."""

import pytest

from tests.server import servers


@pytest.fixture(scope="session")
def postgresql_host():
    with servers.postgresql() as host:
        yield host


@pytest.fixture(scope="session")
def s3_variables():
    with servers.s3() as variables:
        yield variables
