"""What a call asks of its budgets, and what becomes of it when they grant less.

A call asks for its worst case. Where an account has less left, the provider is asked to count the prompt, once, where
that may help; then each hard budget's own words are tried in their order. Shrinking lowers the cap to what the rest
pays for, as long as the reply stays useful: not below the contract's `min_tokens` (a quarter of the cap where it has
none), nor below what the model needs to think. Downgrading takes the cheaper tier of the contract, for a
conversation that is new. Queueing waits for money to come back. A call that goes as it was asked is neither shrunk
nor moved.

What a thread holds stands in no body, so that one that goes on asks for its model's whole context window. Where that
is too much, it is refused in the words that have the SDKs send the conversation in full, which its bytes bound.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeAlias, assert_never

from tierwise.core.budgets import AccountRef, Claim, Denied, Lost, Reserved, Shrunk, accounts_of
from tierwise.core.calibration import UNCALIBRATED, Calibration
from tierwise.core.call import UNCAPPED
from tierwise.core.changes import Change
from tierwise.core.decision import Otherwise, Reason, Refusal, Why
from tierwise.core.estimate import Contents, Estimate, estimate
from tierwise.core.planning import Plan, Refused, moved
from tierwise.core.policy import Budget, Contract, cap_floor
from tierwise.core.pricing import PriceBook
from tierwise.money import Nanos, format_usd
from tierwise.values import value


@value
class Asker:
    """What stays the same of a call, however often it asks."""

    call_id: str
    key_id: str
    """Names the caller's credential, without telling it."""
    contents: Contents
    """What its body tells of its size."""
    prices: PriceBook
    at_us: int
    """When it was read, in microseconds since 1970 UTC: settles its windows and prices."""
    is_new: bool
    """Whether its conversation has no tier yet, so that it may be moved."""
    calibration: Calibration


@value
class Asking:
    """A planned call, and the claim that it makes before it may go."""

    plan: Plan
    wanted: Plan
    """As it was planned, before its type's limit lowered its cap."""
    claim: Claim
    estimate: Estimate
    asker: Asker
    counted: int | None = None
    """The prompt's tokens by the provider's count."""
    may_count: bool = False
    """Whether the provider may still be asked to count."""
    shrinks: bool = True
    """Whether the claim may be granted in part."""
    downgraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFirst:
    """Ask the provider to count the prompt, then ask the budgets again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Wait for money to come back, then ask the budgets again."""

    until_us: int


Asked: TypeAlias = Asking | Plan | Refused
"""A plan asks nothing: no budget counts it."""

NextTry: TypeAlias = Asking | CountFirst | Queued | Refused


def is_counted(plan: Plan, key_id: str = "") -> bool:
    """Whether any budget or limit looks at a call of a key: one that is not goes without being measured."""
    contract = plan.policy.contracts.get(plan.task.type) if plan.task.type is not None else None
    if plan.policy.budgets_of(key_id) or (contract is not None and contract.budgets):
        return True
    return plan.decision.acts and contract is not None and contract.max_cost_nanos is not None


def ask(
    plan: Plan,
    contents: Contents,
    *,
    call_id: str,
    key_id: str,
    prices: PriceBook,
    at_us: int,
    is_new: bool = False,
    calibration: Calibration = UNCALIBRATED,
) -> Asked:
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
        is_new: whether its conversation has no tier yet, so that it may be moved.
        calibration: what is known of texts' tokens.
    """
    asker = Asker(
        call_id=call_id,
        key_id=key_id,
        contents=contents,
        prices=prices,
        at_us=at_us,
        is_new=is_new,
        calibration=calibration,
    )
    return _asked(plan, asker, may_count=_countable(plan, contents))


def granted(asking: Asking, outcome: Reserved | Shrunk | Lost) -> Plan | Refused:
    """Return what the call becomes by its budgets' answer: as planned, with a lower cap, or refused."""
    match outcome:
        case Reserved():
            return asking.plan
        case Shrunk(amount_nanos=amount):
            tokens = asking.estimate.most_tokens(amount)
            assert tokens is not None
            sentence = f"Capped at {tokens}: a budget has {format_usd(amount, places=4)} left for this call."
            return _capped(asking.plan, tokens, sentence)
        case Lost(why=why):
            hard = any(account.budget.hard for account in asking.claim.accounts)
            if not hard or asking.plan.policy.when_lost == "allow":
                return asking.plan
            return _refused(asking.plan, _lost(why))
        case other:
            assert_never(other)


