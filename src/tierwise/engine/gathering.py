"""The audit's calls that go as Message Batches: gathered for a while, at half price, back when the provider is through.

A gathered call has its worst case set aside; its entries are written when its batch leaves. What is held of it in
memory, its caller's reply and credential among it, is let go with the batch's results, or when they are too late to
come. A gateway that stops forgets the batches on their way: their calls have no ending, and their reservations stay
until they are posted as assumed, as those of any batch whose results nobody fetches.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Final

from tierwise.core.ledger import Failed, Posted
from tierwise.core.pricing import PriceBook
from tierwise.engine.batch_results import BatchResults
from tierwise.engine.batches import BatchDesk, GrantedItem, OpenedBatch
from tierwise.engine.doors import BATCHES
from tierwise.errors import UpstreamError
from tierwise.money import Nanos
from tierwise.upstream.port import Headers, Outgoing, Reply, Upstream
from tierwise.usage import Metered
from tierwise.wire.answers import Content, read_content
from tierwise.wire.batches import Lines, created_id, has_ended, message_of, read_result
from tierwise.wire.replies import read_reply

log = logging.getLogger("tierwise.audit")

GATHER_S: Final = 3600.0
"""How long calls are gathered before their batch leaves, in seconds."""
ASK_S: Final = 60.0
"""How often the provider is asked whether it is through."""
MOST: Final = 1000
"""Calls of one batch; with the last of them it leaves."""
ROOM: Final = 64 * 2**20
"""Bytes that gathered calls, sent ones included, may hold; one more is left out."""
TOO_LATE_US: Final = 36 * 3600 * 1_000_000
"""Age of a batch whose results are not waited for: the provider gives one up after 24 hours."""

_KEPT_HEADERS: Final = frozenset((b"x-api-key", b"authorization", b"anthropic-version", b"anthropic-beta"))
"""What a batch keeps of its calls' headers; only calls with the same ones go together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """One call that waits for its batch."""

    granted: GrantedItem
    outgoing: Outgoing
    """As it would go alone."""
    key_id: str
    size: int
    """Bytes that it holds."""
    ended: Callable[[Posted | Failed, Content | None], Awaitable[None]]
    """Takes how it ended, at what it would have cost alone, and what its reply says."""

    @property
    def headers(self) -> Headers:
        """Those of its batch."""
        return tuple(sorted(header for header in self.outgoing.headers if header[0] in _KEPT_HEADERS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnderWay:
    """A batch that the provider works on."""

    batch_id: str
    headers: Headers
    address: int
    sent_us: int
    calls: dict[str, Gathered]
    """By call id, those whose ending is awaited."""


class Gathering:
    """Gathers calls, sends their batches, and fetches the results, while `run` runs."""

    def __init__(
        self,
        *,
        desk: BatchDesk,
        results: Callable[..., BatchResults],
        upstream: Upstream,
        prices: Callable[[], PriceBook],
        clock: Callable[[], int],
        gather_s: float = GATHER_S,
        ask_s: float = ASK_S,
    ) -> None:
        """Gather calls.

        Args:
            desk: sees batches out.
            results: begins to read the results of a batch, by the provider's id of it.
            upstream: the provider.
            prices: what tokens cost.
            clock: tells microseconds since 1970 UTC.
            gather_s: how long calls are gathered, in seconds.
            ask_s: how often the provider is asked whether it is through, in seconds.
        """
        self._desk = desk
        self._results = results
        self._upstream = upstream
        self._prices = prices
        self._clock = clock
        self._gather_s = gather_s
        self._ask_s = ask_s
        self._waiting: list[Gathered] = []
        self._under_way: list[_UnderWay] = []
        self._held = 0
        self._full = asyncio.Event()
        self._moved = asyncio.Event()
        """Set when calls have ended."""

    def has_room(self, size: int) -> bool:
        """Whether a call that holds so many bytes can be taken."""
        return self._held + size <= ROOM and len(self._waiting) < MOST

    def owed_nanos(self, before_us: int) -> Nanos:
        """Return what calls from before an instant may still cost."""
        waiting = (each for batch in self._under_way for each in batch.calls.values())
        return sum(
            each.granted.reserved_nanos
            for each in (*self._waiting, *waiting)
            if each.granted.item.at_us < before_us
        )

    def add(self, gathered: Gathered) -> None:
        """Take a call that is reserved for."""
        self._waiting.append(gathered)
        self._held += gathered.size
        if len(self._waiting) >= MOST:
            self._full.set()

    async def idle(self) -> None:
        """Wait until every call that was taken is done with."""
        while self._held:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Send and fetch until it is cancelled; what is gathered then returns what it set aside."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_sending())
                group.create_task(self._keep_asking())
        finally:
            self._desk.give_back([each.granted for each in self._waiting])

    async def _keep_sending(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._gather_s):
                    await self._full.wait()
            except TimeoutError:
                pass
            self._full.clear()
            for calls in self._by_headers():
                try:
                    await self._send(calls)
                except Exception:
                    log.exception("a batch of the audit failed, and the audit goes on")

    def _by_headers(self) -> Iterable[list[Gathered]]:
        """Take what waits, in groups that can go together."""
        groups: dict[tuple[Headers, str], list[Gathered]] = {}
        for each in self._waiting:
            groups.setdefault((each.headers, each.key_id), []).append(each)
        self._waiting = []
        return groups.values()

    async def _send(self, calls: Sequence[Gathered]) -> None:
        under_way = None
        try:
            batch = await self._together(calls)
            if await self._desk.book(batch):
                under_way = await self._sent(batch, calls)
        finally:
            if under_way is None:
                self._let_go(calls)
        if under_way is not None:
            self._under_way.append(under_way)

    async def _together(self, calls: Sequence[Gathered]) -> OpenedBatch:
        items = [each.granted for each in calls]
        try:
            return await self._desk.together(items, key_id=calls[0].key_id)
        except BaseException:
            self._desk.give_back(items)
            raise

    async def _sent(self, batch: OpenedBatch, calls: Sequence[Gathered]) -> _UnderWay | None:
        """Send a booked batch; None where the provider does not take it, whose calls have ended then."""
        headers, address = calls[0].headers, calls[0].outgoing.address
        posted = (*headers, (b"content-type", b"application/json"))
        try:
            with closing(await self._ask("POST", BATCHES, posted, address, batch.body)) as reply:
                body = await reply.read()
        except UpstreamError as error:
            log.warning("a batch of the audit got no reply: %s", error)
            await self._desk.unanswered(batch, error)
            return None
        if reply.status >= 400:
            error_type = read_reply(body, status=reply.status).error or "api_error"
            log.warning("the provider does not take the audit's batch: %s", error_type)
            await self._desk.turned_down(batch, error_type)
            return None
        await self._desk.taken(batch, body)
        batch_id = created_id(body)
        if batch_id is None:
            return None
        return _UnderWay(
            batch_id=batch_id,
            headers=headers,
            address=address,
            sent_us=self._clock(),
            calls={each.granted.item.call_id: each for each in calls},
        )

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self._ask_s)
            for batch in tuple(self._under_way):
                try:
                    done = await self._fetched(batch)
                except UpstreamError as error:
                    log.warning("a batch of the audit cannot be asked for now: %s", error)
                    done = False
                except Exception:
                    log.exception("the results of a batch cannot be read, and the audit goes on without them")
                    done = True
                if done or self._clock() - batch.sent_us > TOO_LATE_US:
                    self._under_way.remove(batch)
                    self._let_go(batch.calls.values())

    async def _fetched(self, batch: _UnderWay) -> bool:
        """Fetch the results of a batch, if the provider is through with it."""
        path = f"{BATCHES}/{batch.batch_id}"
        with closing(await self._ask("GET", path, batch.headers, batch.address)) as reply:
            if reply.status != OK or not has_ended(await reply.read()):
                return False
        with closing(await self._ask("GET", f"{path}/results", batch.headers, batch.address)) as reply:
            return reply.status == OK and await self._read(batch, reply)

    async def _read(self, batch: _UnderWay, reply: Reply) -> bool:
        """Enter the results, then tell of each call what became of it; False where they broke off."""
        endings: list[Posted | Failed] = []
        told: dict[str, tuple[Content | None, Metered | None]] = {}
        results, lines = self._results(batch.batch_id, told=endings.append), Lines()
        whole = False
        try:
            with suppress(UpstreamError):
                async for chunk in reply.chunks():
                    told |= dict(map(_told, lines.feed(chunk)))
                    await results.take(chunk)
                told |= dict(map(_told, lines.end()))
                whole = True
            await results.end(whole=whole)
        finally:
            results.close()
        for ending in endings:
            call = batch.calls.pop(ending.call_id, None)
            if call is not None:
                self._held -= call.size
                content, metered = told.get(ending.call_id, (None, None))
                await call.ended(self._alone(ending, metered, call), content)
        return whole

    def _let_go(self, calls: Iterable[Gathered]) -> None:
        self._held -= sum(each.size for each in calls)
        self._moved.set()

    def _alone(self, ending: Posted | Failed, metered: Metered | None, call: Gathered) -> Posted | Failed:
        """The ending with what the call would have cost alone: that is what the tiers are compared by."""
        if ending.cost_nanos is None or metered is None:
            return ending
        lines = tuple(replace(line, batch=False) for line in metered.lines)
        cost = self._prices().cost(replace(metered, lines=lines), call.granted.item.at_us)
        return replace(ending, cost_nanos=cost)

    async def _ask(
        self, method: str, target: str, headers: Headers, address: int, body: bytes = b""
    ) -> Reply:
        request = Outgoing(method=method, target=target, headers=headers, body=body, address=address)
        return await self._upstream.send(request)


OK: Final = 200


def _told(line: bytes) -> tuple[str, tuple[Content | None, Metered | None]]:
    """What a line of results says, by its call's id."""
    result, message = read_result(line), message_of(line)
    if result is None or message is None:
        return "", (None, None)
    return result.custom_id, (read_content(message[1], stream=False), result.facts.metered)
