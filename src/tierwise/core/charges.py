"""Charges: the provider's report beside the ledger's calls, both brought into the same groups.

A group is one UTC day, one key, one model. A call belongs to the day on which it ended: the provider's documents say
only that a call's usage is there minutes after its completion. A report that does not name a group says nothing of
it: absence is not zero.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from operator import attrgetter
from typing import Final

from tierwise.core.pricing import PriceBook
from tierwise.money import Nanos
from tierwise.usage import Usage

SEARCHES: Final = "web_search_requests"
"""The bucket of a charge for the provider's searches."""

BUCKETS: Final = tuple(field.name for field in fields(Usage))
"""The fields of `Usage`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What is compared."""

    day: date
    """In UTC."""
    key: str | None
    """Names the credential, as `Decided.key_id`; None where all keys are one group."""
    model: str | None
    """As the price book names it; None where the charges are no model's."""
    batch: bool = False
    """Whether it is Message Batches alone."""

    @property
    def order(self) -> tuple[date, str, str, bool]:
        """What groups are sorted by."""
        return self.day, self.key or "", self.model or "", self.batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One line of the provider's report."""

    day: date
    """In UTC."""
    key: str | None
    """Id or name of the API key; None where the report does not tell keys apart."""
    model: str | None
    """None where the charge is no model's: a search, a container."""
    usage: Usage | None = None
    """None where the report does not count tokens."""
    cost_nanos: Nanos | None = None
    """None where the report does not tell money."""
    rounding_nanos: Nanos = 0
    """By how much the report may have rounded the cost, up or down."""
    bucket: str | None = None
    """Name of the `Usage` field that the cost is of; None for all of them."""
    batch: bool = False
    """Whether it is of Message Batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCall:
    """A call of unknown cost."""

    call_id: str
    at_least_nanos: Nanos
    """What the provider had counted when it was last heard."""
    reserved_nanos: Nanos | None
    """What was set aside for it; None where it was under no budget, and nothing bounds it."""

    @property
    def worst_nanos(self) -> Nanos | None:
        """The most that it can have cost: its reservation, or what was counted where that is more."""
        return None if self.reserved_nanos is None else max(self.reserved_nanos, self.at_least_nanos)


@dataclass(frozen=True, slots=True, kw_only=True)
class OurCalls:
    """The ledger's calls of one group."""

    day: date
    key: str | None
    """Names the credential, as `Decided.key_id`; None where it is not known, or all keys are one group."""
    model: str
    """That served, or that was asked where nothing came back."""
    calls: int
    cost_nanos: Nanos
    """The sum of the known costs."""
    assumed_nanos: Nanos
    """The part of it that nobody knew in time, and that was taken at its worst case."""
    usage: Usage
    """Of the calls whose reply came to its end and whose cost is known."""
    counted: bool
    """Whether `usage` has all that was billed: no call was cut."""
    kept: tuple[KeptCall, ...] = ()
    """By their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheirCharges:
    """The report's charges of one group."""

    usage: Usage | None
    cost_nanos: Nanos | None
    rounding_nanos: Nanos
    by_bucket: Mapping[str, Nanos]
    """The part of the cost that the report tells by bucket."""


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """Share out a total in proportion, in whole units, by largest remainder; the first of equals goes first.

    No share is above its weight unless the total is above the sum of the weights, which is not to be 0.
    """
    whole = sum(weights)
    shares = [total * weight // whole for weight in weights]
    left = total - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda place: -(total * weights[place] % whole))
    for place in by_remainder[:left]:
        shares[place] += 1
    return shares


def our_groups(ours: Iterable[OurCalls], *, prices: PriceBook, apart: bool) -> dict[Group, OurCalls]:
    """Bring the ledger's calls into groups; all keys into one where they are not told `apart`."""
    groups: dict[Group, OurCalls] = {}
    for calls in ours:
        named = replace(calls, key=calls.key if apart else None, model=_named(calls.model, prices))
        group = Group(day=named.day, key=named.key, model=named.model)
        groups[group] = _added(groups[group], named) if group in groups else named
    return groups


def _named(model: str, prices: PriceBook) -> str:
    """The model's name in the price book: a snapshot is its model."""
    return prices.resolve(model) or model


