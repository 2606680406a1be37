"""The sync driver: performs the effects of an exchange for callers that wait in threads.

The async driver in `relay` is its twin. A thread is not cancelled: a caller that goes away says so by raising
`CallerGone` when it is handed bytes. One that takes the bytes at its own pace drives `paced` instead of `run`, and says
so by throwing it in.
"""

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Protocol

from tierwise.core.attempts import TryAgain
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
from tierwise.core.ledger import Fault
from tierwise.core.settlement import Ending
from tierwise.engine.budgets import LOOKS_AGAIN_S, BudgetStore, Warnings
from tierwise.engine.desk import Opened
from tierwise.engine.endings import began, cut, ended, known, no_reply, not_again, readable, streams
from tierwise.engine.ledger import SyncLedger
from tierwise.errors import CallerGone, UpstreamError
from tierwise.upstream.port import Headers, Outgoing, SyncReply, SyncUpstream
from tierwise.wire.replies import ReplyFacts, read_count, read_reply
from tierwise.wire.sse import StreamFacts


class SyncCaller(Protocol):
    """Whoever made the call, and is owed the reply. Each method raises CallerGone where it is gone."""

    def begin(self, status: int, headers: Headers) -> None:
        """Take the reply's status and headers; they go out with the first bytes."""
        ...

    def send(self, chunk: bytes) -> None:
        """Take bytes of the body that are not its last."""
        ...

    def finish(self, chunk: bytes) -> None:
        """Take the body's last bytes."""
        ...

    def break_off(self) -> None:
        """Take the news that there will be no more bytes, though the body has not ended."""
        ...

    def answer(self, answer: Answer) -> None:
        """Take an error of ours in place of a reply."""
        ...


