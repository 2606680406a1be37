"""What one call is sent as: its task named, a tier decided, the body fitted; or why it cannot go on.

A tier whose model cannot take the body is barred, and the decision made again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tierwise.core.call import Call
from tierwise.core.catalog import find
from tierwise.core.decision import Decision, Reason, Refusal, Why
from tierwise.core.fitting import Change, Fitted, Ineligible, fit
from tierwise.core.policy import Policy
from tierwise.core.routing import decide
from tierwise.core.tasks import TaskRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A call that goes on: what to send, and everything that the ledger says of it."""

    call: Call
    task: TaskRef
    decision: Decision
    changes: tuple[Change, ...]
    """Edits of the body; empty where it goes out byte for byte."""
    policy: Policy

    @property
    def max_tokens_sent(self) -> int:
        """The cap that goes on the wire."""
        return self.decision.max_tokens if self.decision.acts else self.call.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A call that does not go on."""

    call: Call
    task: TaskRef
    refusal: Refusal
    policy: Policy


def plan(call: Call, task: TaskRef, *, policy: Policy, kept: str | None) -> Plan | Refused:
    """Decide and fit one call. The same arguments give the same plan.

    Args:
        call: what routing may know of the request.
        task: the task it belongs to.
        policy: the contracts and tiers.
        kept: name of the tier that the call's conversation already has.
    """
    barred: dict[str, str] = {}
    while True:
        decision = decide(call, task, policy=policy, kept=kept, barred=barred)
        if decision is None:
            return Refused(call=call, task=task, refusal=_no_tier(barred), policy=policy)
        if isinstance(decision, Refusal):
            return Refused(call=call, task=task, refusal=decision, policy=policy)
        if decision.tier is None:
            return Plan(call=call, task=task, decision=decision, changes=(), policy=policy)
        match _fitted(call, decision):
            case Fitted(changes=changes):
                return Plan(
                    call=call,
                    task=task,
                    decision=_explained(decision, barred),
                    changes=changes if decision.acts else (),
                    policy=policy,
                )
            case Ineligible(why=why):
                barred[decision.tier] = why


def _fitted(call: Call, decision: Decision) -> Fitted | Ineligible:
    """Fit the body; a model that the catalogue lacks is trusted with everything but its name and cap."""
    model = find(decision.model)
    if model is not None:
        return fit(call, model=model, decision=decision)
    changes = [_change("model", call.requested_model, decision.model)]
    if decision.max_tokens != call.max_tokens:
        changes.append(_change("max_tokens", call.max_tokens, decision.max_tokens))
    return Fitted(changes=tuple(changes))


def _change(name: str, before: str | int, after: str | int) -> Change:
    return Change(path=(name,), before=before, after=after, rule=name, why="As decided.")


def _explained(decision: Decision, barred: Mapping[str, str]) -> Decision:
    """Say of each tier that was passed over why."""
    if not barred:
        return decision
    passed_over = tuple(
        Reason(why=Why.INELIGIBLE, sentence=f"The tier {tier} cannot take this body: {why}")
        for tier, why in barred.items()
    )
    return replace(decision, reasons=(*decision.reasons, *passed_over))


def _no_tier(barred: Mapping[str, str]) -> Refusal:
    each = " ".join(f"{tier}: {why}" for tier, why in barred.items())
    return Refusal(code="ineligible", sentence=f"No tier of the policy takes this body. {each}")
