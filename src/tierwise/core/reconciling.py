"""Reconciling: the ledger's calls against the provider's own report, and what the report settles.

Calls of unknown cost are settled by subtraction. Where what the report has above our known costs lies between what
such calls come to at the least and what was set aside for them, it is theirs: one call takes it, several share it.
What is shared out is exact in sum, and a guess for each call.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from operator import attrgetter
from typing import Final

from tierwise.core.causes import Case, Cause, assumed, begin_us, bounded, cause_of
from tierwise.core.charges import (
    Charge,
    Group,
    OurCalls,
    TheirCharges,
    apportion,
    difference,
    our_groups,
    their_groups,
)
from tierwise.core.ledger import Settled
from tierwise.core.pricing import PriceBook
from tierwise.money import Nanos

REPORTED_AFTER: Final = timedelta(hours=2)
"""How long after a day's end it is not settled yet: reports arrive late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One group: both sides, and why they differ."""

    group: Group
    ours: OurCalls | None
    theirs: TheirCharges | None
    cause: Cause
    sentence: str
    """What the cause means here, for people."""
    explained: bool
    """Whether the difference needs nobody's attention for the sums to be right."""
    final: bool
    """Whether the day is over for long enough that the report has all of it."""
    settled: tuple[Settled, ...]
    """Entries that make the group agree; none where nothing is to be settled, or not yet."""

    @property
    def difference_nanos(self) -> Nanos | None:
        """Theirs less ours; None where the report tells no money."""
        return difference(self.ours, self.theirs)


def reconcile(
    ours: Iterable[OurCalls],
    charges: Iterable[Charge],
    *,
    prices: PriceBook,
    keys: Mapping[str, str],
    now_us: int,
    complete_until_us: int | None = None,
) -> tuple[Line, ...]:
    """Compare the two, and propose what the report settles.

    Args:
        ours: the ledger's calls of the report's days.
        charges: the report.
        prices: our price book: names models, and says what tokens cost here.
        keys: the ledger's name of a credential, by the provider's id or name of the key. Where it is empty, all keys
            are one group.
        now_us: microseconds since 1970 UTC. Days that ended less than `REPORTED_AFTER` before are not settled.
        complete_until_us: up to when the report says that it is complete; None where it does not say. Days that end
            later are not settled either.
    """
    mine = our_groups(ours, prices=prices, apart=bool(keys))
    theirs = their_groups(charges, mine, prices=prices, keys=keys)
    cases = {
        group: Case(group=group, ours=mine.get(group), theirs=theirs.get(group), prices=prices)
        for group in sorted(mine.keys() | theirs.keys(), key=attrgetter("order"))
    }
    until_us = now_us - REPORTED_AFTER // timedelta(microseconds=1)
    if complete_until_us is not None:
        until_us = min(until_us, complete_until_us)
    return tuple(_line(case, cases, now_us=now_us, until_us=until_us) for case in cases.values())


def _line(case: Case, cases: Mapping[Group, Case], *, now_us: int, until_us: int) -> Line:
    near = [replace(case.group, day=case.group.day + timedelta(days=days)) for days in (-1, 1)]
    case = replace(case, neighbours=tuple(cases[group] for group in near if group in cases))
    cause, sentence = cause_of(case)
    final = begin_us(case.group.day + timedelta(days=1)) <= until_us
    settles = final and cause == "kept" and bounded(case)
    return Line(
        group=case.group,
        ours=case.ours,
        theirs=case.theirs,
        cause=cause,
        sentence=sentence,
        explained=cause not in ("missing", "unexplained") or (cause == "missing" and assumed(case)),
        final=final,
        settled=_proposed(case, now_us) if settles else (),
    )


def _proposed(case: Case, now_us: int) -> tuple[Settled, ...]:
    """One entry a kept call: what it comes to at the least, and its share of the rest by its room above that."""
    remainder = case.difference
    assert remainder is not None
    rooms = [(call.worst_nanos or 0) - call.at_least_nanos for call in case.kept]
    rest = remainder - case.least
    shares = apportion(rest, rooms) if rest else [0] * len(rooms)
    note = f"the provider's report of {case.group.day} for {case.group.model}"
    if len(case.kept) > 1:
        note += f", shared over {len(case.kept)} calls"
    return tuple(
        Settled(
            call_id=call.call_id,
            at_us=now_us,
            cost_nanos=call.at_least_nanos + share,
            basis="reconciled",
            note=note,
        )
        for call, share in zip(case.kept, shares, strict=True)
    )
