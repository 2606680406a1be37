"""A plain fold over entries, written for reading and not for speed: what every store's summary must agree with."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tierwise.core.budgets import Balance, amount_on, cost_on
from tierwise.core.ledger import (
    Acted,
    Batched,
    Checked,
    Decided,
    Declared,
    Entry,
    Failed,
    Graded,
    Outcome,
    Paired,
    Posted,
    SetAside,
    Settled,
    ToppedUp,
)
from tierwise.stores.ledger.reports import By, Totals
from tierwise.usage import Usage

NOTHING = Totals(
    calls=0,
    finished=0,
    failed=0,
    open=0,
    unknown_cost=0,
    cost_nanos=0,
    at_least_nanos=0,
    at_frontier_nanos=None,
    as_asked_nanos=None,
    as_decided_nanos=None,
    input_tokens=0,
    cache_read_tokens=0,
    cache_write_tokens=0,
    output_tokens=0,
    truncated=0,
    truncation_waste_nanos=0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What the entries come to."""

    lines: Mapping[By, Mapping[str, Totals]]
    unknown_types: Mapping[str, int]
    balances: Mapping[str, Balance]
    open: Mapping[str, bool]
    """By call, whether it has ended."""


@dataclass(slots=True)
class _Call:
    decided: Decided
    set_aside: SetAside | None = None
    ending: Posted | Failed | None = None
    settled: Settled | None = None

    @property
    def cost(self) -> int | None:
        known = None if self.ending is None else self.ending.cost_nanos
        return known if known is not None or self.settled is None else self.settled.cost_nanos


def folded(entries: Iterable[Entry]) -> Folded:
    """Fold entries whose calls hold the laws."""
    calls: dict[str, _Call] = {}
    top_ups: list[ToppedUp] = []
    for entry in entries:
        match entry:
            case Decided():
                calls[entry.call_id] = _Call(entry)
            case SetAside():
                calls[entry.call_id].set_aside = entry
            case Posted() | Failed():
                calls[entry.call_id].ending = entry
            case Settled():
                calls[entry.call_id].settled = entry
            case Paired() | Graded() | Declared() | Acted() | Checked() | Outcome():
                pass
            case ToppedUp():
                top_ups.append(entry)
            case Batched():
                pass
    unknown: dict[str, int] = {}
    for call in calls.values():
        if call.decided.unknown_type is not None:
            unknown[call.decided.unknown_type] = unknown.get(call.decided.unknown_type, 0) + 1
    return Folded(
        lines={by: _lines(calls.values(), key) for by, key in _KEYS.items()},
        unknown_types=unknown,
        balances=_balances(calls.values(), top_ups),
        open={
            call_id: call.ending is not None
            for call_id, call in calls.items()
            if call.set_aside is not None and call.cost is None
        },
    )


def _lines(calls: Iterable[_Call], key: Callable[[_Call], str]) -> dict[str, Totals]:
    lines: dict[str, Totals] = {}
    for call in calls:
        lines[key(call)] = _plus(lines.get(key(call), NOTHING), _totals(call))
    return lines


_DAYS = ("1970-01-01", "1970-01-02", "1970-01-03", "1970-01-04")

_KEYS: dict[By, Callable[[_Call], str]] = {
    "type": lambda call: call.decided.task_type or "(undeclared)",
    "agent": lambda call: call.decided.agent or "(none)",
    "run": lambda call: call.decided.run_id or "(none)",
    "model": lambda call: (call.ending and call.ending.served_model) or "(no reply)",
    "tier": lambda call: (
        "(none)" if not call.decided.tier else call.decided.tier if call.decided.acts else "(as asked)"
    ),
    "key": lambda call: call.decided.key_id or "(none)",
    "day": lambda call: _DAYS[call.decided.at_us // 86_400_000_000],
}


def _totals(call: _Call) -> Totals:
    totals = replace(NOTHING, calls=1)
    if call.ending is None:
        return replace(totals, open=1, cost_nanos=call.cost or 0)
    usage = call.ending.usage or Usage()
    totals = replace(
        totals,
        unknown_cost=int(call.cost is None),
        cost_nanos=call.cost or 0,
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
    )
    if isinstance(call.ending, Failed):
        at_least = call.ending.at_least_nanos or 0
        return replace(totals, failed=1, at_least_nanos=at_least if call.cost is None else 0)
    cut = call.ending.stop_reason == "max_tokens"
    return replace(
        totals,
        finished=1,
        at_frontier_nanos=call.ending.at_frontier_nanos,
        as_asked_nanos=call.ending.as_asked_nanos,
        as_decided_nanos=call.ending.as_decided_nanos,
        truncated=int(cut),
        truncation_waste_nanos=(call.cost or 0) if cut else 0,
    )


def _plus(some: Totals, more: Totals) -> Totals:
    sums: dict[str, Any] = {
        name: _sum(getattr(some, name), getattr(more, name)) for name in Totals.__dataclass_fields__
    }
    return Totals(**sums)


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


@dataclass(slots=True)
class _Amounts:
    amounts: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self.amounts[name] = self.amounts.get(name, 0) + amount


def _balances(calls: Iterable[_Call], top_ups: Iterable[ToppedUp]) -> dict[str, Balance]:
    accounts: dict[str, _Amounts] = {}
    for call in calls:
        if call.set_aside is None:
            continue
        for key in call.set_aside.accounts:
            account = accounts.setdefault(key, _Amounts())
            amount = amount_on(key, call.set_aside.reserved_nanos)
            account.add(reserved_nanos=amount)
            if call.cost is None:
                account.add(pending_nanos=amount)
                continue
            cost = cost_on(key, call.cost)
            account.add(
                posted_nanos=cost,
                released_nanos=max(0, amount - cost),
                overrun_nanos=max(0, cost - amount),
            )
    for entry in top_ups:
        accounts.setdefault(entry.account, _Amounts()).add(topped_up_nanos=entry.amount_nanos)
    return {key: Balance(**account.amounts) for key, account in accounts.items()}
