"""An ASGI caller in memory: as strict as the server about what an app may send, and able to leave."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from support.policies import book
from support.transcripts import MemoryUpstream, Script, Transcript
from tierwise.config import Book
from tierwise.engine.auditor import Auditor
from tierwise.engine.batches import BatchDesk
from tierwise.engine.budgets import BudgetStore, LocalBudgets, Warnings
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.desk import Desk
from tierwise.engine.ledger import LoopLedger
from tierwise.gateway.app import Gateway
from tierwise.gateway.door import Door
from tierwise.gateway.intake import Intake
from tierwise.gateway.messages import Parts
from tierwise.gateway.meters import Meters
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.sqlite import SqliteReader, open_ledger, read_ledger
from tierwise.stores.ledger.writer import EntryStore
from tierwise.upstream.port import Upstream

Pairs = Sequence[tuple[bytes, bytes]]

KEYED: Pairs = (
    (b"host", b"127.0.0.1:4000"),
    (b"x-api-key", b"sk-caller"),
    (b"anthropic-version", b"2026-10-21"),
    (b"content-type", b"application/json"),
)
"""The headers of an ordinary caller."""

WITHIN_S = 10.0
"""Longer than any test's call takes: an app that hangs fails its test, and does not stop the suite."""


@dataclass(slots=True, kw_only=True)
class Got:
    """What the app answered."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    parts: list[bytes] = field(default_factory=list[bytes])
    ended: bool = False
    """Whether the body came to its end."""
    pulled: int = 0
    """How many parts of the request's body the app asked for."""

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: bytes) -> bytes | None:
        """The only value of a header; None where it is not there."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


class Caller:
    """One request to an app, whose answer gathers in `got`."""

    def __init__(
        self,
        app: Gateway,
        method: str,
        path: str,
        *,
        headers: Pairs = KEYED,
        body: bytes | Iterable[bytes] = b"",
        query: bytes = b"",
        raw_path: bytes | None = None,
        on_part: Callable[[Got], None] | None = None,
        stays: bool = True,
    ) -> None:
        """Prepare it.

        Args:
            app: what is called.
            method: of the request.
            path: decoded.
            headers: of the request.
            body: in one part, or an iterable of parts.
            query: without its question mark.
            raw_path: as it was escaped; None is the path itself.
            on_part: called when the answer begins and at each of its parts.
            stays: False leaves in the middle of the request's body.
        """
        self.got = Got()
        self._app = app
        self._body = iter([body]) if isinstance(body, bytes) else chain(body, [b""] if stays else [])
        self._whole = isinstance(body, bytes)
        self._stays = stays
        self._on_part = on_part
        self._left = asyncio.Event()
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode() if raw_path is None else raw_path,
            "query_string": query,
            "headers": list(headers),
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 4000),
        }

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    async def run(self) -> Got:
        """Call the app and return what it answered; raise what it raises."""
        answering = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        try:
            done, _ = await asyncio.wait({answering}, timeout=WITHIN_S)
        except asyncio.CancelledError:
            answering.cancel()
            await asyncio.wait({answering})
            raise
        if not done:
            answering.cancel()
        assert done, "the app hangs"
        await answering
        return self.got

    async def _receive(self) -> dict[str, Any]:
        if not self._left.is_set():
            part = next(self._body, None)
            if part is not None:
                self.got.pulled += 1
                return {"type": "http.request", "body": part, "more_body": not self._whole and part != b""}
            if self._stays:
                await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await asyncio.sleep(0)
        if self._left.is_set():
            return
        got = self.got
        assert not got.ended, "the app sends after the end"
        if message["type"] == "http.response.start":
            assert got.status == 0, "the app begins twice"
            got.status = message["status"]
            got.headers = list(message["headers"])
            _check_headers(got.headers)
        else:
            assert message["type"] == "http.response.body"
            assert got.status, "the app sends a body before it begins"
            got.parts.append(message.get("body", b""))
            got.ended = not message.get("more_body", False)
        if got.ended:
            _check_length(got, head=self._scope["method"] == "HEAD")
        if self._on_part is not None:
            self._on_part(got)


_NOT_A_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NOT_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def _check_headers(headers: Pairs) -> None:
    for name, value in headers:
        assert not _NOT_A_NAME.search(name), name
        assert not _NOT_A_VALUE.search(value), (name, value)


def _check_length(got: Got, *, head: bool) -> None:
    told = got.header(b"content-length")
    assert head or told is None or int(told) == len(got.body)


async def call(app: Gateway, method: str, path: str, **options: Any) -> Got:
    """Make one request and return its answer."""
    return await Caller(app, method, path, **options).run()


async def post(app: Gateway, body: Any, **options: Any) -> Got:
    """Post a body, JSON unless it is bytes, to the Messages API."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await call(app, "POST", "/v1/messages", body=raw, **options)


