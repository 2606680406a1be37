"""Causes: why the ledger and the provider's report differ in a group, as a table of tests.

The first test that holds names the cause and says in a sentence what it means there. What calls of unknown cost can
explain is bounded: by what they come to at the least, and by what was set aside for them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, Literal, TypeAlias

from tierwise.core.charges import (
    BUCKETS,
    SEARCHES,
    Group,
    KeptCall,
    OurCalls,
    TheirCharges,
    difference,
)
from tierwise.core.pricing import PriceBook
from tierwise.money import ATTOS_PER_NANO, Attos, Nanos, format_usd, round_half_even
from tierwise.usage import Metered, Usage, UsageLine

Cause: TypeAlias = Literal[
    "agrees", "kept", "outside", "missing", "price", "boundary", "unpriced", "unexplained"
]
"""agrees: no difference. kept: calls of unknown cost. outside: calls that did not pass the gateway. missing: ours is
above theirs. price: the same tokens at another price. boundary: the neighbouring day has the opposite difference.
unpriced: the price book lacks the model."""

Tokens: TypeAlias = Literal["equal", "more", "fewer", "mixed"]
"""The report's beside ours, bucket by bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One group, and what its tests ask."""

    group: Group
    ours: OurCalls | None
    theirs: TheirCharges | None
    prices: PriceBook
    neighbours: "tuple[Case, ...]" = ()
    """The same key and model on the day before and on the day after."""

    @property
    def kept(self) -> tuple[KeptCall, ...]:
        """The calls of unknown cost."""
        return self.ours.kept if self.ours else ()

    @property
    def least(self) -> Nanos:
        """What they come to at the least."""
        return sum(call.at_least_nanos for call in self.kept)

    @property
    def worst(self) -> Nanos | None:
        """What they come to at the worst; None where one of them has no worst case."""
        amounts = [call.worst_nanos for call in self.kept]
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if len(known) == len(amounts) else None

    @property
    def difference(self) -> Nanos | None:
        """Theirs less ours; None where the report tells no money."""
        return difference(self.ours, self.theirs)

    @property
    def tolerance(self) -> Nanos:
        """A nanodollar of rounding for each call, and the report's own rounding."""
        return (self.ours.calls if self.ours else 0) + (self.theirs.rounding_nanos if self.theirs else 0)

    @property
    def differs(self) -> bool:
        """Whether the difference is known, and more than rounding."""
        return self.difference is not None and abs(self.difference) > self.tolerance

    @property
    def lacking(self) -> Usage | None:
        """The tokens that the report has above ours; a bucket is below zero where ours has more."""
        if self.theirs is None or self.theirs.usage is None:
            return None
        mine = self.ours.usage if self.ours else Usage()
        theirs = self.theirs.usage
        return Usage(**{name: getattr(theirs, name) - getattr(mine, name) for name in BUCKETS})

    @property
    def tokens(self) -> Tokens | None:
        """How its tokens are beside ours; None where it does not count them."""
        lacking = self.lacking
        if lacking is None:
            return None
        amounts = [getattr(lacking, name) for name in BUCKETS]
        if not any(amounts):
            return "equal"
        return "more" if min(amounts) >= 0 else "fewer" if max(amounts) <= 0 else "mixed"

    @property
    def priced(self) -> Nanos | None:
        """What the lacking tokens cost at our prices; None where that cannot be said."""
        lacking = self.lacking
        if lacking is None or self.tokens != "more":
            return None
        costs = [(count, self.attos_each(name)) for name in BUCKETS if (count := getattr(lacking, name))]
        known = [count * each for count, each in costs if each is not None]
        return round_half_even(sum(known)) if len(known) == len(costs) else None

    @property
    def noon_us(self) -> int:
        """Microseconds since 1970 of a moment on the day, at which its prices hold."""
        return begin_us(self.group.day) + 43_200_000_000

    def attos_each(self, bucket: str) -> Attos | None:
        """Our price of one token or search, by the standard card of a short prompt; None where it has none."""
        one = UsageLine(model=self.group.model or "", usage=Usage(**{bucket: 1}))
        return self.prices.exact_cost(Metered(lines=(one,)), self.noon_us)


def begin_us(day: date) -> int:
    """Return a day's first moment, in microseconds since 1970 UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


def cause_of(case: Case) -> tuple[Cause, str]:
    """Return the likely cause of a group's difference, and what it means there."""
    return next((cause, sentence) for cause, test in CAUSES if (sentence := test(case)) is not None)


def bounded(case: Case) -> bool:
    """Whether the calls of unknown cost can explain the difference.

    It lies between what they come to at the least and at the worst; and where the report counts tokens, it has tokens
    that the ledger lacks, and lacks none that the ledger has.
    """
    if not case.kept or case.difference is None or case.worst is None:
        return False
    of_theirs = case.tokens in (None, "more") or (case.tokens == "equal" and not case.difference)
    return of_theirs and case.least <= case.difference <= case.worst


def assumed(case: Case) -> bool:
    """Whether what was assumed at its worst is at least what ours has too much."""
    ours, difference = case.ours, case.difference
    return ours is not None and difference is not None and 0 < -difference <= ours.assumed_nanos


def _nothing(case: Case) -> str | None:
    if case.theirs is None and not case.kept and case.ours is not None and not case.ours.cost_nanos:
        return "Nothing was billed, and the report has no line."
    return None


def _unreported(case: Case) -> str | None:
    if case.theirs is not None:
        return None
    return (
        "The report has no line for it: it may be filtered, the key may not be named with --key, or the line is "
        "still to come."
    )