def _added(some: OurCalls, more: OurCalls) -> OurCalls:
    return replace(
        some,
        calls=some.calls + more.calls,
        cost_nanos=some.cost_nanos + more.cost_nanos,
        assumed_nanos=some.assumed_nanos + more.assumed_nanos,
        usage=added((some.usage, more.usage)),
        counted=some.counted and more.counted,
        kept=tuple(sorted((*some.kept, *more.kept), key=attrgetter("call_id"))),
    )


def their_groups(
    charges: Iterable[Charge], ours: Mapping[Group, OurCalls], *, prices: PriceBook, keys: Mapping[str, str]
) -> dict[Group, TheirCharges]:
    """Bring the report's charges into groups.

    Args:
        charges: the report.
        ours: the ledger's groups, which may count searches where the report does not.
        prices: names the models.
        keys: the ledger's name of a credential, by the provider's id or name of the key. Where it is empty, all keys
            are one group.
    """
    keyed = [replace(charge, key=_key(charge, keys)) for charge in charges]
    by_group: defaultdict[Group, list[Charge]] = defaultdict(list)
    for charge in _searches_by_model(keyed, ours):
        model = None if charge.model is None else _named(charge.model, prices)
        by_group[Group(day=charge.day, key=charge.key, model=model, batch=charge.batch)].append(charge)
    return {group: _totalled(found) for group, found in by_group.items()}


def _key(charge: Charge, keys: Mapping[str, str]) -> str | None:
    return keys.get(charge.key, charge.key) if keys and charge.key is not None else None


def _searches_by_model(charges: Sequence[Charge], ours: Mapping[Group, OurCalls]) -> Iterable[Charge]:
    """The charges, those for searches of no model shared over the day's models by how many each had.

    A search has one price, whatever the model, so the shares are what each model's searches cost.
    """
    for charge in charges:
        if charge.model is not None or charge.bucket != SEARCHES or charge.cost_nanos is None:
            yield charge
            continue
        counts = _searches(charge, charges, ours)
        if not counts:
            yield charge
            continue
        shares = apportion(charge.cost_nanos, list(counts.values()))
        for model, share in zip(counts, shares, strict=True):
            yield replace(charge, model=model, cost_nanos=share)


def _searches(charge: Charge, charges: Sequence[Charge], ours: Mapping[Group, OurCalls]) -> dict[str, int]:
    """How many searches each model had: by the report, or by the ledger where the report does not count them."""
    of_theirs = [
        (each.model, each.usage.web_search_requests)
        for each in charges
        if each.usage and each.model and (each.day, each.key) == (charge.day, charge.key)
    ]
    of_ours = [
        (calls.model, calls.usage.web_search_requests)
        for calls in ours.values()
        if (calls.day, calls.key) == (charge.day, charge.key)
    ]
    for counts in (of_theirs, of_ours):
        totals: defaultdict[str, int] = defaultdict(int)
        for model, searches in counts:
            totals[model] += searches
        if any(totals.values()):
            return {model: searches for model, searches in sorted(totals.items()) if searches}
    return {}


def _totalled(charges: Sequence[Charge]) -> TheirCharges:
    usages = [charge.usage for charge in charges if charge.usage is not None]
    costs = [(charge.bucket, charge.cost_nanos) for charge in charges if charge.cost_nanos is not None]
    by_bucket: defaultdict[str, Nanos] = defaultdict(int)
    for bucket, cost in costs:
        if bucket is not None:
            by_bucket[bucket] += cost
    return TheirCharges(
        usage=added(usages) if usages else None,
        cost_nanos=sum(cost for _, cost in costs) if costs else None,
        rounding_nanos=sum(charge.rounding_nanos for charge in charges),
        by_bucket=dict(by_bucket),
    )


def added(usages: Sequence[Usage]) -> Usage:
    """Add usages, bucket by bucket."""
    return Usage(**{bucket: sum(getattr(usage, bucket) for usage in usages) for bucket in BUCKETS})


def difference(ours: OurCalls | None, theirs: TheirCharges | None) -> Nanos | None:
    """Return theirs less ours; None where the report tells no money."""
    if theirs is None or theirs.cost_nanos is None:
        return None
    return theirs.cost_nanos - (ours.cost_nanos if ours else 0)
