from collections.abc import Iterator

import pytest

from tierwise.sandbox.server import Running, running


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(served: Running) -> Running:
    """A sandbox that has seen no call yet."""
    served.reset()
    return served