class SyncRelayDriver:
    """Drives one exchange to its end, in the calling thread."""

    def __init__(
        self,
        opened: Opened,
        *,
        outgoing: Callable[[tuple[Change, ...]], Outgoing],
        counting: Callable[[tuple[Change, ...]], Outgoing],
        upstream: SyncUpstream,
        ledger: SyncLedger,
        budgets: BudgetStore,
        warnings: Warnings,
        caller: SyncCaller,
        clock: Callable[[], int],
        sleep: Callable[[float], None],
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
            sleep: waits for some seconds.
        """
        self._exchange = opened.exchange
        self._keep_tier = opened.keep_tier
        self._outgoing = outgoing
        self._counting = counting
        self._warnings = warnings
        self._sleep = sleep
        self._upstream = upstream
        self._ledger = ledger
        self._budgets = budgets
        self._caller = caller
        self._clock = clock
        self._reply: SyncReply | None = None
        self._held = b""
        self.again: TryAgain | None = None
        """The attempt that is to be made, where the call ended without a reply for its caller."""

    def run(self) -> None:
        """Perform effects until the exchange is done, or nobody is left to take the last of them.

        Where an effect fails, the call ends in the ledger and in its budgets before the error is passed on.
        """
        for _ in self.paced():
            pass

    def paced(self) -> Generator[None]:
        """Perform effects as `run` does, with a pause whenever the caller was handed a part of a stream.

        CallerGone, thrown in at a pause, says that the caller has gone.
        """
        try:
            yield from self._drive()
        except BaseException:
            for effect in self._exchange.give_up(self._clock()):
                self._perform(effect)
            raise

    def _drive(self) -> Generator[None]:
        effects = self._exchange.begin(self._clock())
        with suppress(CallerGone):  # after the ending was recorded: a caller that leaves earlier is an event
            while effects:
                event = None
                for effect in effects:
                    event = (
                        (yield from self._relay(effect))
                        if isinstance(effect, Relay)
                        else self._perform(effect)
                    )
                effects = () if event is None else self._exchange.receive(event)

    def _perform(self, effect: Effect) -> Event | None:
        match effect:
            case Reserve(claim=claim):
                outcome = self._budgets.reserve(claim)
                self._warnings.tell(outcome)
                return Claimed(outcome=outcome, at_us=self._clock())
            case CountPrompt(changes=changes):
                return self._count(changes)
            case AwaitMoney(until_us=until_us):
                self._sleep(min(LOOKS_AGAIN_S, max(0, until_us - self._clock()) / 1_000_000))
                return Waited()
            case KeepTier(tier=tier):
                self._keep_tier(tier)
            case Settle(cost_nanos=cost_nanos):
                self._budgets.settle(self._exchange.call_id, cost_nanos)
            case Record(entry=entry, durable=False):
                self._ledger.put(entry)
            case Record(entry=entry):
                durable = self._ledger.record(entry)
                return Recorded(at_us=self._clock()) if durable else NotRecorded(at_us=self._clock())
            case Send(changes=changes):
                return self._send(changes)
            case Relay():
                raise AssertionError(effect)  # has pauses, so that `_drive` performs it
            case Release():
                self._caller.finish(self._held)
            case BreakOff():
                self._break_off()
            case Answer():
                self._caller.answer(effect)
            case TryAgain():
                self.again = effect
        return None

    def _count(self, changes: tuple[Change, ...]) -> Event:
        """Have the prompt counted; a provider that cannot has not counted it."""
        tokens = None
        with suppress(UpstreamError):
            reply = self._upstream.send(self._counting(changes))
            with closing(reply):
                tokens = read_count(reply.read(), status=reply.status)
        return Counted(tokens=tokens, at_us=self._clock())

    def _send(self, changes: tuple[Change, ...]) -> Event:
        try:
            self._reply = self._upstream.send(self._outgoing(changes))
        except UpstreamError as error:
            return no_reply(error, at_us=self._clock())
        reply = self._reply
        return began(status=reply.status, headers=reply.headers, at_us=self._clock())

    def _read_aside(self, reply: SyncReply) -> Event:
        """Read an error to its end, so that its connection can be used again; its caller gets another reply."""
        facts = ReplyFacts(finished=False)
        try:
            facts = read_reply(reply.read(), status=reply.status)
        except UpstreamError:
            reply.close()
        return ReplyEnded(
            ending=ended(facts, status=reply.status, headers=reply.headers, at_us=self._clock())
        )

    def _relay(self, how: Relay) -> Generator[None, None, Event]:
        reply = self._reply
        assert reply is not None
        if how.aside:
            return self._read_aside(reply)
        headers = reply.headers
        facts: StreamFacts | ReplyFacts = ReplyFacts(finished=False)
        try:
            self._caller.begin(reply.status, not_again(headers) if how.last else headers)
            if streams(headers):
                facts = StreamFacts()
                yield from self._relay_stream(reply, facts)
            else:
                self._held = reply.read()
                facts = read_reply(self._held if readable(headers) else b"", status=reply.status)
        except UpstreamError:
            reply.close()
            return ReplyEnded(ending=self._cut(reply, facts, "stream-broke", Fault.PROVIDER), broke=True)
        except CallerGone:
            reply.close()
            return CallerLeft(ending=self._cut(reply, facts, "caller-left", Fault.CALLER))
        return ReplyEnded(
            ending=ended(known(facts), status=reply.status, headers=headers, at_us=self._clock())
        )

    def _relay_stream(self, reply: SyncReply, facts: StreamFacts) -> Generator[None]:
        """Let chunks past; the one with the stream's end, and what follows it, is held until it is recorded."""
        for chunk in reply.chunks():
            facts.feed(chunk)
            if facts.at_end:
                self._held += chunk
            else:
                self._caller.send(chunk)
                yield

    def _break_off(self) -> None:
        """Let go what is held, for the provider sent it; then break off."""
        if self._held:
            self._caller.send(self._held)
        self._caller.break_off()

    def _cut(self, reply: SyncReply, facts: StreamFacts | ReplyFacts, error: str, fault: Fault) -> Ending:
        return cut(
            known(facts),
            error=error,
            fault=fault,
            status=reply.status,
            headers=reply.headers,
            at_us=self._clock(),
        )
