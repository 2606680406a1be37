"""Who leaves an exchange when: the caller, the provider or both at once; and what the ledger says after.

Real sockets on both sides. Whatever happens, the call has one ending; a cost that is known is the provider's to the
nanodollar, and one that is not is held by the reservation, from below and from above.
"""

import asyncio
import gc
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, Literal

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from support.waiting import eventually
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger

POLICY = TWO_TIERS + '\n[[budgets]]\nscope = "task"\nlimit_usd = "1"\nwindow = "lifetime"\n'

Caller = Literal["stays", "leaves before the first byte", "leaves in the middle", "leaves after the last"]
CALLERS: Final[tuple[Caller, ...]] = (
    "stays",
    "leaves before the first byte",
    "leaves in the middle",
    "leaves after the last",
)
PROVIDERS: Final = {
    "finishes": "",
    "falls silent": "stall-after:3,seconds=30",
    "sends half an event": "half-event:3",
    "closes": "cut-after:3",
    "sends an error": "error-after:3",
}

LEFT = ("failed", "caller", "caller-left")
BROKE = ("failed", "provider", "stream-broke")
ERROR = ("failed", "provider", "overloaded_error")
POSTED = ("posted", None, None)

ENDINGS: Final = {
    # stream, provider, caller: ending, whose fault, what error
    **{(True, "finishes", caller): POSTED for caller in ("stays", "leaves after the last")},
    **{(False, "finishes", caller): POSTED for caller in ("stays", "leaves after the last")},
    (True, "falls silent", "stays"): BROKE,
    **{(True, broken, "stays"): BROKE for broken in ("sends half an event", "closes")},
    **{(False, broken, "stays"): BROKE for broken in ("sends half an event", "closes")},
    **{(stream, "sends an error", "stays"): ERROR for stream in (True, False)},
    **{(True, provider, "leaves in the middle"): LEFT for provider in PROVIDERS},
    **{
        (stream, provider, "leaves before the first byte"): LEFT
        for stream in (True, False)
        for provider in PROVIDERS
    },
}
"""What the ledger says. Of a reply that is no stream there is no middle, and none to fall silent in."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, provider: Running) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("served")
    with running_gateway(folder, provider.base_url, policy=POLICY, retries=0, read_timeout="1s") as gateway:
        yield gateway


@pytest.fixture
def sandbox(provider: Running) -> Running:
    provider.reset()
    return provider


@pytest.fixture
def gateway(served: RunningGateway, sandbox: Running) -> RunningGateway:
    return served.fresh()


def called(gateway: RunningGateway, *, stream: bool, fault: str, task: str) -> socket.socket:
    """A connection that a call was posted on."""
    body = {
        "model": "task/extraction",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": "[[sandbox output_tokens=200]]"}],
        "stream": stream,
    }
    raw = json.dumps(body).encode()
    head = (
        "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\nx-api-key: any\r\nanthropic-version: 2023-06-01\r\n"
        f"x-tierwise-task-id: {task}\r\nx-sandbox-fault: {fault}\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    host, port = gateway.base_url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(head.encode() + raw)
    return connection


def read_until(connection: socket.socket, *words: bytes) -> bytes:
    """What comes, up to one of the words or the connection's end."""
    got = b""
    while not any(word in got for word in words):
        part = connection.recv(65_536)
        if not part:
            break
        got += part
    return got


def hang_up(connection: socket.socket) -> None:
    """Close at once, what has not been read included."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def behave(connection: socket.socket, caller: Caller, *, stream: bool) -> None:
    match caller:
        case "stays":
            read_until(connection, *_LAST[stream])
            time.sleep(0.05)
        case "leaves after the last":
            read_until(connection, *_LAST[stream])
        case "leaves before the first byte":
            time.sleep(0.1)
        case "leaves in the middle":
            read_until(connection, b"content_block_start")
    hang_up(connection)


_LAST: Final = {True: (b"message_stop", b"event: error"), False: (b'"usage"', b'"type":"error"')}
"""What the last bytes hold of a reply that is a stream, and of one that is not."""


def agree(gateway: RunningGateway, sandbox: Running, task: str) -> dict[str, Any]:
    """The one call, once it has ended; the provider's bill is within what the ledger and the budget hold."""
    (recorded,) = eventually(gateway.settled, until=bool)
    (billed,) = eventually(sandbox.calls, until=bool)
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        (account,) = (each for each in account_totals(ledger) if task in each.key)
    if recorded["cost_nanos"] is not None:
        assert recorded["cost_nanos"] == billed["nanos"]
        assert (account.pending_nanos, account.posted_nanos) == (0, billed["nanos"])
    else:
        assert (recorded["at_least_nanos"] or 0) <= billed["nanos"] <= account.pending_nanos
    return recorded


@pytest.mark.parametrize(
    ("stream", "provider_does", "caller"), ENDINGS, ids=lambda value: str(value).replace(" ", "-")
)
def test_whoever_leaves_the_ledger_says_so_and_holds_what_it_cost(
    gateway: RunningGateway,
    sandbox: Running,
    stream: bool,
    provider_does: str,
    caller: Caller,
) -> None:
    task = f"{stream}-{provider_does}-{caller}".replace(" ", "-")
    fault = ";".join(
        part
        for part in (
            PROVIDERS[provider_does],
            "slow-first:0.4" if caller == "leaves before the first byte" else "",
            "slow:30" if caller == "leaves in the middle" else "",
        )
        if part
    )

    behave(called(gateway, stream=stream, fault=fault, task=task), caller, stream=stream)

    recorded = agree(gateway, sandbox, task)
    assert (recorded["ending"], recorded["fault"], recorded["error"]) == ENDINGS[
        stream, provider_does, caller
    ]


@pytest.mark.parametrize("late_ms", [0, 2, 5, 9, 12])
@pytest.mark.parametrize("broken", ["sends half an event", "closes", "sends an error", "finishes"])
def test_both_may_leave_at_once_and_the_call_still_ends_once(
    gateway: RunningGateway, sandbox: Running, broken: str, late_ms: int
) -> None:
    task = f"{broken}-{late_ms}".replace(" ", "-")
    fault = f"{PROVIDERS[broken]};slow:10" if PROVIDERS[broken] else ""
    connection = called(gateway, stream=True, fault=fault, task=task)

    read_until(connection, b"event: ping" if fault else b"HTTP/1.1")
    time.sleep(late_ms / 1000)
    hang_up(connection)

    recorded = agree(gateway, sandbox, task)
    assert (recorded["ending"], recorded["fault"], recorded["error"]) in {LEFT, BROKE, ERROR, POSTED}


def tasks() -> int:
    """How many tasks of event loops are not done, in this process: the gateway's and the provider's."""
    return sum(isinstance(found, asyncio.Task) and not found.done() for found in gc.get_objects())


def test_nobody_who_leaves_leaves_a_task_behind(gateway: RunningGateway, sandbox: Running) -> None:
    before = tasks()
    faults = [f"{fault};slow:10" if fault else "slow:10" for fault in PROVIDERS.values()]
    for place in range(4):
        for fault in faults:
            connection = called(gateway, stream=True, fault=fault, task=f"left-{place}")
            behave(connection, "leaves in the middle", stream=True)

    calls = eventually(gateway.settled, until=lambda found: len(found) == 4 * len(faults))

    assert eventually(tasks, until=lambda left: left <= before) <= before
    assert len(eventually(sandbox.calls, until=lambda found: len(found) == len(calls))) == len(calls)
