"""Monitoring: replies of calls on the cheaper tier are held against their type's check, which costs no call.

Some calls, drawn by a hash before their replies begin, are listened to; their replies are checked on a thread, one
after the other, and counted. A full count is an entry, for the detector of drift to read; one that is not full yet is
lost with its gateway, whatever it says.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tierwise.audit.acting import open_line
from tierwise.audit.grading import Answer
from tierwise.audit.sampling import Purpose, uniform
from tierwise.audit.watching import BATCH
from tierwise.core.checks import Check
from tierwise.core.ledger import Checked, Entry, Posted
from tierwise.core.planning import Plan
from tierwise.core.policy import Contract
from tierwise.engine.checking import Checker
from tierwise.engine.desk import Desk, Opened
from tierwise.engine.listening import Kept, ListeningCaller
from tierwise.engine.relay import Caller
from tierwise.engine.shadowing import line_key

log = logging.getLogger("tierwise.audit")

QUEUE: Final = 64
"""Replies that wait for their check; one more is left out."""
ROOM: Final = 16 * 2**20
"""Bytes that they may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A call whose reply is to be checked if it ends well."""

    opened: Opened
    line: str
    task_type: str
    check: Check
    kept: Kept = field(default_factory=Kept)

    def listen(self, caller: Caller) -> Caller:
        """A caller that keeps the reply too."""
        return ListeningCaller(caller, self.kept)

    @property
    def answer(self) -> Answer | None:
        """What the reply says as far as a check can tell; None where it cannot: it calls tools, or is not whole."""
        ending = self.opened.exchange.ending
        if not isinstance(ending, Posted):
            return None
        if ending.stop_reason in {"refusal", "max_tokens"}:
            return Answer(failure="refusal" if ending.stop_reason == "refusal" else "cut")
        content = self.kept.content()
        if content is None or content.tool_uses:
            return None
        return Answer(text=content.text)


class Monitor:
    """Counts replies that pass their check. It is on one event loop, but for the checks and for `consider`."""

    def __init__(
        self,
        *,
        desk: Desk,
        put: Callable[[Entry], None],
        clock: Callable[[], int],
        new_id: Callable[[], str],
        checker: Checker,
    ) -> None:
        """Check the calls that are offered, while `run` runs.

        Args:
            desk: knows the acts.
            put: hands an entry to the ledger.
            clock: tells microseconds since 1970 UTC.
            new_id: names entries.
            checker: holds replies against checks.
        """
        self._checker = checker
        self._desk = desk
        self._put = put
        self._clock = clock
        self._new_id = new_id
        self._queue: asyncio.Queue[Watched] = asyncio.Queue(QUEUE)
        self._held = 0
        self._counts: dict[str, Checked] = {}
        """Of each line, what is counted and no entry yet."""

    def consider(self, opened: Opened) -> Watched | None:
        """Draw whether the reply of a call that is about to be made is checked."""
        planned = opened.plan
        if not isinstance(planned, Plan) or planned.task.type is None or not planned.decision.acts:
            return None
        policy, tier = planned.policy, planned.decision.tier
        contract = policy.contracts[planned.task.type]
        if not contract.shadow or contract.check is None or tier in {None, policy.frontier.name}:
            return None
        if uniform(Purpose.CHECK, opened.call_id, salt="") >= policy.audit.sample / 100:
            return None
        return self._watched(opened, planned, contract, contract.check)

    def _watched(self, opened: Opened, planned: Plan, contract: Contract, check: Check) -> Watched:
        policy, tier = planned.policy, planned.decision.tier
        assert tier is not None
        names = list(policy.tiers)
        acting = self._desk.acting
        lean = acting.lean(contract.name, policy)
        dear = lean.dear if lean is not None and lean.cheap == tier else names[names.index(tier) - 1]
        key = open_line(line_key(policy, contract, dear=dear, cheap=tier), acting.alarmed)
        return Watched(opened=opened, line=key.id, task_type=contract.name, check=check)

    def offer(self, watched: Watched) -> None:
        """Take a call that was considered and has ended; it never waits."""
        if watched.kept.whole and not self._queue.full() and self._held + watched.kept.size <= ROOM:
            self._queue.put_nowait(watched)
            self._held += watched.kept.size

    async def run(self) -> None:
        """Check until it is cancelled."""
        while True:
            watched = await self._queue.get()
            try:
                passed = await self._passes(watched)
                if passed is not None:
                    self._count(watched, passed=passed)
            except Exception:
                log.exception("a reply could not be checked, and the monitor goes on")
            finally:
                self._held -= watched.kept.size
                self._queue.task_done()
                del watched

    async def idle(self) -> None:
        """Wait until every reply that was taken is checked."""
        await self._queue.join()

    async def _passes(self, watched: Watched) -> bool | None:
        answer = await asyncio.to_thread(lambda: watched.answer)
        if answer is None or answer.failure is not None:
            return None if answer is None else False
        return await self._checker.passes(watched.check, answer.text)

    def _count(self, watched: Watched, *, passed: bool) -> None:
        count = self._counts.pop(watched.line, None) or Checked(
            checked_id=f"checked-{self._new_id()}",
            at_us=0,
            task_type=watched.task_type,
            line=watched.line,
            passed=0,
            failed=0,
        )
        count = replace(count, passed=count.passed + passed, failed=count.failed + (not passed))
        if count.passed + count.failed < BATCH:
            self._counts[watched.line] = count
        else:
            self._put(replace(count, at_us=self._clock()))
