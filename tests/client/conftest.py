"""A sandbox, and doors to it that are closed after the test."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import tierwise
from support.clients import DOORS, Door, OpenDoor, router_of
from support.policies import TWO_TIERS
from tierwise.sandbox.server import Running, running


@pytest.fixture(scope="session")
def provider() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(provider: Running) -> Running:
    """A sandbox that has seen no call yet."""
    provider.reset()
    return provider


@pytest.fixture(params=DOORS)
def open_door(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Running) -> Iterator[OpenDoor]:
    """Opens a door under a policy."""
    with ExitStack() as stack:

        def opened(policy: str = TWO_TIERS) -> Door:
            ledger_path = tmp_path / "ledger.sqlite3"
            session = tierwise.Session(router_of(tmp_path, policy), ledger=ledger_path)
            stack.enter_context(session)
            return Door(session=session, by=request.param, base_url=sandbox.base_url, ledger_path=ledger_path)

        yield opened


@pytest.fixture
def door(open_door: OpenDoor) -> Door:
    """A door under a policy without budgets."""
    return open_door()
