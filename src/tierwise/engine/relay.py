"""The async driver: performs the effects of an exchange for callers that wait in coroutines.

The sync driver in `relay_sync` is its twin, without the waiting.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final, Protocol

from tierwise.core.attempts import TryAgain
from tierwise.core.budgets import Claim
from tierwise.core.cascades import check_of
from tierwise.core.changes import Change
from tierwise.core.effects import (
    Answer,
    AwaitMoney,
    BreakOff,
    CallerLeft,
    Claimed,
    Counted,
    CountPrompt,
    Effect,
    Event,
    KeepTier,
    NotRecorded,
    Record,
    Recorded,
    Relay,
    Release,
    ReplyEnded,
    Reserve,
    Send,
    Settle,
    Waited,
)
from tierwise.core.ledger import Entry, Fault, SetAside
from tierwise.core.planning import Plan
from tierwise.core.settlement import Ending
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.checking import Checker
from tierwise.engine.desk import Opened
from tierwise.engine.endings import (
    began,
    cut,
    ended,
    given_up,
    known,
    no_reply,
    not_again,
    not_sent,
    readable,
    streams,
    without_length,
)
from tierwise.engine.ledger import AsyncLedger
from tierwise.errors import UpstreamError
from tierwise.upstream.port import Headers, Outgoing, Reply, Upstream
from tierwise.values import maker
from tierwise.wire.openai_streams import StreamReader
from tierwise.wire.replies import ReplyFacts, read_count


class Caller(Protocol):
    """Whoever made the call, and is owed the reply."""

    @property
    def gone(self) -> bool:
        """Whether the caller closed its connection; the task that runs the driver is then cancelled."""
        ...

    def begin(self, status: int, headers: Headers) -> None:
        """Take the reply's status and headers; they go out with the first bytes."""
        ...

    async def send(self, chunk: bytes) -> None:
        """Take bytes of the body that are not its last."""
        ...

    async def finish(self, chunk: bytes) -> None:
        """Take the body's last bytes."""
        ...

    async def break_off(self) -> None:
        """Take the news that there will be no more bytes, though the body has not ended."""
        ...

    async def answer(self, answer: Answer) -> None:
        """Take an error of ours in place of a reply."""
        ...


COUNTING_S: Final = 5
"""Longest wait for a count of a prompt, in seconds."""


OK: Final = 200