def next_try(asking: Asking, denied: Denied, *, at_us: int) -> NextTry:
    """Return what is to be tried after a claim was denied, by the words of the budget that is short.

    Args:
        asking: what was asked.
        denied: the answer.
        at_us: when it came, in microseconds since 1970 UTC.
    """
    if asking.plan.call.continues_thread and denied.account.budget.counts == "usd":
        return _refused(asking.plan, _unbounded(explain(denied)))
    if asking.may_count and _counting_may_help(asking, denied):
        return CountFirst()
    in_money = denied.account.budget.counts == "usd"
    for word in denied.account.budget.when_short:
        match word:
            case "shrink":
                again = _shrinking(asking) if in_money and not asking.shrinks else None
            case "downgrade":
                again = _downgraded(asking) if in_money and not asking.downgraded else None
            case "queue":
                until_us = asking.asker.at_us + asking.plan.policy.queue_for_s * 1_000_000
                again = Queued(until_us=until_us) if at_us < until_us else None
            case "refuse":
                break
            case other:
                assert_never(other)
        if again is not None:
            return again
    return _refused(asking.plan, Refusal(code="budget", sentence=explain(denied)))


def counted(asking: Asking, tokens: int | None) -> Asking | Refused:
    """Return what is asked after the provider has counted the prompt; None where it could not."""
    again = _asked(asking.wanted, asking.asker, counted=tokens)
    assert not isinstance(again, Plan)
    return again


def explain(denied: Denied) -> str:
    """Say to the caller which budget is short: its limit, what is spent and set aside, and when its window ends."""
    account = denied.account
    budget = account.budget
    whose = f" of {budget.scope} {account.value or '(none)'}" if budget.scope != "all" else ""
    ends = "It has no end." if account.ends_us is None else f"Its window ends at {_time(account.ends_us)}."
    if budget.counts == "calls":
        made = denied.posted_nanos + denied.pending_nanos
        return f"The limit {budget.name}{whose} is reached: {made} of {denied.limit} calls are made. {ends}"
    if account.pending_only:
        return (
            f"One key may have {format_usd(denied.limit)} of the budget {budget.name} set aside at once, "
            f"{_exactly(denied.pending_nanos)} is, and this call may cost {_exactly(denied.asked_nanos)}. Some comes "
            "back when calls in flight end."
        )
    return (
        f"The budget {budget.name}{whose} is short: of {format_usd(denied.limit)}, "
        f"{_exactly(denied.posted_nanos)} is spent and {_exactly(denied.pending_nanos)} set aside for calls whose "
        f"cost is not known yet, and this call may cost {_exactly(denied.asked_nanos)}. {ends}"
    )


def _asked(
    plan: Plan,
    asker: Asker,
    *,
    counted: int | None = None,
    may_count: bool = False,
    shrinks: bool | None = None,
    downgraded: bool = False,
) -> Asked:
    """Ask; `shrinks` None takes the budgets' own order."""
    contract = _contract(plan)
    limit = contract.max_cost_nanos if contract is not None else None
    accounts = accounts_of(plan.task, key_id=asker.key_id, policy=plan.policy, at_us=asker.at_us)
    model = plan.decision.model if plan.decision.acts else plan.call.requested_model
    bound = estimate(
        plan.call,
        asker.contents,
        model=model,
        prices=asker.prices,
        at_us=asker.at_us,
        calibration=asker.calibration if plan.policy.prompt_bound == "calibrated" else UNCALIBRATED,
        counted=counted,
    )
    uncapped = plan.decision.max_tokens == UNCAPPED and plan.call.family == "openai"
    if bound is None or uncapped:
        hard = limit is not None or any(account.budget.hard for account in accounts)
        if not hard:
            return plan
        return _refused(plan, _unpriced(model) if bound is None else _uncapped(plan))
    least = _least_tokens(plan, contract)
    wanted = plan
    if limit is not None:
        within = _within(plan, bound, limit, least)
        if isinstance(within, Refused):
            return within
        plan = within
    if not accounts:
        return plan
    if shrinks is None:
        whole = (
            not plan.call.continues_thread
        )  # to shorten a reply for a prompt of unknown length helps nobody
        shrinks = whole and not may_count and all(_shrinks_first(account.budget) for account in accounts)
    claim = _claim(plan, accounts, bound, least if shrinks else plan.max_tokens_sent, asker.call_id)
    return Asking(
        plan=plan,
        wanted=wanted,
        claim=claim,
        estimate=bound,
        asker=asker,
        counted=counted,
        may_count=may_count,
        shrinks=shrinks,
        downgraded=downgraded,
    )


def _shrinks_first(budget: Budget) -> bool:
    """Whether a budget leaves a call less before it tries anything else; one that only warns is never short."""
    return not budget.hard or budget.counts == "calls" or budget.when_short[0] == "shrink"