def _unseen(case: Case) -> str | None:
    if case.ours is not None:
        return None
    if case.group.batch:
        return "Message Batches do not pass the gateway."
    if case.group.model is None:
        return "A cost of no model, such as a container's: it belongs to no call."
    return "The ledger has no call of this key and model on that day: they did not pass the gateway."


def _shifted(case: Case) -> str | None:
    difference = case.difference
    if difference is None or not case.differs or case.tokens == "equal":
        return None
    for other in case.neighbours:
        opposite = other.difference
        if opposite is None or not other.differs:
            continue
        if abs(difference + opposite) <= case.tolerance + other.tolerance:
            return f"{other.group.day} has the opposite difference: calls around midnight, counted on another day."
    return None


def _kept(case: Case) -> str | None:
    if not bounded(case):
        return None
    told = "" if case.priced is None else f" The tokens that the ledger lacks cost {_usd(case.priced)} here."
    return (
        f"{_calls(len(case.kept))} of unknown cost, {_usd(case.least)} at the least and {_usd(case.worst)} at the "
        f"worst, can come to {_usd(case.difference)}.{told}"
    )


def _equal(case: Case) -> str | None:
    if case.differs or case.ours is None:
        return None
    if case.tokens in (None, "equal"):
        return "The same."
    if case.tokens == "more" and not case.ours.counted and (case.difference is not None or not case.kept):
        return "The same, but for the tokens of calls that broke off."
    return None


def _unpriced(case: Case) -> str | None:
    model = case.group.model
    if not case.kept or model is None or case.prices.price(model, case.noon_us) is not None:
        return None
    return f"The price book has no {model}: add it under [[prices]] in the policy."


def _otherwise_priced(case: Case) -> str | None:
    if case.ours is None or case.theirs is None or not case.differs:
        return None
    if case.tokens != "equal" or assumed(case):
        return None
    return f"The same tokens of {case.group.model} at other prices: {_both_prices(case, case.ours, case.theirs)}."


def _both_prices(case: Case, ours: OurCalls, theirs: TheirCharges) -> str:
    """Both unit prices of each bucket that differs, where the report tells money by bucket; else of all tokens."""
    differing = [
        f"{bucket} {_a_million(cost, count)} a million there, {_a_million(here, count)} here"
        for bucket, cost in sorted(theirs.by_bucket.items())
        if (count := getattr(ours.usage, bucket, 0))
        and (each := case.attos_each(bucket)) is not None
        and abs(cost - (here := count * each // ATTOS_PER_NANO)) > case.tolerance
    ]
    if differing or theirs.cost_nanos is None:
        return "; ".join(differing)
    tokens = sum(getattr(ours.usage, name) for name in BUCKETS if name != SEARCHES)
    if not tokens:
        return f"{_usd(theirs.cost_nanos)} there, {_usd(ours.cost_nanos)} here"
    there, here = (_a_million(cost, tokens) for cost in (theirs.cost_nanos, ours.cost_nanos))
    return f"on average {there} a million there, {here} here"


def _a_million(cost: Nanos, count: int) -> str:
    return _usd(1_000_000 * cost // count)


def _unbounded(case: Case) -> str | None:
    if not case.kept or case.tokens not in (None, "more"):
        return None
    many = _calls(len(case.kept))
    if case.difference is None:
        return f"{many} of unknown cost; the report counts tokens and tells no money: give the cost report as well."
    if case.worst is None and case.difference >= case.least:
        return (
            f"{many} of unknown cost can come to {_usd(case.difference)}, but not all of them had money set aside, "
            "so that nothing bounds them: they are not settled."
        )
    return None


def _more(case: Case) -> str | None:
    if case.kept or case.tokens != "more":
        return None
    if case.difference is not None and (
        case.priced is None or abs(case.priced - case.difference) > case.tolerance
    ):
        return None
    return "The report has more tokens, at our prices: calls with the same key that did not pass the gateway."


def _less(case: Case) -> str | None:
    if case.difference is None:
        return "The ledger has more tokens than the report." if case.tokens == "fewer" else None
    if case.difference >= 0 or not case.differs:
        return None
    if assumed(case):
        return (
            "The ledger has calls whose cost was assumed at its worst; the report says that they cost less."
        )
    return "The ledger has more than the report, which may lack a part of the day, a workspace or a key."


def _unexplained(case: Case) -> str | None:
    if case.difference is None:
        return "Some token counts are above ours and others below."
    if not case.differs:
        return "The money is the same and the tokens are not."
    if case.kept and case.worst is not None and case.difference > case.worst:
        return f"Theirs is {_usd(case.difference - case.worst)} above all that the calls of unknown cost can explain."
    if case.tokens is None:
        return "Nothing in this report explains it; give the report of usage as well."
    return "Nothing that the ledger or the report says explains it."


def _usd(nanos: Nanos | None) -> str:
    return format_usd(nanos, places=4)


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


CAUSES: Final[tuple[tuple[Cause, Callable[[Case], str | None]], ...]] = (
    ("agrees", _nothing),
    ("missing", _unreported),
    ("outside", _unseen),
    ("boundary", _shifted),
    ("kept", _kept),
    ("agrees", _equal),
    ("unpriced", _unpriced),
    ("price", _otherwise_priced),
    ("kept", _unbounded),
    ("outside", _more),
    ("missing", _less),
    ("unexplained", _unexplained),
)
"""A cause and its test, which returns what to say where it holds. The first that holds is a group's; the last one
always does."""
