"""Shadowing: which other tier a call is compared on, what its pair is evidence of, and the same call made there.

A call on any tier but the cheapest is compared with the next cheaper one, a call on the cheapest with the frontier; on
tiers between, both may be drawn. The audit's call is charged to accounts of its own, one for each direction, and to
none of the callers'.
"""

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from tierwise.audit.acting import open_line
from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.sampling import Purpose, uniform
from tierwise.audit.verdicts import CHECKED_MARGIN
from tierwise.core.attempts import Attempt
from tierwise.core.calibration import Calibration
from tierwise.core.changes import REMOVED, Change, edit
from tierwise.core.decision import Reason, Why
from tierwise.core.exchange import Exchange
from tierwise.core.planning import Plan, plan
from tierwise.core.policy import Budget, Contract, Policy
from tierwise.core.reserving import Asking, ask
from tierwise.core.tasks import TaskRef
from tierwise.engine.desk import Item, Opened, Reading, cluster_name
from tierwise.money import Nanos
from tierwise.wire.contents import measure
from tierwise.wire.requests import Body

PURPOSE: Final = "audit"
"""Of the audit's calls, in their entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a call would be compared with."""

    own_tier: str
    other_tier: str
    on_dear: bool
    """Whether the call itself is on the dearer tier."""
    key: LineKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """The audit's own call, on its way, alone."""

    opened: Opened
    worst_nanos: Nanos
    """What it sets aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowItem:
    """The audit's own call, as an item of a Message Batch."""

    item: Item
    worst_nanos: Nanos
    """What it sets aside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowTerms:
    """On what terms the audit makes a call."""

    call_id: str
    first_call_id: str
    """Of the caller's."""
    key_id: str
    """Names the credential that pays."""
    limit_nanos: Nanos
    """What the audit may spend today in this direction."""
    at_us: int
    """Now, in microseconds since 1970 UTC."""
    calibration: Calibration


def cluster_of(reading: Reading) -> str | None:
    """Name the run, else the conversation, that a call belongs to, without telling it; None for one alone."""
    return cluster_name(reading.task.run_id, reading.conversation)


def comparable(planned: Plan, body: Body) -> Contract | None:
    """Return the contract of a planned call that may be compared; None of one that may not.

    Only calls whose decision acts are: of one that goes as it was asked, no tier can be told. Neither are threads,
    which lie on one model's server, nor calls that may fall back to another model, nor those whose tools the provider
    runs on other servers or in a container that is there: it would run them twice.
    """
    call, policy = planned.call, planned.policy
    contract = policy.contracts.get(planned.task.type) if planned.task.type is not None else None
    if contract is None or not contract.shadow or contract.cascade:
        return None
    if planned.decision.tier is None or not planned.decision.acts:
        return None
    if call.thread or call.fallbacks or len(policy.tiers) < 2 or not _RUN_ELSEWHERE.isdisjoint(body.fields):
        return None
    return contract


def comparison_of(
    planned: Plan,
    contract: Contract,
    *,
    cluster: str,
    salt: str,
    alarmed: frozenset[str] = frozenset(),
) -> Comparison:
    """Return what a planned call is compared with, if it is; lines in `alarmed` are closed."""
    tier, policy = planned.decision.tier, planned.policy
    assert tier is not None
    names = list(policy.tiers)
    other = _other_tier(tier, names, cluster=cluster, salt=salt)
    on_dear = names.index(tier) < names.index(other)
    dear, cheap = (tier, other) if on_dear else (other, tier)
    key = open_line(line_key(policy, contract, dear=dear, cheap=cheap), alarmed)
    return Comparison(own_tier=tier, other_tier=other, on_dear=on_dear, key=key)


def line_key(policy: Policy, contract: Contract, *, dear: str, cheap: str) -> LineKey:
    """Name the first line of evidence on a type and two tiers, as the policy has them."""
    return LineKey(
        task_type=contract.name,
        dear=_arm(policy, contract, dear),
        cheap=_arm(policy, contract, cheap),
        check_version=_check_version(contract),
    )


def margin_of(contract: Contract) -> float:
    """The loss of quality that counts as none for a type."""
    return CHECKED_MARGIN if contract.margin_points is None else contract.margin_points / 100


def shadow_call(reading: Reading, comparison: Comparison, terms: ShadowTerms) -> Shadow | None:
    """Open the same call on the other tier; None where that cannot take its body."""
    asked = _asked(reading, comparison, terms)
    if asked is None:
        return None
    exchange = Exchange(
        asked,
        prices=reading.book.prices,
        call_id=terms.call_id,
        read_us=terms.at_us,
        key_id=terms.key_id or None,
        purpose=PURPOSE,
        attempt=Attempt(first_call_id=terms.first_call_id),
    )
    opened = Opened(call_id=terms.call_id, body=reading.body, exchange=exchange, keep_tier=lambda _: None)
    return Shadow(opened=opened, worst_nanos=asked.claim.amount_nanos)


