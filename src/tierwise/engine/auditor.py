"""The auditor: some calls that ended well are made again on another tier, in the background, and compared.

Whether a call is one of them is settled before its reply begins, by a hash. The caller's reply is not touched and
waits for nothing: when the queue is full, or the allowance used up, a pair is left out. Texts and credentials are held
in memory alone, until the pair is made. As long as no task type is shadowed, nothing is read and nothing is kept.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Final

from tierwise.audit.acting import Lean
from tierwise.audit.dayplan import DayPlan
from tierwise.audit.sampling import Purpose, Sampled, sample, uniform
from tierwise.core.changes import Change
from tierwise.core.ledger import Act, Acted, Declared, Posted
from tierwise.core.planning import Plan
from tierwise.core.policy import Policy
from tierwise.engine.batch_results import BatchResults
from tierwise.engine.batches import BatchDesk
from tierwise.engine.budgets import AsyncBudgets
from tierwise.engine.candidates import Candidate
from tierwise.engine.checking import Checker
from tierwise.engine.comparing import Comparer
from tierwise.engine.dayplan import day_plan
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.engine.gathering import ASK_S, GATHER_S, Gathering
from tierwise.engine.ledger import AsyncLedger
from tierwise.engine.looking import look
from tierwise.engine.purse import Purse
from tierwise.engine.shadowing import (
    cluster_of,
    comparable,
    comparison_of,
)
from tierwise.errors import LedgerError
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
RETRY_S: Final = 2.0
"""How long the audit makes no calls in a direction whose allowance is used up, or waits for a ledger, in seconds."""
LOOK_S: Final = 60.0
"""How often claims are looked for."""


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
        batches: BatchDesk,
        checker: Checker,
        gathers: bool = True,
        retry_s: float = RETRY_S,
        gather_s: float = GATHER_S,
        ask_s: float = ASK_S,
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
            batches: sees those of its calls out that go together.
            checker: holds answers against checks.
            gathers: whether calls go together where the policy says so.
            retry_s: how long the audit makes no calls in a direction whose allowance is used up, in seconds.
            gather_s: how long calls are gathered that go together, in seconds.
            ask_s: how often the provider is asked whether it is through with them, in seconds.
        """
        self._desk = desk
        self._ledger = ledger
        self._clock = clock
        self._read = read
        self._salt: str | None = None
        """The ledger's id, once it is known: nothing is drawn before."""
        self._paired: set[tuple[str, str, int]] = set()
        """Line, cluster and day of each pair of today and yesterday."""
        self._day = 0
        """The latest one of these."""
        self._gathering = Gathering(
            desk=batches,
            results=partial(BatchResults, desk=desk, ledger=ledger, budgets=budgets, read=read, clock=clock),
            upstream=upstream,
            prices=lambda: desk.book.prices,
            clock=clock,
            gather_s=gather_s,
            ask_s=ask_s,
        )
        self._comparer = Comparer(
            desk=desk,
            upstream=upstream,
            ledger=ledger,
            budgets=budgets,
            purse=Purse(desk=desk, read=read, clock=clock, retry_s=retry_s, owed=self._gathering.owed_nanos),
            batches=batches,
            gathering=self._gathering,
            clock=clock,
            new_id=new_id,
            notice=self.notice,
            checker=checker,
            gathers=gathers,
        )
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
            group.create_task(self._gathering.run())
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def idle(self) -> None:
        """Wait until every call that was taken is done with; those that go together, with their batch."""
        await self._queue.join()
        await self._gathering.idle()

    async def look(self) -> None:
        """Plan the day, once it has begun, and look at the evidence, where there is any that was not seen."""
        await self._plan_day()
        policy = self._desk.book.policy
        if not self._unseen and policy is self._seen_policy:
            return
        self._unseen, self._seen_policy = False, policy
        try:
            for entry in await asyncio.to_thread(self._look):
                await self._ledger.record(entry)
        except Exception:
            self._unseen = True
            log.exception("the audit's evidence cannot be read, and the audit goes on")

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
                await self._comparer.compare(candidate)
            except Exception:
                log.exception("a comparison failed, and the audit goes on")
            finally:
                self._held -= candidate.size
                self._queue.task_done()
                del candidate  # its text and credential are not kept until the next one comes

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

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
