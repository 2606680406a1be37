"""`tierwise serve`: the gateway's parts put together, and the server that runs it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from tierwise.config import Book
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.desk import Desk
from tierwise.engine.ledger import LoopLedger
from tierwise.gateway.app import Gateway
from tierwise.gateway.messages import Parts
from tierwise.gateway.meters import Meters
from tierwise.gateway.reload import PolicyFile
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.lock import budgets_held
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger
from tierwise.upstream.client import HttpUpstream

SWITCH_INTERVAL_S: Final = 0.001
"""How long the event loop keeps the interpreter while the ledger's thread waits for it."""


FORGET_EVERY_S: Final = 60
FORGOTTEN_AFTER_S: Final = 3600
"""How long after its window an account is still held: no call waits as long between its reading and its claim."""

KEEP_ALIVE_S: Final = 65
"""How long an idle connection of a caller is kept: longer than SDKs keep theirs, so that they close first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one gateway is run."""

    book: Book
    policy_path: Path | None
    """The file that `book` was read from, watched for edits; None watches nothing."""
    ledger_path: Path
    host: str = "127.0.0.1"
    port: int = 4000
    key: str | None = None
    """The gateway's own credential."""
    drain_s: int = 30
    """How long calls in flight may take after SIGTERM, in seconds."""


def serve(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; calls in flight are finished first.

    Under budgets it holds those of its ledger: a second gateway on the same ledger does not start.

    Args:
        settings: how.
        ready: called with the gateway's address once it takes calls.

    Raises:
        OSError: the address is taken.
        LedgerError: the ledger cannot be opened, or another process holds its budgets.
    """
    with budgets_held(settings.ledger_path) if settings.book.policy.budgets else nullcontext():
        _serve(settings, ready=ready)


def _serve(settings: Settings, *, ready: Callable[[str], None]) -> None:
    open_ledger(settings.ledger_path).close()  # fails here, with a clear error, rather than in the server
    listener = listen(settings.host, settings.port)
    address = f"http://{_shown(settings.host)}:{listener.getsockname()[1]}"
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _drained)
    config = uvicorn.Config(
        gateway(settings),
        http="httptools",
        loop="uvloop",
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=settings.drain_s,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    _Server(config, ready=lambda: ready(address)).run(sockets=[listener])


def _drained(_signal: int, _frame: object) -> None:
    """Do nothing: the server raises its stop signal once more when it has drained, and drained is a good end."""


class _Server(uvicorn.Server):
    """A server that says when it is ready."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def gateway(settings: Settings) -> Gateway:
    """Make the app; its parts come to life when a server starts it."""
    policy_files: list[PolicyFile] = []

    def health(parts: Parts) -> dict[str, Any]:
        problem = policy_files[0].problem if policy_files else None
        return {
            "status": "ok" if parts.ledger.trouble is None else "failing",
            "pid": os.getpid(),
            "policy": parts.desk.book.policy.version,
            "policy_problem": problem,
            "ledger": str(settings.ledger_path),
            "ledger_problem": parts.ledger.trouble,
            "upstream": parts.desk.book.policy.upstream.base_url,
            **parts.meters.snapshot(),
        }

    return Gateway(lambda: _parts(settings, policy_files), health=health)


@asynccontextmanager
async def _parts(settings: Settings, policy_files: list[PolicyFile]) -> AsyncGenerator[Parts]:
    desk = Desk(settings.book, conversations=Conversations(), clock=now_us, new_id=call_ids())
    store = open_ledger(settings.ledger_path, durability=settings.book.policy.durability)
    ledger = LoopLedger(store, asyncio.get_running_loop())
    upstream = HttpUpstream(settings.book.policy.upstream)
    budgets = _resumed(settings.ledger_path)
    parts = Parts(
        desk=desk,
        ledger=ledger,
        budgets=budgets,
        upstream=upstream,
        meters=Meters(),
        clock=now_us,
        key=settings.key,
    )
    watches = [asyncio.create_task(_forget_ended(budgets))]
    if settings.policy_path is not None:
        policy_files.append(PolicyFile(settings.policy_path, desk))
        watches.append(asyncio.create_task(policy_files[0].watch()))
    try:
        yield parts
    finally:
        for watch in watches:
            watch.cancel()
        await upstream.close()
        await asyncio.to_thread(ledger.close)


def _resumed(ledger_path: Path) -> MemoryBudgets:
    """The budgets as the ledger has them: what a dead gateway had reserved and not settled is kept."""
    budgets = MemoryBudgets()
    with closing(read_ledger(ledger_path)) as ledger:
        budgets.resume(past(ledger))
    return budgets


async def _forget_ended(budgets: MemoryBudgets) -> None:
    """Let go of accounts whose windows have ended, again and again, until cancelled."""
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        budgets.forget_ended(now_us() - FORGOTTEN_AFTER_S * 1_000_000)


def listen(host: str, port: int) -> socket.socket:
    """Bind an address; port 0 takes a free one. Raises OSError where it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)  # noqa: FBT003 — the library's own signature
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
