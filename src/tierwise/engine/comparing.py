"""Comparing: a call is made again on the other tier, alone or in a batch, and both replies are graded."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from tierwise.audit.grading import Answer, Grade, Passed, checkable, grade
from tierwise.core.ledger import Failed, Fault, Paired, Posted
from tierwise.core.planning import Refused
from tierwise.core.policy import Contract
from tierwise.engine.batches import BatchDesk, GrantedItem
from tierwise.engine.budgets import AsyncBudgets, Warnings
from tierwise.engine.candidates import Candidate
from tierwise.engine.checking import Checker
from tierwise.engine.desk import Desk, Reading
from tierwise.engine.gathering import Gathered, Gathering
from tierwise.engine.ledger import AsyncLedger
from tierwise.engine.listening import Kept, SilentCaller
from tierwise.engine.purse import Purse
from tierwise.engine.relay import RelayDriver
from tierwise.engine.shadowing import (
    Comparison,
    Shadow,
    ShadowItem,
    ShadowTerms,
    can_be_gathered,
    shadow_call,
    shadow_item,
)
from tierwise.money import Nanos
from tierwise.upstream.port import Upstream
from tierwise.wire.answers import Content

Made = TypeVar("Made", Shadow, ShadowItem)


class Comparer:
    """Makes pairs of calls that were drawn and have ended."""

    def __init__(
        self,
        *,
        desk: Desk,
        upstream: Upstream,
        ledger: AsyncLedger,
        budgets: AsyncBudgets,
        purse: Purse,
        batches: BatchDesk,
        gathering: Gathering,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        notice: Callable[[], None],
        checker: Checker,
        gathers: bool,
    ) -> None:
        """Make pairs.

        Args:
            desk: knows the policy and texts' tokens.
            upstream: the provider.
            ledger: takes the entries.
            budgets: the accounts.
            purse: what the audit may spend.
            batches: sets aside what calls cost that go together.
            gathering: sends them.
            clock: tells microseconds since 1970 UTC.
            new_id: makes call ids.
            notice: is told of each pair.
            checker: holds answers against checks.
            gathers: whether calls go together where the policy says so.
        """
        self._desk = desk
        self._upstream = upstream
        self._ledger = ledger
        self._budgets = budgets
        self._purse = purse
        self._batches = batches
        self._gathering = gathering
        self._clock = clock
        self._new_id = new_id
        self._notice = notice
        self._checker = checker
        self._gathers = gathers

    async def compare(self, candidate: Candidate) -> None:
        """Make the call on the other tier, and the pair once both replies are here."""
        if self._gathers and self._desk.book.policy.audit.by_batch and can_be_gathered(candidate.reading):
            await self._gather(candidate)
        else:
            await self._make(candidate)

    async def _make(self, candidate: Candidate) -> None:
        """Make the call on the other tier now."""
        shadow = await self._affordable(candidate, shadow_call)
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
            self._purse.refused(candidate.comparison.on_dear)
            return
        await self._compared(candidate, opened.call_id, opened.exchange.ending, kept.content)

    async def _gather(self, candidate: Candidate) -> None:
        """Set aside what the call on the other tier may cost, and have it wait for its batch."""
        gathering = self._gathering
        if not gathering.has_room(candidate.size):
            return
        item = await self._affordable(candidate, shadow_item)
        if item is None:
            return
        call_id = item.item.call_id
        granted = await self._batches.reserve(item.item, call_id)
        if not isinstance(granted, GrantedItem):
            self._purse.refused(candidate.comparison.on_dear)
            return

        async def ended(ending: Posted | Failed, content: Content | None) -> None:
            await self._compared(candidate, call_id, ending, lambda: content)

        gathering.add(
            Gathered(
                granted=granted,
                outgoing=candidate.outgoing(granted.plan.changes),
                key_id=candidate.key_id,
                size=candidate.size,
                ended=ended,
            )
        )

    async def _compared(
        self,
        candidate: Candidate,
        call_id: str,
        ending: Posted | Failed | None,
        content: Callable[[], Content | None],
    ) -> None:
        entry = await self._pair(candidate, call_id, ending, content)
        if entry is not None:
            self._ledger.put(entry)
            self._notice()

    async def _affordable(
        self, candidate: Candidate, make: Callable[[Reading, Comparison, ShadowTerms], Made | None]
    ) -> Made | None:
        """The call on the other tier; None where that cannot take it, or the allowance has too little left."""
        on_dear = candidate.comparison.on_dear
        async for limit in self._purse.limits(on_dear):
            made = make(candidate.reading, candidate.comparison, self._terms(candidate, limit))
            if made is None or made.worst_nanos <= limit:
                return made
        return None

    def _terms(self, candidate: Candidate, limit_nanos: Nanos) -> ShadowTerms:
        return ShadowTerms(
            call_id=self._new_id(),
            first_call_id=candidate.opened.call_id,
            key_id=candidate.key_id,
            limit_nanos=limit_nanos,
            at_us=self._clock(),
            calibration=self._desk.calibration,
        )

    async def _pair(
        self,
        candidate: Candidate,
        call_id: str,
        second: Posted | Failed | None,
        content: Callable[[], Content | None],
    ) -> Paired | None:
        """Read both replies and grade them; None where one of them says nothing of its tier."""
        first = candidate.opened.exchange.ending
        ours = await asyncio.to_thread(_answer, first, candidate.kept.content)
        theirs = await asyncio.to_thread(_answer, second, content)
        if first is None or second is None or ours is None or theirs is None:
            return None
        comparison = candidate.comparison
        by_tier = (first, second) if comparison.on_dear else (second, first)
        answers = (ours, theirs) if comparison.on_dear else (theirs, ours)
        found = await self._grade(candidate, *answers)
        return Paired(
            pair_id=f"pair-{call_id}",
            at_us=self._clock(),
            call_id=candidate.opened.call_id,
            shadow_call_id=call_id,
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


_NOT_ITS_DOING: Final = frozenset(
    {
        "overloaded_error", "rate_limit_error", "api_error", "timeout_error", "authentication_error",
        "permission_error", "billing_error", "not_found_error", "unreachable", "dropped", "stream-broke", "no-usage",
        "errored", "expired", "repeated",
    }
)  # fmt: skip
"""Errors that say nothing about how well a tier does: such a call leaves no pair. Most of them pass, and a caller's own
call is tried again after them."""


def _answer(ending: Posted | Failed | None, content: Callable[[], Content | None]) -> Answer | None:
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
    found = content()
    return None if found is None else Answer(text=found.text, tool_uses=found.tool_uses)


def _contract(candidate: Candidate) -> Contract:
    return candidate.reading.book.policy.contracts[candidate.comparison.key.task_type]
