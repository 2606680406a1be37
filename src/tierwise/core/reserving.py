"""What a call asks of its budgets, and what becomes of it when they grant less.

A call asks for its worst case. Where an account has less left, the cap is lowered to what the rest pays for, as
long as the reply stays useful: not below the contract's `min_tokens` (a quarter of the cap where it has none), nor
below what the model needs to think. A call that goes as it was asked is never shrunk, only refused.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias, assert_never

from tierwise.core.budgets import AccountRef, Claim, Denied, Outcome, Reserved, Shrunk, accounts_of
from tierwise.core.changes import Change
from tierwise.core.decision import Reason, Refusal, Why
from tierwise.core.estimate import Contents, Estimate, estimate
from tierwise.core.planning import Plan, Refused
from tierwise.core.policy import Contract, cap_floor
from tierwise.core.pricing import PriceBook
from tierwise.money import Nanos, format_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A planned call, and the claim that it makes before it may go."""

    plan: Plan
    claim: Claim
    estimate: Estimate


Asked: TypeAlias = Asking | Plan | Refused
"""A plan asks nothing: no budget counts it."""


def is_counted(plan: Plan) -> bool:
    """Whether any budget or limit looks at a call: one that is not goes without being measured."""
    contract = _contract(plan)
    return bool(plan.policy.budgets) or (contract is not None and contract.max_cost_nanos is not None)


def ask(plan: Plan, contents: Contents, *, call_id: str, key_id: str, prices: PriceBook, at_us: int) -> Asked:
    """Bound what a planned call may cost, and say what it asks of its accounts: for calls that are counted.

    A call whose model has no price is refused under a hard budget, for nobody knows what it would spend; so is one
    whose worst case is above its contract's `max_cost_usd`, where no useful cap brings it below.

    Args:
        plan: what the call would be sent as.
        contents: what its body tells of its size.
        call_id: names its reservation.
        key_id: names the caller's credential, without telling it.
        prices: what tokens cost.
        at_us: when the call was read, in microseconds since 1970 UTC.
    """
    contract = _contract(plan)
    limit = contract.max_cost_nanos if contract is not None else None
    budgets = plan.policy.budgets
    model = plan.decision.model if plan.decision.acts else plan.call.requested_model
    bound = estimate(plan.call, contents, model=model, prices=prices, at_us=at_us)
    if bound is None:
        hard = limit is not None or any(budget.hard for budget in budgets)
        return _refused(plan, _unpriced(model)) if hard else plan
    least = _least_tokens(plan, contract)
    if limit is not None:
        within = _within(plan, bound, limit, least)
        if isinstance(within, Refused):
            return within
        plan = within
    if not budgets:
        return plan
    accounts = accounts_of(plan.task, key_id=key_id, policy=plan.policy, at_us=at_us)
    return Asking(plan=plan, claim=_claim(plan, accounts, bound, least, call_id), estimate=bound)


def granted(asking: Asking, outcome: Outcome) -> Plan | Refused:
    """Return what the call becomes by its budgets' answer: as planned, with a lower cap, or refused."""
    match outcome:
        case Reserved():
            return asking.plan
        case Shrunk(amount_nanos=amount):
            tokens = asking.estimate.most_tokens(amount)
            assert tokens is not None
            sentence = f"Capped at {tokens}: a budget has {format_usd(amount, places=4)} left for this call."
            return _capped(asking.plan, tokens, sentence)
        case Denied() as denied:
            return _refused(asking.plan, Refusal(code="budget", sentence=explain(denied)))
        case other:
            assert_never(other)


def explain(denied: Denied) -> str:
    """Say to the caller which budget is short: its limit, what is spent and set aside, and when its window ends."""
    account = denied.account
    budget = account.budget
    whose = f" of {budget.scope} {account.value or '(none)'}" if budget.scope != "all" else ""
    ends = "It has no end." if account.ends_us is None else f"Its window ends at {_time(account.ends_us)}."
    return (
        f"The budget {budget.name}{whose} is short: of {format_usd(budget.limit_nanos)}, "
        f"{_exactly(denied.posted_nanos)} is spent and {_exactly(denied.pending_nanos)} set aside for calls whose "
        f"cost is not known yet, and this call may cost {_exactly(denied.asked_nanos)}. {ends}"
    )


