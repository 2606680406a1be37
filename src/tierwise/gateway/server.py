"""`tierwise serve`: the server, in one process or several, that runs the gateway."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import FrameType
from typing import Final

import uvicorn

from tierwise.config import load_book
from tierwise.errors import CannotListen, NeedsBudgetStore, NeedsProviderKey, PolicyError
from tierwise.gateway.app import Gateway
from tierwise.gateway.parts import Settings, running
from tierwise.gateway.protocol import Protocol
from tierwise.gateway.workers import supervise
from tierwise.stores.ledger.lock import budgets_held
from tierwise.stores.ledger.opening import open_ledger

log = logging.getLogger("tierwise.gateway")

SWITCH_INTERVAL_S: Final = 0.001
"""How long the event loop keeps the interpreter while the ledger's thread waits for it."""

CYCLES_AFTER: Final = 10_000
"""How many more objects there are before the interpreter looks for cycles among the new ones: a call makes few."""

LINGER_S: Final = 1.0
"""How long a worker that ends while others go on still answers calls on connections that it has."""

KEEP_ALIVE_S: Final = 65
"""How long an idle connection of a caller is kept: longer than SDKs keep theirs, so that they close first."""

MOST_CONNECTIONS: Final = 2_000
"""Connections of callers, and calls, that one process has at once; beyond it the answer is 503."""


def serve(settings: Settings, *, ready: Callable[[str], None], until_eof: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT; calls in flight are finished first.

    Balances that no store shares are this process's: a second gateway on the same ledger does not start then, nor do
    several workers.

    Args:
        settings: how.
        ready: called with the gateway's address once it takes calls.
        until_eof: a descriptor whose end stops it too; None watches none. Only where there are several workers.

    Raises:
        CannotListen: the address is taken, or none of this machine's.
        LedgerError: the ledger cannot be opened, or another process holds its budgets.
        NeedsProviderKey: the policy has clients, and there is no key to call the provider with.
        NeedsBudgetStore: there are budgets and several workers, and no store that they share.
        WorkersFailed: no worker comes to take calls.
    """
    if settings.book.policy.clients and settings.key is None and settings.openai_key is None:
        raise NeedsProviderKey
    with _balances_held(settings):
        open_ledger(settings.ledger).close()  # fails here, with a clear error, rather than in the server
        listener = listen(settings.host, settings.port)
        address = f"http://{_shown(settings.host)}:{listener.getsockname()[1]}"
        if settings.workers == 1:
            return _run(settings, listener, ready=lambda: ready(address))
        return supervise(
            lambda taken: _run(_with_newest_policy(settings), listener, ready=taken),
            listener=listener,
            workers=settings.workers,
            drain_s=settings.drain_s,
            ready=lambda: ready(address),
            until_eof=until_eof,
        )


def _with_newest_policy(settings: Settings) -> Settings:
    """The settings with the policy as its file is now: a worker may begin long after its parent did.

    A file that is wrong leaves the parent's, as a reload does.
    """
    if settings.policy_path is None:
        return settings
    try:
        book = load_book(settings.policy_path)
    except PolicyError as error:
        log.error("the policy was edited and is wrong; the one of the start stays in force\n%s", error)  # noqa: TRY400 — no traceback: the problems are the news
        return settings
    return replace(settings, book=settings.redirected(book))


def _balances_held(settings: Settings) -> AbstractContextManager[None]:
    """Hold the balances of a ledger for this process, where they are held in a process."""
    policy = settings.book.policy
    if not policy.has_budgets or policy.budget_store is not None:
        return nullcontext()
    if settings.workers > 1:
        raise NeedsBudgetStore(workers=settings.workers)
    return budgets_held(settings.ledger)


def _run(settings: Settings, listener: socket.socket, *, ready: Callable[[], None]) -> None:
    """Take calls in this process."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    linger_s = LINGER_S if settings.workers > 1 else 0
    _Server(server_config(settings), ready=ready, linger_s=linger_s).run(sockets=[listener])


def server_config(settings: Settings) -> uvicorn.Config:
    """How the server serves the gateway."""
    return uvicorn.Config(
        gateway(settings),
        http=Protocol,
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
        limit_concurrency=MOST_CONNECTIONS,
    )


class _Server(uvicorn.Server):
    """A server that says when it is ready, ends well when it was told to, and cuts no call when it does."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None], linger_s: float) -> None:
        super().__init__(config)
        self._ready = ready
        self._linger_s = linger_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; a second Ctrl-C ends it at once. The signal is not raised again: a drain is a good end."""
        del frame
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, let callers know that theirs ends with its next reply, then drain."""
        for server in self.servers:
            server.close()
        headers = self.server_state.default_headers
        self.server_state.default_headers = [*headers, (b"connection", b"close")]
        await asyncio.sleep(self._linger_s)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _leave_alone_what_stays()
        if self.started:
            self._ready()


def _leave_alone_what_stays() -> None:
    """Let the interpreter look for cycles among the calls' objects alone, not among the modules and the policy."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(CYCLES_AFTER)


def gateway(settings: Settings) -> Gateway:
    """Make the app; its parts come to life when a server starts it."""
    return Gateway(lambda: running(settings))


def listen(host: str, port: int) -> socket.socket:
    """Bind an address; port 0 takes a free one. Raises CannotListen where it is taken, or none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise CannotListen(address=f"{host}:{port}", why=error.strerror or str(error)) from error
    listener.setblocking(False)  # noqa: FBT003 — the library's own signature
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
