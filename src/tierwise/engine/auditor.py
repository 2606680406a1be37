"""The auditor: some calls that ended well are made again on another tier, in the background, and compared.

Whether a call is one of them is settled before its reply begins, by a hash. The caller's reply is not touched and
waits for nothing: when the queue is full, or the allowance used up, a pair is left out. Texts and credentials are held
in memory alone, until the pair is made. As long as no task type is shadowed, nothing is read and nothing is kept.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from tierwise.audit.acting import Lean
from tierwise.audit.dayplan import DayPlan
from tierwise.audit.grading import Answer, Grade, Passed, checkable, grade
from tierwise.audit.sampling import Purpose, Sampled, sample, uniform
from tierwise.core.changes import Change
from tierwise.core.ledger import Act, Acted, Declared, Failed, Fault, Paired, Posted
from tierwise.core.planning import Plan, Refused
from tierwise.core.policy import Contract, Policy
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.checking import Checker
from tierwise.engine.dayplan import day_plan
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.engine.ledger import AsyncLedger
from tierwise.engine.listening import Kept, ListeningCaller, SilentCaller
from tierwise.engine.looking import look
from tierwise.engine.purse import purses
from tierwise.engine.relay import Caller, RelayDriver
from tierwise.engine.shadowing import (
    Comparison,
    Shadow,
    cluster_of,
    comparable,
    comparison_of,
    shadow_call,
)
from tierwise.errors import LedgerError
from tierwise.money import Nanos
from tierwise.stores.ledger.pairs import DAY_US, evidence
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reservations import ledger_id
from tierwise.upstream.port import Outgoing, Upstream

log = logging.getLogger("tierwise.audit")

QUEUE: Final = 64
"""Calls that wait to be compared; one more is left out."""
ROOM: Final = 64 * 2**20
"""Bytes of requests and replies that calls in the queue, and those being compared, may hold."""
AT_ONCE: Final = 4
"""Calls that the audit makes at the same time."""
PURSE_AGE_US: Final = 60_000_000
"""How old the allowance may be; a pair that it could not pay has it worked out again after `RETRY_S`."""
RETRY_S: Final = 2.0
RESTS_TIMES: Final = 30
"""How many times as long a direction rests when its account refused a call: each refusal leaves an entry."""
LOOK_S: Final = 60.0
"""How often claims are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A call that is to be compared if it ends well."""

    reading: Reading
    opened: Opened
    comparison: Comparison
    probability: float
    cluster: str
    key_id: str
    outgoing: Callable[[tuple[Change, ...]], Outgoing]
    """Makes the request to the provider out of the changes to its body; holds the caller's credential."""
    kept: Kept = field(default_factory=Kept)

    def listen(self, caller: Caller) -> Caller:
        """A caller that keeps the reply too."""
        return ListeningCaller(caller, self.kept)

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.reading.raw) + self.kept.size