def _exactly(nanos: Nanos) -> str:
    return format_usd(nanos, places=4)


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _contract(plan: Plan) -> Contract | None:
    """The contract that acts on the call; None where it goes as it was asked."""
    return plan.policy.contracts[plan.task.type] if plan.decision.acts and plan.task.type else None


def _least_tokens(plan: Plan, contract: Contract | None) -> int:
    """The smallest cap that the call may be sent with."""
    cap = plan.max_tokens_sent
    if contract is None or plan.decision.tier is None:
        return cap
    useful = contract.min_tokens if contract.min_tokens is not None else -(-cap // _USEFUL_PART)
    room_to_think = cap_floor(plan.policy.tiers[plan.decision.tier], contract)
    return min(cap, max(useful, room_to_think, _thinking_budget(plan) + 1))


_USEFUL_PART: Final = 4


def _thinking_budget(plan: Plan) -> int:
    """The thinking budget that is sent, which fitting may have set; 0 where there is none."""
    for change in plan.changes:
        match change:
            case Change(path=("thinking", "budget_tokens"), after=after):
                return after if isinstance(after, int) else 0
            case Change(path=("thinking",), after={"budget_tokens": int(budget)}):
                return budget
            case Change(path=("thinking",)):
                return 0
            case _:
                continue
    return plan.call.thinking_budget or 0


def _within(plan: Plan, bound: Estimate, limit: Nanos, least: int) -> Plan | Refused:
    """The call with a cap that keeps it below its contract's `max_cost_usd`."""
    cap = plan.max_tokens_sent
    if bound.cost_nanos(cap) <= limit:
        return plan
    tokens = bound.most_tokens(limit)
    if tokens is None or tokens < least:
        return _refused(plan, _too_dear(plan, bound.cost_nanos(least), limit))
    return _capped(plan, tokens, f"Capped at {tokens}: one call may cost {format_usd(limit)}.")


def _claim(plan: Plan, accounts: tuple[AccountRef, ...], bound: Estimate, least: int, call_id: str) -> Claim:
    cap = plan.max_tokens_sent
    shrinks = all("shrink" in account.budget.when_short for account in accounts if account.budget.hard)
    return Claim(
        call_id=call_id,
        accounts=accounts,
        amount_nanos=bound.cost_nanos(cap),
        least_nanos=bound.cost_nanos(least if shrinks else cap),
    )


def _capped(plan: Plan, tokens: int, sentence: str) -> Plan:
    """The plan with a lower cap, and the reason for it."""
    change = Change(
        path=("max_tokens",),
        before=plan.call.max_tokens,
        after=tokens,
        rule="budget.max_tokens",
        why="What a budget or a limit leaves for the call.",
    )
    others = tuple(other for other in plan.changes if other.path != change.path)
    decision = replace(
        plan.decision,
        max_tokens=tokens,
        reasons=(*plan.decision.reasons, Reason(why=Why.BUDGET, sentence=sentence)),
    )
    return replace(plan, decision=decision, changes=(*others, change))


def _refused(plan: Plan, refusal: Refusal) -> Refused:
    return Refused(call=plan.call, task=plan.task, refusal=refusal, policy=plan.policy)


def _unpriced(model: str) -> Refusal:
    return Refusal(
        code="unpriced",
        sentence=f"{model} has no price, and a budget cannot hold what it cannot count: give it a price in "
        "[[prices]] of the policy, or call another model.",
    )


def _too_dear(plan: Plan, least_nanos: Nanos, limit: Nanos) -> Refusal:
    return Refusal(
        code="too-dear",
        sentence=f"One call of {plan.task.type} may cost {format_usd(limit)} (max_cost_usd), and this one up to "
        f"{_exactly(least_nanos)}: make its prompt shorter, or raise the limit.",
    )
