"""The audit of a session: a thread with an event loop of its own, on which the gateway's auditor and monitor run.

A call is drawn in its caller's thread before it is sent, its reply is kept as it passes, and everything else happens
here, once the caller has all of it. The audit's own calls go to the address that the caller's client called, with the
credential that it sent, by connections of their own: the client may be closed by then.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tierwise.client.ledger import LoopSide, SessionLedger
from tierwise.core.changes import Change
from tierwise.core.ledger import Entry
from tierwise.core.policy import Upstream as UpstreamConfig
from tierwise.engine.auditor import Auditor
from tierwise.engine.balances import Balances
from tierwise.engine.batches import BatchDesk
from tierwise.engine.budgets import Warnings
from tierwise.engine.candidates import Candidate
from tierwise.engine.checking import Checker
from tierwise.engine.clock import now_us
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.engine.headers import has_credential
from tierwise.engine.monitoring import Monitor, Watched
from tierwise.errors import UpstreamUnreachable
from tierwise.stores.ledger.opening import read_ledger
from tierwise.upstream.client import Client, open_upstream
from tierwise.upstream.port import Headers, Outgoing, Reply

Again = Callable[[tuple[Change, ...]], Outgoing]
"""Makes the request of another call out of the changes to its body; its target is a whole address."""


class Ear:
    """Keeps the reply of a call that was drawn, as it passes, and offers it once it is whole."""

    def __init__(
        self, audit: "SessionAudit", *, candidate: Candidate | None, watched: Watched | None
    ) -> None:
        """Keep it for a comparison, for a check, or for both."""
        self._audit = audit
        self._candidate = candidate
        self._watched = watched
        self._kept = [each.kept for each in (candidate, watched) if each is not None]

    def begin(self, status: int, headers: Headers) -> None:
        """Hear the status and the headers."""
        for kept in self._kept:
            kept.begin(status, headers)

    def take(self, chunk: bytes) -> None:
        """Hear bytes that are not the last."""
        for kept in self._kept:
            kept.take(chunk)

    def finish(self, chunk: bytes) -> None:
        """Hear the last bytes."""
        for kept in self._kept:
            kept.take(chunk, last=True)
        self._audit.offer(self._candidate, self._watched)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What lives on the audit's event loop."""

    loop: asyncio.AbstractEventLoop
    auditor: Auditor
    monitor: Monitor
    ended: asyncio.Event


class SessionAudit:
    """Compares calls of one session, and checks replies, in the background."""

    def __init__(
        self,
        *,
        desk: Desk,
        ledger: SessionLedger,
        balances: Balances,
        where: Path | str,
        new_id: Callable[[], str],
    ) -> None:
        """Begin the thread.

        Args:
            desk: the session's.
            ledger: the session's.
            balances: the session's.
            where: the ledger's place, for reading it.
            new_id: makes ids of calls.
        """
        self._desk = desk
        self._ledger = ledger
        self._balances = balances
        self._where = where
        self._new_id = new_id
        self._up = threading.Event()
        self._parts: _Parts | None = None
        self._thread = threading.Thread(target=self._run, name="tierwise-audit", daemon=True)
        self._thread.start()
        self._up.wait()

    @property
    def is_ready(self) -> bool:
        """Whether calls are drawn: the ledger was read."""
        return self._parts is not None and self._parts.auditor.ready.is_set()

    def listen(
        self, reading: Reading, opened: Opened, *, key_id: str, again: Again, headers: Headers
    ) -> Ear | None:
        """Draw whether a call that is about to be made is compared or checked; None where it is neither.

        Args:
            reading: the call as it was read.
            opened: the call.
            key_id: names the credential that pays.
            again: makes the audit's request.
            headers: the call's, as far as they are known here; without a credential in them nothing is compared.
        """
        parts = self._parts
        if parts is None:
            return None
        candidate = None
        if has_credential(headers):
            candidate = parts.auditor.consider(reading, opened, key_id=key_id, outgoing=again)
        watched = parts.monitor.consider(opened)
        if candidate is None and watched is None:
            return None
        return Ear(self, candidate=candidate, watched=watched)

    def offer(self, candidate: Candidate | None, watched: Watched | None) -> None:
        """Take a call whose reply is whole, from any thread."""
        parts = self._parts
        if parts is None:
            return
        with suppress(RuntimeError):  # the loop has ended
            if candidate is not None:
                parts.loop.call_soon_threadsafe(parts.auditor.offer, candidate)
            if watched is not None:
                parts.loop.call_soon_threadsafe(parts.monitor.offer, watched)

    def idle(self) -> None:
        """Wait until every call that was taken is done with."""
        parts = self._parts
        assert parts is not None
        for each in (parts.auditor.idle, parts.monitor.idle):
            asyncio.run_coroutine_threadsafe(each(), parts.loop).result()

    def close(self) -> None:
        """Give up what is on its way, which is recorded as that, and wait for the thread's end."""
        parts, self._parts = self._parts, None
        if parts is not None:
            with suppress(RuntimeError):  # the loop has ended
                parts.loop.call_soon_threadsafe(parts.ended.set)
        self._thread.join()

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._main(loop))
        finally:
            self._parts = None
            self._up.set()
            loop.close()  # which does not wait for its executor: a program that ends has none any more

    async def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        addresses, checker = Addresses(self._desk.book.policy.upstream), Checker()
        parts = self._parts = self._made(loop, addresses, checker)
        tasks = [loop.create_task(each) for each in (parts.auditor.run(), parts.monitor.run())]
        self._up.set()
        await parts.ended.wait()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        checker.close()
        await addresses.close()

    def _made(self, loop: asyncio.AbstractEventLoop, addresses: "Addresses", checker: Checker) -> _Parts:
        ledger, budgets = LoopSide(self._ledger), self._balances.for_loop()
        read = partial(read_ledger, self._where)
        auditor = Auditor(
            desk=self._desk,
            upstream=addresses,
            ledger=ledger,
            budgets=budgets,
            clock=now_us,
            new_id=self._new_id,
            read=read,
            batches=BatchDesk(
                desk=self._desk, ledger=ledger, budgets=budgets, warnings=Warnings(), read=read, clock=now_us
            ),
            checker=checker,
            gathers=False,  # a batch may take a day, and a program ends before
        )

        def put(entry: Entry) -> None:
            ledger.put(entry)
            auditor.notice()

        monitor = Monitor(desk=self._desk, put=put, clock=now_us, new_id=self._new_id, checker=checker)
        return _Parts(loop=loop, auditor=auditor, monitor=monitor, ended=asyncio.Event())


class Addresses:
    """Sends requests whose targets are whole addresses, by a client for each host."""

    def __init__(self, config: UpstreamConfig) -> None:
        """Take proxy, certificates and times from `config`."""
        self._config: Final = config
        self._clients: dict[str, Client] = {}

    async def send(self, request: Outgoing) -> Reply:
        """Send a request; raise as `Upstream.send` does."""
        parts = urlsplit(request.target)
        base = f"{parts.scheme}://{parts.netloc}"
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return await self._client(base).send(replace(request, target=path, address=0))

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()

    def _client(self, base: str) -> Client:
        client = self._clients.get(base)
        if client is None:
            try:
                client = open_upstream(replace(self._config, base_url=base, fallback_urls=()))
            except (OSError, ValueError) as error:
                raise UpstreamUnreachable(why=str(error)) from error
            self._clients[base] = client
        return client
