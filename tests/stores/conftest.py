"""Ledgers of both kinds for the tests of stores."""

from collections.abc import Generator

import pytest

from support.postgres import Server, running


@pytest.fixture(scope="session")
def server() -> Generator[Server]:
    """A PostgreSQL server; a test that stops it starts it again."""
    with running() as server:
        yield server


@pytest.fixture
def address(server: Server) -> Generator[str]:
    """A new database."""
    address = server.new_database()
    yield address
    server.drop(address)