class RelayDriver:
    """Drives one exchange to its end."""

    def __init__(
        self,
        opened: Opened,
        *,
        outgoing: Callable[[tuple[Change, ...]], Outgoing],
        counting: Callable[[tuple[Change, ...]], Outgoing],
        upstream: Upstream,
        ledger: AsyncLedger,
        budgets: AsyncBudgets,
        warnings: Warnings,
        caller: Caller,
        clock: Callable[[], int],
        checker: Checker | None = None,
    ) -> None:
        """Drive a call.

        Args:
            opened: the call and its machine.
            outgoing: makes the request that leaves out of the changes to its body.
            counting: makes the request that has its prompt counted.
            upstream: the provider.
            ledger: takes the entries.
            budgets: the accounts.
            warnings: told what accounts come near their limits.
            caller: who is owed the reply.
            clock: tells microseconds since 1970 UTC.
            checker: holds replies of cascades against their checks; None holds none.
        """
        self._exchange = opened.exchange
        self._keep_tier = opened.keep_tier
        self._dialect = opened.dialect
        self._outgoing = outgoing
        self._counting = counting
        self._warnings = warnings
        self._upstream = upstream
        self._ledger = ledger
        self._budgets = budgets
        self._caller = caller
        self._clock = clock
        self._checker = checker
        self._reply: Reply | None = None
        self._held = b""
        self._cancelled = False
        self.again: TryAgain | None = None
        """The attempt that is to be made, where the call ended without a reply for its caller."""

    @property
    def cut_reply(self) -> tuple[int, Headers, bytes]:
        """Status, headers and body of the whole reply that its cap cut, where `again` is for a longer one."""
        assert self._reply is not None
        return self._reply.status, self._reply.headers, self._held

    async def run(self) -> None:
        """Perform effects until the exchange is done.

        A cancellation closes the upstream call, and what is known of it is recorded. It is then passed on, unless
        it came because the caller has gone. Where an effect fails, the call ends in the ledger and in its budgets
        before the error is passed on.
        """
        try:
            await self._drive()
        except Exception:
            await self._perform_all(self._exchange.give_up(self._clock()))
            raise
        if self._cancelled and not self._caller.gone:
            raise asyncio.CancelledError

    async def _drive(self) -> None:
        effects = self._exchange.begin(self._clock())
        while effects:
            event = await self._perform_all(effects)
            effects = () if event is None else self._exchange.receive(event)

    async def _perform_all(self, effects: tuple[Effect, ...]) -> Event | None:
        """Perform effects in their order, and return the event that the last one led to."""
        event: Event | None = None
        for effect in effects:
            waiting = self._perform(effect)
            event = None if waiting is None else await waiting
        return event

    def _perform(self, effect: Effect) -> Coroutine[None, None, Event | None] | None:
        """Perform an effect, or return what does: None where nothing has to be waited for."""
        match effect:
            case Record(entry=entry, durable=True):
                return self._record(entry)
            case Record(entry=entry):
                return self._ledger.put(entry)
            case Reserve(claim=claim):
                return self._unless_left(self._reserve(claim))
            case Send(changes=changes):
                return self._send(changes)
            case Relay(aside=True):
                return self._read_aside()
            case Relay(last=last):
                return self._relay(last=last)
            case Settle(cost_nanos=cost_nanos):
                return self._budgets.settle(self._exchange.call_id, cost_nanos)
            case Release():
                return self._caller.finish(self._held)
            case CountPrompt(changes=changes):
                return self._unless_left(self._count(changes))
            case AwaitMoney(until_us=until_us):
                return self._unless_left(self._wait(until_us))
            case KeepTier(tier=tier):
                return self._keep_tier(tier)
            case BreakOff():
                return self._break_off()
            case Answer():
                return self._caller.answer(effect)
            case TryAgain():
                self.again = effect
                return None

    async def _unless_left(self, asking: Coroutine[None, None, Event]) -> Event:
        """Wait for what a call needs before it may leave; cancelled, it never left."""
        try:
            return await asking
        except asyncio.CancelledError:
            self._cancelled = True
            error, fault = self._who_left()
            return CallerLeft(ending=not_sent(at_us=self._clock(), error=error, fault=fault))

    async def _reserve(self, claim: Claim) -> Event:
        outcome = await self._budgets.reserve(claim)
        self._warnings.tell(outcome)
        return _make_claimed(outcome=outcome, at_us=self._clock())

    async def _count(self, changes: tuple[Change, ...]) -> Event:
        """Have the prompt counted; a provider that cannot, or not in time, has not counted it."""
        tokens = None
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(COUNTING_S):
                reply = await self._upstream.send(self._counting(changes))
                with closing(reply):
                    tokens = read_count(await reply.read(), status=reply.status)
        return Counted(tokens=tokens, at_us=self._clock())

    async def _wait(self, until_us: int) -> Event:
        await self._budgets.wait(max(0, until_us - self._clock()) / 1_000_000)
        return Waited()

    async def _record(self, entry: Entry) -> Event | None:
        """Wait until the entry is durable.

        Cancelled, it is still on its way: a call is not sent then, and no final chunk is released.
        """
        try:
            durable = await self._ledger.record(entry)
        except asyncio.CancelledError:
            self._cancelled = True
            if not isinstance(entry, SetAside):
                return None
            error, fault = self._who_left()
            return CallerLeft(ending=not_sent(at_us=self._clock(), error=error, fault=fault))
        return _make_recorded(at_us=self._clock()) if durable else NotRecorded(at_us=self._clock())

    async def _send(self, changes: tuple[Change, ...]) -> Event:
        try:
            self._reply = await self._upstream.send(self._outgoing(changes))
        except UpstreamError as error:
            return no_reply(error, at_us=self._clock())
        except asyncio.CancelledError:
            self._cancelled = True
            error, fault = self._who_left()
            return CallerLeft(ending=given_up(at_us=self._clock(), error=error, fault=fault))
        reply = self._reply
        return began(status=reply.status, headers=reply.headers, at_us=self._clock())

    async def _read_aside(self) -> Event:
        """Read an error to its end, so that its connection can be used again; its caller gets another reply."""
        reply = self._reply
        assert reply is not None
        facts = ReplyFacts(finished=False)
        try:
            facts = self._dialect.reply(await reply.read(), reply.status)
        except UpstreamError:
            reply.close()
        except asyncio.CancelledError:
            self._cancelled = True
            reply.close()
            return CallerLeft(ending=self._cut(reply, facts, *self._who_left()))
        return ReplyEnded(
            ending=ended(facts, status=reply.status, headers=reply.headers, at_us=self._clock())
        )

    async def _relay(self, *, last: bool) -> Event:
        reply = self._reply
        assert reply is not None
        headers = reply.headers
        shown = headers if self._exchange.plan.call.usage_told else without_length(headers)
        self._caller.begin(reply.status, not_again(shown) if last else shown)
        facts: StreamReader | ReplyFacts = ReplyFacts(finished=False)
        passed: bool | None = None
        try:
            if streams(headers):
                facts = self._dialect.stream(self._exchange.plan.call)
                await self._relay_stream(reply, facts)
            else:
                self._held = await reply.read()
                facts = self._dialect.reply(self._held if readable(headers) else b"", reply.status)
                passed = await self._passes(reply)
        except UpstreamError:
            reply.close()
            return ReplyEnded(ending=self._cut(reply, facts, "stream-broke", Fault.PROVIDER), broke=True)
        except asyncio.CancelledError:
            self._cancelled = True
            reply.close()
            return CallerLeft(ending=self._cut(reply, facts, *self._who_left()))
        ending = ended(known(facts), status=reply.status, headers=headers, at_us=self._clock())
        return _make_reply_ended(ending=ending if passed is None else replace(ending, passed=passed))

    async def _passes(self, reply: Reply) -> bool | None:
        """Whether a whole reply passes the check that its plan goes on by; None where it goes on by none."""
        plan = self._exchange.plan
        if self._checker is None or not isinstance(plan, Plan) or reply.status != OK:
            return None
        check = check_of(plan, self._exchange.attempt)
        return None if check is None else await self._checker.passes_whole(check, self._held)

    async def _relay_stream(self, reply: Reply, facts: StreamReader) -> None:
        """Let chunks past; the one with the stream's end, and what follows it, is held until it is recorded."""
        async for chunk in reply.chunks():
            passed = facts.feed(chunk)
            if facts.at_end:
                self._held += passed
            elif passed:
                await self._caller.send(passed)
        self._held += facts.rest()

    async def _break_off(self) -> None:
        """Let go what is held, for the provider sent it; then break off."""
        if self._held:
            await self._caller.send(self._held)
        await self._caller.break_off()

    def _cut(self, reply: Reply, facts: StreamReader | ReplyFacts, error: str, fault: Fault) -> Ending:
        return cut(
            known(facts),
            error=error,
            fault=fault,
            status=reply.status,
            headers=reply.headers,
            at_us=self._clock(),
        )

    def _who_left(self) -> tuple[str, Fault]:
        return ("caller-left", Fault.CALLER) if self._caller.gone else ("gateway-stopped", Fault.GATEWAY)


_make_recorded: Final = maker(Recorded)
_make_claimed: Final = maker(Claimed)
_make_reply_ended: Final = maker(ReplyEnded)
