"""What one call is sent as: its task named, a tier decided, the body fitted; or why it cannot go on.

A tier whose model cannot take the body is barred, and the decision made again.
"""

from dataclasses import dataclass
from typing import Final, assert_never

from tierwise.core.call import Call
from tierwise.core.catalog import find
from tierwise.core.changes import Change
from tierwise.core.decision import Decision, Drawn, Otherwise, Refusal
from tierwise.core.fitting import Fitted, fit
from tierwise.core.matrix import Ineligible
from tierwise.core.openai_fitting import asked_usage, fit_openai, spelled
from tierwise.core.policy import Policy
from tierwise.core.routing import decide
from tierwise.core.tasks import TaskRef
from tierwise.values import maker, value


@value
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
        """The cap that goes on the wire: fitting may lower the decision's to what the model takes."""
        for change in self.changes:
            if change.path == self.call.cap_path:
                return change.after
        return self.call.max_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A call that does not go on."""

    call: Call
    task: TaskRef
    refusal: Refusal
    policy: Policy


def plan(
    call: Call,
    task: TaskRef,
    *,
    policy: Policy,
    kept: str | None,
    otherwise: Otherwise | None = None,
    drawn: Drawn | None = None,
) -> Plan | Refused:
    """Decide and fit one call. The same arguments give the same plan.

    Args:
        call: what routing may know of the request.
        task: the task it belongs to.
        policy: the contracts and tiers.
        kept: name of the tier that the call's conversation already has.
        otherwise: what is taken in place of the contract's tier and cap; None takes those.
        drawn: the tier that is taken in place of the contract's for a new conversation; None takes that.
    """
    barred: dict[str, str] = {}
    while True:
        decision = decide(
            call, task, policy=policy, kept=kept, barred=barred, otherwise=otherwise, drawn=drawn
        )
        if isinstance(decision, Refusal):
            return Refused(call=call, task=task, refusal=decision, policy=policy)
        if decision.tier is None:
            unasked = () if call.usage_told else asked_usage()
            return Plan(call=call, task=task, decision=decision, changes=unasked, policy=policy)
        match _fitted(call, decision):
            case Fitted(changes=changes):
                unasked = () if call.usage_told else asked_usage()
                acted = changes if decision.acts else unasked
                sent = spelled(call, decision) if decision.acts and call.family == "openai" else call
                return _make_plan(call=sent, task=task, decision=decision, changes=acted, policy=policy)
            case Ineligible(feature="thread.moved", why=why) if decision.acts:
                return Refused(
                    call=call, task=task, refusal=Refusal(code="thread", sentence=why), policy=policy
                )
            case Ineligible(why=why):
                barred[decision.tier] = why
            case other:
                assert_never(other)


def moved(planned: Plan, otherwise: Otherwise) -> Plan | None:
    """Return the plan of the same call on another tier; None where that tier's model does not take the body."""
    again = plan(planned.call, planned.task, policy=planned.policy, kept=None, otherwise=otherwise)
    return again if isinstance(again, Plan) and again.decision.tier == otherwise.tier else None


def _fitted(call: Call, decision: Decision) -> Fitted | Ineligible:
    """Fit the body; a model that the catalogue lacks is trusted with everything but its name and cap."""
    if call.family == "openai":
        changed = fit_openai(call, decision)
        return changed if isinstance(changed, Ineligible) else Fitted(changes=changed)
    model = find(decision.model)
    if model is not None:
        return fit(call, model=model, decision=decision)
    changes: list[Change] = []
    if decision.model != call.requested_model:
        changes.append(_change("model", call.requested_model, decision.model))
    if decision.max_tokens != call.max_tokens:
        changes.append(_change("max_tokens", call.max_tokens, decision.max_tokens))
    return Fitted(changes=tuple(changes))


def _change(name: str, before: str | int, after: str | int) -> Change:
    return Change(path=(name,), before=before, after=after, rule=f"decision.{name}", why="As decided.")


_make_plan: Final = maker(Plan)