def _countable(plan: Plan, contents: Contents) -> bool:
    """Whether the provider counts such a prompt, and will read no more: what a thread holds, it counts for nobody."""
    call = plan.call
    grows = call.continues_thread or call.tool_types or call.fallbacks or contents.grows
    return plan.policy.count_near_limit and not grows


def _counting_may_help(asking: Asking, denied: Denied) -> bool:
    """Whether the smallest useful reply would fit if the prompt had the fewest tokens that its bytes allow."""
    if denied.account.budget.counts == "calls":
        return False
    shrinks = all("shrink" in account.budget.when_short for account in _hard(asking))
    wanted = asking.wanted
    least = _least_tokens(wanted, _contract(wanted)) if shrinks else asking.plan.max_tokens_sent
    contents, bound = asking.asker.contents, asking.estimate
    # Of images and documents, bytes say nothing: their prompt may have next to no tokens.
    prompt = bound.fixed_attos // _MOST_BYTES_PER_TOKEN if contents.plain else 0
    return replace(bound, fixed_attos=prompt).cost_nanos(least) <= denied.left


_MOST_BYTES_PER_TOKEN: Final = 16


def _shrinking(asking: Asking) -> Asking | None:
    if not all("shrink" in account.budget.when_short for account in _hard(asking)):
        return None
    again = _asked(
        asking.wanted,
        asking.asker,
        counted=asking.counted,
        shrinks=True,
        downgraded=asking.downgraded,
    )
    return again if isinstance(again, Asking) else None


def _hard(asking: Asking) -> list[AccountRef]:
    """The accounts that can be short of money."""
    return [ref for ref in asking.claim.accounts if ref.budget.hard and ref.budget.counts == "usd"]


def _downgraded(asking: Asking) -> Asking | None:
    """The same call on the cheaper tier that its contract names; None where it cannot be moved there."""
    plan = asking.plan
    contract = _contract(plan)
    if contract is None or contract.downgrade_to is None or not asking.asker.is_new:
        return None
    if plan.decision.tier == contract.downgrade_to:
        return None
    sentence = f"A budget is short, and the contract of {contract.name} allows {contract.downgrade_to}."
    why = Reason(why=Why.BUDGET, sentence=sentence)
    there = moved(plan, Otherwise(tier=contract.downgrade_to, why=why))
    if there is None:
        return None
    again = _asked(there, asking.asker, downgraded=True)
    return again if isinstance(again, Asking) else None


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
    if plan.call.continues_thread:
        return _refused(plan, _unbounded(_too_dear(plan, bound.cost_nanos(cap), limit).sentence))
    if tokens is None or tokens < least:
        return _refused(plan, _too_dear(plan, bound.cost_nanos(least), limit))
    return _capped(plan, tokens, f"Capped at {tokens}: one call may cost {format_usd(limit)}.")


def _claim(plan: Plan, accounts: tuple[AccountRef, ...], bound: Estimate, least: int, call_id: str) -> Claim:
    return Claim(
        call_id=call_id,
        accounts=accounts,
        amount_nanos=bound.cost_nanos(plan.max_tokens_sent),
        least_nanos=bound.cost_nanos(least),
    )


def _capped(plan: Plan, tokens: int, sentence: str) -> Plan:
    """The plan with a lower cap, and the reason for it."""
    change = Change(
        path=plan.call.cap_path,
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


def _lost(why: str) -> Refusal:
    return Refusal(
        code="budget-store",
        sentence=f"Nobody knows now what the budgets have left, and so this call was not sent: {why}",
    )


def _unpriced(model: str) -> Refusal:
    return Refusal(
        code="unpriced",
        sentence=f"{model} has no price, and a budget cannot hold what it cannot count: give it a price in "
        "[[prices]] of the policy, or call another model.",
    )


def _uncapped(plan: Plan) -> Refusal:
    return Refusal(
        code="unpriced",
        sentence=f"Nothing says how long the reply may become, and a budget cannot hold what it cannot count: send "
        f"{plan.call.cap_path[-1]}, or give the task type max_tokens, or its tier, in [openai.tiers.NAME].",
    )


def _unbounded(sentence: str) -> Refusal:
    whole = (
        "What a thread holds is taken for the model's whole context window: send the conversation in full."
    )
    return Refusal(code="thread", sentence=f"{sentence} {whole}")


def _too_dear(plan: Plan, least_nanos: Nanos, limit: Nanos) -> Refusal:
    return Refusal(
        code="too-dear",
        sentence=f"One call of {plan.task.type} may cost {format_usd(limit)} (max_cost_usd), and this one up to "
        f"{_exactly(least_nanos)}: make its prompt shorter, or raise the limit.",
    )
