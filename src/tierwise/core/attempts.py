"""Attempts: whether one request is tried again after a failure or a cut reply, as what, and when.

Each attempt is a call of its own, with its own reservation and its own entries; the caller sees one reply.

A call that failed before its reply began goes again to the same tier: to the policy's next address at once, or to one
that was tried already after a wait, the provider's own or else half a second, doubled each time up to eight, with up
to a quarter taken off by lot. What may have been billed, a dropped connection or a provider that was silent for too
long, is tried again too, and its reservation is kept at its worst case; a policy may leave the silent ones out. Where
its own tier keeps failing, a new conversation may go to the tier that its contract names as fallback.

A whole reply that was cut by its cap is tried once more with a larger one, where its contract says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from typing import Final, Literal, TypeAlias

from tierwise.core.catalog import converted, find
from tierwise.core.decision import Otherwise, Reason, Why
from tierwise.core.lengths import UNKNOWN_LENGTHS, Lengths
from tierwise.core.planning import Plan, moved
from tierwise.core.policy import Contract, Policy, Upstream
from tierwise.core.pricing import PriceBook
from tierwise.usage import Metered, Usage
from tierwise.values import maker, value


@value
class Attempt:
    """Which attempt at a request a call is, and what may follow."""

    number: int = 1
    first_call_id: str | None = None
    """None for a first one."""
    tries_again: bool = False
    """Whether anybody will make another attempt: not where the caller's own library does."""
    retries: int = 0
    """How many more may be made on this tier."""
    until_us: int = 0
    """No retry begins later, in microseconds since 1970 UTC; a timeout puts it off by the silence before it."""
    is_new: bool = False
    """Whether its conversation had no tier before the request, so that it may be moved."""
    lengthens: bool = False
    """Whether a cut reply may be tried again with a larger cap."""
    lengths: Lengths = UNKNOWN_LENGTHS


ONLY: Final = Attempt()
"""The only attempt: nothing follows it."""