def shadow_item(reading: Reading, comparison: Comparison, terms: ShadowTerms) -> ShadowItem | None:
    """Make the same call on the other tier an item of a Message Batch; None where that cannot take its body."""
    call = replace(reading.call, batch=True, stream=False)
    whole = (_UNSTREAMED,) if reading.call.stream else ()
    asked = _asked(replace(reading, call=call), comparison, terms, first=whole)
    if asked is None:
        return None
    item = Item(
        call_id=terms.call_id,
        at_us=terms.at_us,
        body=reading.body,
        asked=asked,
        book=reading.book,
        purpose=PURPOSE,
        first_call_id=terms.first_call_id,
    )
    return ShadowItem(item=item, worst_nanos=asked.claim.amount_nanos)


def can_be_gathered(reading: Reading) -> bool:
    """Whether a call can be made again as an item of a Message Batch, which has no fast mode."""
    return reading.call.speed is None


_UNSTREAMED: Final = edit(("stream",), True, REMOVED, "audit.batch", "The results of a batch come whole.")  # noqa: FBT003 — it was sent


def _asked(
    reading: Reading, comparison: Comparison, terms: ShadowTerms, *, first: tuple[Change, ...] = ()
) -> Asking | None:
    """Plan the call on the other tier, with `first` before all other changes, and say what it asks of the allowance."""
    policy = _own_policy(reading.book.policy, comparison, terms.limit_nanos)
    task = TaskRef(declared=reading.task.declared, type=reading.task.type)
    planned = plan(reading.call, task, policy=policy, kept=None)
    if not isinstance(planned, Plan) or planned.decision.tier != comparison.other_tier:
        return None
    planned = replace(planned, changes=(*first, *planned.changes))
    asked = ask(
        _explained(planned, comparison),
        measure(reading.raw, reading.call),
        call_id=terms.call_id,
        key_id=terms.key_id,
        prices=reading.book.prices,
        at_us=terms.at_us,
        calibration=terms.calibration,
    )
    return asked if isinstance(asked, Asking) else None  # what has no price cannot be held to a limit


_RUN_ELSEWHERE: Final = frozenset({"mcp_servers", "container"})


def _other_tier(tier: str, names: list[str], *, cluster: str, salt: str) -> str:
    place = names.index(tier)
    if place == 0:
        return names[1]
    upwards = uniform(Purpose.DIRECTION, tier, cluster, salt=salt) < 0.5
    return names[0] if place == len(names) - 1 or upwards else names[place + 1]


def _arm(policy: Policy, contract: Contract, name: str) -> Arm:
    tier = policy.tiers[name]
    effort, thinking = contract.effort or tier.effort or "default", contract.thinking or tier.thinking
    return Arm(tier=name, model=tier.model, effort=f"{effort}, thinking {thinking}")


def _check_version(contract: Contract) -> str:
    """Changes with the check, and with the margin that it is held to."""
    asked = "equality" if contract.check is None else contract.check.version
    text = f"{asked} within {margin_of(contract)}"
    return blake2b(text.encode(), digest_size=6).hexdigest()


def _own_policy(policy: Policy, comparison: Comparison, limit_nanos: Nanos) -> Policy:
    """The policy by which the audit's own call is planned and charged."""
    contract = policy.contracts[comparison.key.task_type]
    moved = replace(
        contract,
        tier=comparison.other_tier,
        mode="route",
        budgets=(),
        max_cost_nanos=None,
        downgrade_to=None,
    )
    budget = Budget(
        name=f"audit.{'down' if comparison.on_dear else 'up'}",  # no budget of a policy has a dot in its name
        scope="all",
        limit=limit_nanos,
        window="day",
        warn_at=(),
        when_short=("refuse",),
    )
    return replace(
        policy,
        contracts={**policy.contracts, contract.name: moved},
        budgets=(budget,),
        time_zone="UTC",
        count_near_limit=False,
        when_lost="refuse",
    )


def _explained(planned: Plan, comparison: Comparison) -> Plan:
    sentence = f"The audit compares {comparison.own_tier} with {comparison.other_tier}."
    kept = tuple(reason for reason in planned.decision.reasons if reason.why is Why.CAP)
    reasons = (Reason(why=Why.AUDIT, sentence=sentence), *kept)
    return replace(planned, decision=replace(planned.decision, reasons=reasons))