async def until(status: int, ask: Callable[[], Awaitable[Got]]) -> Got:
    """Ask again and again until the answer has a status."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            got = await ask()
            if got.status == status:
                return got
            await asyncio.sleep(0.001)


@asynccontextmanager
async def started(app: Gateway) -> AsyncGenerator[Gateway]:
    """Bring an app's parts to life, as a server does when it starts, and end them."""
    events = asyncio.Queue[dict[str, str]]()
    told = asyncio.Queue[Any]()
    living = asyncio.create_task(app({"type": "lifespan"}, events.get, told.put))
    events.put_nowait({"type": "lifespan.startup"})
    answered = await asyncio.wait_for(told.get(), WITHIN_S)
    assert answered["type"] == "lifespan.startup.complete", answered
    try:
        yield app
    finally:
        events.put_nowait({"type": "lifespan.shutdown"})
        answered = await asyncio.wait_for(told.get(), WITHIN_S)
        await living
    assert answered["type"] == "lifespan.shutdown.complete", answered


@asynccontextmanager
async def gateway_in_memory(
    ledger_path: Path,
    provider: Script | Transcript | Upstream,
    *,
    policy: Book | None = None,
    key: str | None = None,
    store: Callable[[Path], EntryStore] = open_ledger,
    budgets: BudgetStore | None = None,
    door: Door | None = None,
    intake: Intake | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    auditors: list[Auditor] | None = None,
    gather_s: float = 0.01,
) -> AsyncGenerator[Gateway]:
    """The real app, over a provider in memory and a real ledger in a file; one that audits adds its auditor."""
    upstream = (
        MemoryUpstream(provider) if isinstance(provider, Transcript) or callable(provider) else provider
    )

    @asynccontextmanager
    async def parts() -> AsyncGenerator[Parts]:
        ledger = LoopLedger(store(ledger_path), asyncio.get_running_loop())
        new_id = call_ids()
        desk = Desk(policy or book(), conversations=Conversations(), clock=now_us, new_id=new_id)
        held, warnings = LocalBudgets(budgets or MemoryBudgets()), Warnings()

        def read() -> SqliteReader:
            return read_ledger(ledger_path)

        made = Parts(
            desk=desk,
            ledger=ledger,
            budgets=held,
            warnings=warnings,
            batches=BatchDesk(
                desk=desk, ledger=ledger, budgets=held, warnings=warnings, read=read, clock=now_us
            ),
            read=read,
            upstream=upstream,
            meters=Meters(),
            clock=now_us,
            key=key,
            door=door or Door(),
            intake=intake or Intake(),
            sleep=sleep,
            health=lambda: {
                "status": "ok" if ledger.trouble is None else "failing",
                **made.meters.snapshot(),
            },
        )
        auditing: asyncio.Task[None] | None = None
        if auditors is not None:
            made.auditor = Auditor(
                desk=desk,
                upstream=upstream,
                ledger=ledger,
                budgets=made.budgets,
                clock=now_us,
                new_id=new_id,
                read=lambda: read_ledger(ledger_path),
                checker=made.checker,
                batches=made.batches,
                retry_s=0,
                gather_s=gather_s,
                ask_s=0.01,
            )
            auditing = asyncio.create_task(made.auditor.run())
            await made.auditor.ready.wait()
            auditors.append(made.auditor)
        try:
            yield made
        finally:
            if auditing is not None:
                auditing.cancel()
                await asyncio.wait({auditing})
            made.checker.close()
            await asyncio.to_thread(ledger.close)

    async with started(Gateway(parts)) as app:
        yield app