class Auditor:
    """Makes pairs. It is on one event loop, but for its reading of the ledger and of replies, and for `consider`."""

    def __init__(
        self,
        *,
        desk: Desk,
        upstream: Upstream,
        ledger: AsyncLedger,
        budgets: AsyncBudgets,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        read: Callable[[], Reader],
        checker: Checker,
        retry_s: float = RETRY_S,
    ) -> None:
        """Make pairs of the calls that are offered, while `run` runs.

        Args:
            desk: knows the policy and texts' tokens.
            upstream: the provider.
            ledger: takes the entries.
            budgets: the accounts.
            clock: tells microseconds since 1970 UTC.
            new_id: makes call ids.
            read: opens the ledger for reading.
            checker: holds answers against checks.
            retry_s: how long the audit makes no calls in a direction whose allowance is used up, in seconds.
        """
        self._retry_us = int(retry_s * 1_000_000)
        self._desk = desk
        self._upstream = upstream
        self._ledger = ledger
        self._budgets = budgets
        self._clock = clock
        self._new_id = new_id
        self._read = read
        self._checker = checker
        self._salt: str | None = None
        """The ledger's id, once it is known: nothing is drawn before."""
        self._paired: set[tuple[str, str, int]] = set()
        """Line, cluster and day of each pair of today and yesterday."""
        self._day = 0
        """The latest one of these."""
        self._purses: tuple[Nanos, Nanos] = (0, 0)
        self._purses_at_us: int | None = None
        self._rests_until_us: dict[bool, int] = {}
        """Until when a direction, that of calls on a dearer tier or the other, makes none: it had too little left."""
        self._queue: asyncio.Queue[Candidate] = asyncio.Queue(QUEUE)
        self._held = 0
        """Bytes that candidates in the queue, and those being compared, hold."""
        self._unseen = True
        """Whether claims have not been looked for since the latest pair, or ever."""
        self._plan = DayPlan()
        """The rates of the day; those of the day before until they are worked out."""
        self._seen_policy: Policy | None = None
        """Under which policy they were looked for."""
        self.ready = asyncio.Event()
        """Set once calls are drawn, or there are none to draw."""

    def consider(
        self,
        reading: Reading,
        opened: Opened,
        *,
        key_id: str,
        outgoing: Callable[[tuple[Change, ...]], Outgoing],
    ) -> Candidate | None:
        """Draw whether a call that is about to be made is to be compared, in any thread; None where it is not."""
        planned, salt = opened.plan, self._salt
        if salt is None or not isinstance(planned, Plan) or self._queue.full():
            return None
        contract = comparable(planned, reading.body)
        if contract is None:
            return None
        cluster = cluster_of(reading) or opened.call_id
        acting = self._desk.acting
        comparison = comparison_of(planned, contract, cluster=cluster, salt=salt, alarmed=acting.alarmed)
        planned_rate = self._plan.rate(comparison.key.id, planned.policy.audit.sample / 100)
        rate = _rate(planned, acting.lean(contract.name, planned.policy), planned_rate)
        if rate is None:
            return None
        line, day = comparison.key.id, reading.at_us // DAY_US
        drawn = sample(
            draw=uniform(Purpose.PAIR, line, cluster, day, salt=salt),
            rate=rate,
            cluster_has_pair=(line, cluster, day) in self._paired,
        )
        if not isinstance(drawn, Sampled):
            return None
        return Candidate(
            reading=reading,
            opened=opened,
            comparison=comparison,
            probability=drawn.probability * planned.decision.selection_probability,
            cluster=cluster,
            key_id=key_id,
            outgoing=outgoing,
        )

    def offer(self, candidate: Candidate) -> None:
        """Take a call that was considered and has ended; it never waits."""
        ending, planned = candidate.opened.exchange.ending, candidate.opened.plan
        if not isinstance(ending, Posted) or not candidate.kept.whole or not isinstance(planned, Plan):
            return
        place = (candidate.comparison.key.id, candidate.cluster, candidate.reading.at_us // DAY_US)
        if planned.decision.tier != candidate.comparison.own_tier or place in self._paired:
            return
        if self._queue.full() or self._held + candidate.size > ROOM:
            return
        self._queue.put_nowait(candidate)
        self._held += candidate.size
        self._remember(place)

    def _remember(self, place: tuple[str, str, int]) -> None:
        """Keep that a cluster has its pair of the day, and forget the days that are over."""
        if place[-1] > self._day:
            self._day = place[-1]
            self._paired = {old for old in self._paired if old[-1] >= self._day - 1}
        self._paired.add(place)

    def notice(self) -> None:
        """Look at all evidence anew, for something else than a pair has come."""
        self._unseen = True

    async def run(self) -> None:
        """Make pairs until it is cancelled; calls on their way are then given up, and recorded as that."""
        await self._begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_looking())
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def idle(self) -> None:
        """Wait until every call that was taken is done with."""
        await self._queue.join()

    async def _begin(self) -> None:
        while not any(contract.shadow for contract in self._desk.book.policy.contracts.values()):
            self.ready.set()
            await asyncio.sleep(RETRY_S)
        while self._salt is None:
            try:
                salt, self._paired = await asyncio.to_thread(self._recall)
                self._salt = salt
                self.ready.set()
            except LedgerError as error:
                log.warning("the audit waits for a ledger that can be read: %s", error)
                await asyncio.sleep(RETRY_S)

    def _recall(self) -> tuple[str, set[tuple[str, str, int]]]:
        """The ledger's id, and the pairs that there are of today."""
        today = self._clock() // DAY_US
        with closing(self._read()) as ledger:
            self._plan = day_plan(ledger, self._desk.book.policy, day=today)
            pairs = evidence(ledger).pairs
            found = {(pair.line, pair.cluster, today) for pair in pairs if pair.at_us // DAY_US == today}
            return ledger_id(ledger), found

    async def _work(self) -> None:
        while True:
            candidate = await self._queue.get()
            try:
                await self._compare(candidate)
            except Exception:
                log.exception("a comparison failed, and the audit goes on")
            finally:
                self._held -= candidate.size
                self._queue.task_done()
                del candidate  # its text and credential are not kept until the next one comes

    async def _compare(self, candidate: Candidate) -> None:
        shadow = await self._affordable(candidate)
        if shadow is None:
            return
        opened = shadow.opened
        kept = Kept()
        driver = RelayDriver(
            opened,
            outgoing=candidate.outgoing,
            counting=candidate.outgoing,  # never asked for: the audit's policy does not count
            upstream=self._upstream,
            ledger=self._ledger,
            budgets=self._budgets,
            warnings=Warnings(),
            caller=SilentCaller(kept),
            clock=self._clock,
        )
        await driver.run()
        if isinstance(opened.plan, Refused):
            self._rest(candidate, RESTS_TIMES * self._retry_us)
            self._purses_at_us = None
            return
        entry = await self._pair(candidate, opened, kept)
        if entry is not None:
            self._ledger.put(entry)
            self._unseen = True

    async def _affordable(self, candidate: Candidate) -> Shadow | None:
        """The call on the other tier; None where that cannot take it, or the allowance has too little left."""
        on_dear = candidate.comparison.on_dear
        if self._clock() < self._rests_until_us.get(on_dear, 0):
            return None
        for oldest_us in (PURSE_AGE_US, self._retry_us):
            limit = await self._limit(on_dear, oldest_us=oldest_us)
            shadow = self._shadow(candidate, limit)
            if shadow is None or shadow.worst_nanos <= limit:
                return shadow
        self._rest(candidate, self._retry_us)
        return None

    def _rest(self, candidate: Candidate, for_us: int) -> None:
        self._rests_until_us[candidate.comparison.on_dear] = self._clock() + for_us

    def _shadow(self, candidate: Candidate, limit_nanos: Nanos) -> Shadow | None:
        return shadow_call(
            candidate.reading,
            candidate.comparison,
            call_id=self._new_id(),
            first_call_id=candidate.opened.call_id,
            key_id=candidate.key_id,
            limit_nanos=limit_nanos,
            at_us=self._clock(),
            calibration=self._desk.calibration,
        )

    async def _pair(self, candidate: Candidate, opened: Opened, kept: Kept) -> Paired | None:
        """Read both replies and grade them; None where one of them says nothing of its tier."""
        first, second = candidate.opened.exchange.ending, opened.exchange.ending
        ours = await asyncio.to_thread(_answer, first, candidate.kept)
        theirs = await asyncio.to_thread(_answer, second, kept)
        if first is None or second is None or ours is None or theirs is None:
            return None
        comparison = candidate.comparison
        by_tier = (first, second) if comparison.on_dear else (second, first)
        answers = (ours, theirs) if comparison.on_dear else (theirs, ours)
        found = await self._grade(candidate, *answers)
        return Paired(
            pair_id=f"pair-{opened.call_id}",
            at_us=self._clock(),
            call_id=candidate.opened.call_id,
            shadow_call_id=opened.call_id,
            task_type=comparison.key.task_type,
            line=comparison.key.id,
            line_parts=comparison.key.parts,
            on_dear=comparison.on_dear,
            difference=found.difference,
            how=found.how,
            probability=candidate.probability,
            cluster=candidate.cluster,
            dear_nanos=by_tier[0].cost_nanos,
            cheap_nanos=by_tier[1].cost_nanos,
        )

    async def _grade(self, candidate: Candidate, dear: Answer, cheap: Answer) -> Grade:
        check, passed = _contract(candidate).check, None
        if check is not None and checkable(dear, cheap):
            passed = Passed(
                dear=await self._checker.passes(check, dear.text),
                cheap=await self._checker.passes(check, cheap.text),
            )
        return await asyncio.to_thread(grade, dear=dear, cheap=cheap, passed=passed)

    async def _limit(self, on_dear: bool, *, oldest_us: int) -> Nanos:  # noqa: FBT001 — it names the direction
        """What the audit may spend today in a direction, as worked out no longer ago than that."""
        now, at_us = self._clock(), self._purses_at_us
        if at_us is None or now - at_us >= oldest_us:
            self._purses_at_us = now
            audit = self._desk.book.policy.audit
            try:
                self._purses = await asyncio.to_thread(purses, self._read, audit, at_us=now)
            except LedgerError as error:
                log.warning("the audit's allowance cannot be worked out: %s", error)
        return self._purses[0 if on_dear else 1]

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._plan_day()
            policy = self._desk.book.policy
            if not self._unseen and policy is self._seen_policy:
                continue
            self._unseen, self._seen_policy = False, policy
            try:
                for entry in await asyncio.to_thread(self._look):
                    self._ledger.put(entry)
            except Exception:
                self._unseen = True
                log.exception("the audit's evidence cannot be read, and the audit goes on")

    async def _plan_day(self) -> None:
        """Plan the day, once it has begun."""
        today = self._clock() // DAY_US
        if today == self._plan.day:
            return
        try:
            self._plan = await asyncio.to_thread(self._planned, today)
        except LedgerError as error:
            log.warning("the day cannot be planned, and the rates stay: %s", error)

    def _planned(self, day: int) -> DayPlan:
        with closing(self._read()) as ledger:
            return day_plan(ledger, self._desk.book.policy, day=day)

    def _look(self) -> list[Declared | Acted]:
        with closing(self._read()) as ledger:
            found = look(ledger, self._desk.book.policy, at_us=self._clock())
        for entry in found:
            if isinstance(entry, Acted) and entry.act is Act.ALARMED:
                log.warning("the verdict on %s is re-opened: %s", entry.task_type, entry.why)
                self._unseen = True
        return found


def _rate(planned: Plan, lean: Lean | None, rate: float) -> float | None:
    """The part of the clusters like a call's that give a pair; None where its call is none to compare.

    Where the autopilot sends a type to the cheaper tier, pairs are of the holdback alone, where they cost little: a
    larger part of it, so that there are as many as before as far as it reaches.
    """
    if lean is None:
        return rate
    decision = planned.decision
    if decision.tier != lean.dear or decision.selection_probability == 1:
        return None
    return min(1.0, rate / lean.holdback)


_NOT_ITS_DOING: Final = frozenset(
    {
        "overloaded_error", "rate_limit_error", "api_error", "timeout_error", "authentication_error",
        "permission_error", "billing_error", "not_found_error", "unreachable", "dropped", "stream-broke", "no-usage",
    }
)  # fmt: skip
"""Errors that say nothing about how well a tier does: such a call leaves no pair. Most of them pass, and a caller's own
call is tried again after them."""


def _answer(ending: Posted | Failed | None, kept: Kept) -> Answer | None:
    """What a call came to, as far as it is its tier's doing; None where it leaves no pair."""
    if ending is None:
        return None
    if isinstance(ending, Failed):
        if ending.fault is not Fault.PROVIDER or ending.error in _NOT_ITS_DOING:
            return None
        return Answer(failure="timeout" if ending.error == "timeout" else "error")
    if ending.stop_reason == "refusal":
        return Answer(failure="refusal")
    if ending.stop_reason == "max_tokens":
        return Answer(failure="cut")
    content = kept.content()
    return None if content is None else Answer(text=content.text, tool_uses=content.tool_uses)


def _contract(candidate: Candidate) -> Contract:
    return candidate.reading.book.policy.contracts[candidate.comparison.key.task_type]
