"""Cascades: a reply of the cheaper tier that fails its type's check is made again on the contract's own tier.

The caller sees one reply. The second attempt is a call of its own; where it fails, the first one's reply is passed on.
"""

from dataclasses import replace

from tierwise.core.attempts import Attempt, TryAgain, next_attempt
from tierwise.core.checks import Check
from tierwise.core.decision import Otherwise, Reason, Why
from tierwise.core.planning import Plan, moved


def check_of(plan: Plan, attempt: Attempt) -> Check | None:
    """Return the check that a whole reply has to pass; None where nothing follows from it."""
    contract = plan.policy.contracts.get(plan.task.type or "")
    if contract is None or not contract.cascade or not plan.decision.acts or not attempt.lengthens:
        return None
    if plan.call.stream or plan.call.thread or plan.decision.tier == contract.tier:
        return None
    return contract.check


def after_check(*, plan: Plan, attempt: Attempt, call_id: str, at_us: int) -> TryAgain | None:
    """Return the attempt that follows a reply which failed the check of its cascade; None where it is passed on.

    That is where the type's own tier does not take the body.

    Args:
        plan: what it was sent as: `check_of` has a check for it.
        attempt: which attempt it was.
        call_id: the call's.
        at_us: when it ended.
    """
    tier = plan.policy.contracts[plan.task.type or ""].tier
    sentence = f"The reply of {plan.decision.tier} failed its check: once more on {tier}."
    there = moved(plan, Otherwise(tier=tier, why=Reason(why=Why.ATTEMPT, sentence=sentence)))
    if there is None:
        return None
    again = replace(next_attempt(attempt, call_id), lengthens=False)
    return TryAgain(at_us=at_us, plan=there, attempt=again, lengthens=True)