def first_attempt(upstream: Upstream, *, at_us: int, is_new: bool, lengths: Lengths) -> Attempt:
    """Return the first attempt at a request that was read at `at_us`."""
    return _make_attempt(
        tries_again=True,
        retries=upstream.retries,
        until_us=at_us + upstream.retry_for_s * 1_000_000,
        is_new=is_new,
        lengthens=True,
        lengths=lengths,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a call failed before its reply began."""

    error: Literal["unreachable", "dropped", "timeout", "status"]
    status: int | None = None
    """HTTP status of a reply that is an error."""
    should_retry: bool | None = None
    """The provider's own word on another try; None where it has none."""
    wait_us: int | None = None
    """How long the provider asks to wait; None where it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Make another attempt at the request, in place of passing anything on to its caller."""

    at_us: int
    """When, in microseconds since 1970 UTC."""
    plan: Plan
    attempt: Attempt
    lengthens: bool = False
    """Whether it is for the sake of a longer or a better reply: the one that there is is passed on where it fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """It was tried as often, or for as long, as it may be: its caller need not go on."""


Next: TypeAlias = TryAgain | Spent | None


def after_failure(failure: Failure, *, plan: Plan, attempt: Attempt, call_id: str, at_us: int) -> Next:
    """Return what follows a call that failed before its reply began; None passes the failure on as it is.

    Args:
        failure: how it failed.
        plan: what it was sent as, before a budget lowered its cap.
        attempt: which attempt it was.
        call_id: the call's; also the lot by which its wait is drawn.
        at_us: when it failed.
    """
    upstream = plan.policy.upstream
    if not attempt.tries_again or not _is_worth_it(failure, upstream):
        return None
    if failure.error == "timeout":
        silence_us = round(upstream.read_timeout_s * 1_000_000)
        attempt = replace(attempt, until_us=attempt.until_us + silence_us)
    wait_us = _wait_us(failure, attempt.number, upstream, call_id)
    waits = at_us + wait_us <= attempt.until_us
    if attempt.retries and waits:
        sentence = f"Attempt {attempt.number + 1}: {_told(failure)}."
        reasons = (*plan.decision.reasons, Reason(why=Why.ATTEMPT, sentence=sentence))
        again = replace(plan, decision=replace(plan.decision, reasons=reasons))
        return TryAgain(at_us=at_us + wait_us, plan=again, attempt=next_attempt(attempt, call_id))
    fallback = _fallback(failure, plan, attempt, call_id, at_us)
    if fallback is not None:
        return fallback
    asks_longer = failure.wait_us is not None and attempt.retries > 0
    return None if attempt.number == 1 or asks_longer else Spent()


def after_cut(
    metered: Metered, *, plan: Plan, attempt: Attempt, call_id: str, prices: PriceBook, at_us: int
) -> TryAgain | None:
    """Return the attempt that follows a whole reply which its cap cut; None where it is passed on.

    Args:
        metered: what the reply consumed.
        plan: what it was sent as.
        attempt: which attempt it was.
        call_id: the call's.
        prices: what tokens cost.
        at_us: when it ended.
    """
    contract = plan.policy.contracts.get(plan.task.type or "")
    tier = plan.decision.tier
    if not attempt.lengthens or not plan.decision.acts or contract is None or tier is None:
        return None
    if contract.on_truncation == "return" or plan.call.stream or plan.call.thread:
        return None
    raised = _raised(plan, contract, tier)
    if raised is None:
        return None
    chosen = raised
    stronger = _stronger(plan.policy, tier) if contract.on_truncation == "escalate" else None
    if stronger is not None and len(metered.lines) == 1:
        escalated = _raised(plan, contract, stronger)
        if escalated is not None and _is_cheaper(
            escalated,
            raised,
            metered=metered,
            cap=plan.max_tokens_sent,
            attempt=attempt,
            prices=prices,
            at_us=at_us,
        ):
            chosen = escalated
    again = replace(next_attempt(attempt, call_id), lengthens=False)
    return TryAgain(at_us=at_us, plan=chosen, attempt=again, lengthens=True)


RETRIED_STATUSES: Final = frozenset((429, 500, 502, 503, 504, 529))
"""Errors that pass. https://platform.claude.com/docs/en/api/errors"""

_FAILING_STATUSES: Final = RETRIED_STATUSES - {429}


def _is_worth_it(failure: Failure, upstream: Upstream) -> bool:
    match failure.error:
        case "timeout":
            return upstream.retry_timeouts
        case "status":
            known = failure.status in RETRIED_STATUSES
            return known if failure.should_retry is None else failure.should_retry
        case _:
            return True


_FIRST_WAIT_US: Final = 500_000
_LONGEST_WAIT_US: Final = 8_000_000
_LARGEST_POWER: Final = 4


def _wait_us(failure: Failure, number: int, upstream: Upstream, call_id: str) -> int:
    """How long to wait: an address that was not tried yet owes nobody a pause."""
    rounds, rest = divmod(number, upstream.addresses)
    if rest:
        return 0
    if failure.wait_us is not None:
        return failure.wait_us
    wait_us = min(_LONGEST_WAIT_US, _FIRST_WAIT_US * 2 ** min(rounds - 1, _LARGEST_POWER))
    return wait_us - wait_us * sha256(call_id.encode()).digest()[0] // 1024


def _told(failure: Failure) -> str:
    match failure.error:
        case "status":
            return f"the provider answered {failure.status}"
        case "timeout":
            return "the provider did not answer in time"
        case "dropped":
            return "the connection broke before a reply"
        case _:
            return "the provider could not be reached"


def next_attempt(attempt: Attempt, call_id: str) -> Attempt:
    """Count one attempt more."""
    return replace(
        attempt,
        number=attempt.number + 1,
        first_call_id=attempt.first_call_id or call_id,
        retries=max(0, attempt.retries - 1),
    )


def _fallback(failure: Failure, plan: Plan, attempt: Attempt, call_id: str, at_us: int) -> TryAgain | None:
    """The same call, at once, on the tier that its contract names; None where it has none, or may not be moved."""
    contract = plan.policy.contracts.get(plan.task.type or "")
    tier = contract.fallback if contract is not None and plan.decision.acts and attempt.is_new else None
    failing = failure.error == "status" and failure.status in _FAILING_STATUSES
    if tier is None or tier == plan.decision.tier or not failing or at_us > attempt.until_us:
        return None
    sentence = f"Attempt {attempt.number + 1}, on the fallback: {_told(failure)} for {plan.decision.model}."
    there = moved(plan, Otherwise(tier=tier, why=Reason(why=Why.ATTEMPT, sentence=sentence)))
    if there is None:
        return None
    return TryAgain(at_us=at_us, plan=there, attempt=replace(next_attempt(attempt, call_id), retries=0))


_RAISED_TIMES: Final = 4
"""A cap is raised to so many times what it was, at most."""


def _raised(plan: Plan, contract: Contract, tier: str) -> Plan | None:
    """The plan on a tier with a larger cap; None where the caller, or the model, leaves no room for one."""
    cap = plan.max_tokens_sent
    wanted = min(plan.call.max_tokens, _RAISED_TIMES * cap)
    sentence = f"The reply was cut at {cap} tokens: once more on {tier}, with up to {wanted}."
    why = Reason(why=Why.ATTEMPT, sentence=sentence)
    raised = moved(plan, Otherwise(tier=tier, max_tokens=wanted, why=why))
    if raised is None or raised.max_tokens_sent <= cap:
        return None
    # A budget that leaves no more than the old cap leaves nothing that is worth another call.
    least = replace(contract, min_tokens=max(contract.min_tokens or 0, cap + 1))
    contracts: Mapping[str, Contract] = {**plan.policy.contracts, contract.name: least}
    return replace(raised, policy=replace(plan.policy, contracts=contracts))


def _stronger(policy: Policy, tier: str) -> str | None:
    """The next stronger tier; None where there is none."""
    names = list(policy.tiers)
    at = names.index(tier)
    return names[at - 1] if at else None


def _is_cheaper(
    escalated: Plan,
    raised: Plan,
    *,
    metered: Metered,
    cap: int,
    attempt: Attempt,
    prices: PriceBook,
    at_us: int,
) -> bool:
    """Whether a whole reply is expected to cost less on the stronger tier; not where either is unknown."""
    above = _expected(escalated, metered, cap=cap, attempt=attempt, prices=prices, at_us=at_us)
    here = _expected(raised, metered, cap=cap, attempt=attempt, prices=prices, at_us=at_us)
    return above is not None and here is not None and above < here


_NEVER: Final = Fraction(10**30)
"""More than anything costs, in nanodollars."""


def _expected(
    plan: Plan, metered: Metered, *, cap: int, attempt: Attempt, prices: PriceBook, at_us: int
) -> Fraction | None:
    """What a whole reply costs as planned, in nanodollars: the cost of a try over the share of tries that end.

    The prompt's cache is warm on the model that has just read it, and cold on any other.
    """
    assert plan.task.type is not None
    model = plan.decision.model
    found = attempt.lengths.beyond(plan.task.type, model, cap=cap, raised=plan.max_tokens_sent)
    if found is None:
        return None
    (line,) = metered.lines
    warm = model == line.model
    usage = replace(
        _read(line.usage) if warm else _written(line.usage, line.model, model),
        output_tokens=round(found.tokens),
    )
    cost = prices.cost(Metered(lines=(replace(line, model=model, usage=usage),)), at_us)
    if cost is None:
        return None
    return Fraction(cost) / found.whole if found.whole else _NEVER


def _read(usage: Usage) -> Usage:
    """A prompt whose cache is warm."""
    cached = usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
    return replace(usage, cache_read_tokens=cached, cache_write_5m_tokens=0, cache_write_1h_tokens=0)


def _written(usage: Usage, source: str, target: str) -> Usage:
    """A prompt whose cache is cold: what was read there is written here."""
    here, there = find(source), find(target)

    def tokens(count: int) -> int:
        return count if here is None or there is None else converted(count, source=here, target=there)

    return replace(
        usage,
        input_tokens=tokens(usage.input_tokens),
        cache_read_tokens=0,
        cache_write_5m_tokens=tokens(usage.cache_write_5m_tokens + usage.cache_read_tokens),
        cache_write_1h_tokens=tokens(usage.cache_write_1h_tokens),
    )


_make_attempt: Final = maker(Attempt)
