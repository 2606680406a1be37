"""Which tier a call goes to, and with which cap: the contract's, unless its conversation already has one.

A conversation keeps its tier, because caches are per model and thinking blocks are bound to theirs: what its
first call got, its later ones get. Only a body that the tier's model cannot take moves it, to the nearest
stronger tier that can, else the nearest weaker one.
"""

from collections.abc import Collection

from tierwise.core.call import Call
from tierwise.core.decision import Decision, Reason, Refusal, Why
from tierwise.core.policy import Contract, Policy, Tier, cap_floor
from tierwise.core.tasks import Declared, TaskRef, virtual_type


def decide(
    call: Call, task: TaskRef, *, policy: Policy, kept: str | None = None, barred: Collection[str] = ()
) -> Decision | Refusal | None:
    """Decide one call. The same arguments give the same decision.

    Args:
        call: what routing may know of the request.
        task: the task it belongs to.
        policy: the contracts and tiers.
        kept: name of the tier that the call's conversation already has.
        barred: names of tiers whose models cannot take the body.

    Returns:
        The decision; a refusal, where the policy is strict about unknown types, or a virtual model name
        declares one and there is no default contract; None where every tier is barred.
    """
    virtual = virtual_type(call.requested_model) is not None
    if task.unknown_type is not None and (_strict(policy) or (virtual and task.type is None)):
        return _unknown(task, policy)
    if task.type is None:
        return _as_asked(call, task)
    contract = policy.contracts[task.type]
    wanted = kept if kept is not None and kept in policy.tiers else contract.tier
    tier = _nearest_free(wanted, policy, barred)
    if tier is None:
        return None
    reasons = [_how_declared(task)]
    if contract.tier == wanted:
        reasons.append(
            Reason(why=Why.CONTRACT, sentence=f"The contract of {contract.name} names the tier {wanted}.")
        )
    else:
        reasons.append(
            Reason(
                why=Why.CONVERSATION, sentence=f"Its conversation is on the tier {wanted} and stays there."
            )
        )
    if tier.name != wanted:
        reasons.append(
            Reason(why=Why.INELIGIBLE, sentence=f"{tier.name} is the nearest tier that takes this body.")
        )
    acts = virtual or policy.mode_of(contract) == "route"
    cap, cap_reason = _cap(call, contract, tier)
    reasons.append(cap_reason)
    if not acts:
        reasons.append(
            Reason(why=Why.OBSERVED, sentence="The policy observes: the call goes as it was asked.")
        )
    return Decision(
        tier=tier.name,
        model=tier.model,
        max_tokens=cap,
        effort=contract.effort or tier.effort,
        thinking=contract.thinking or tier.thinking,
        acts=acts,
        reasons=tuple(reasons),
    )


def _cap(call: Call, contract: Contract, tier: Tier) -> tuple[int, Reason]:
    """The cap that is sent: min(caller's, max(contract's, the model's thinking floor))."""
    if contract.max_tokens is None:
        return call.max_tokens, Reason(
            why=Why.CAP, sentence=f"{contract.name} has no cap: the caller's {call.max_tokens} stays."
        )
    floor = cap_floor(tier, contract)
    ceiling = max(contract.max_tokens, floor)
    if call.max_tokens <= ceiling:
        return call.max_tokens, Reason(
            why=Why.CAP, sentence=f"The caller's cap of {call.max_tokens} is within the contract's."
        )
    if floor > contract.max_tokens:
        sentence = f"Capped at {floor}: {tier.model} needs that much room to think; the contract's is {contract.max_tokens}."
    else:
        sentence = f"Capped at the contract's {ceiling}; the caller asked for {call.max_tokens}."
    return ceiling, Reason(why=Why.CAP, sentence=sentence)


def _nearest_free(wanted: str, policy: Policy, barred: Collection[str]) -> Tier | None:
    """The wanted tier, else the nearest stronger one, else the nearest weaker one, that is not barred."""
    names = list(policy.tiers)
    at = names.index(wanted)
    for name in (*names[at::-1], *names[at + 1 :]):
        if name not in barred:
            return policy.tiers[name]
    return None


def _strict(policy: Policy) -> bool:
    return policy.strict and policy.mode == "route"


def _as_asked(call: Call, task: TaskRef) -> Decision:
    if task.unknown_type is None:
        reason = Reason(
            why=Why.UNDECLARED, sentence="Nothing declares a task type: the call passes as it was asked."
        )
    else:
        reason = Reason(
            why=Why.UNKNOWN_TYPE,
            sentence=f"The policy has no task type {task.unknown_type!r} and no default contract: "
            "the call passes as it was asked.",
        )
    return Decision(
        tier=None,
        model=call.requested_model,
        max_tokens=call.max_tokens,
        effort="keep",
        thinking="keep",
        acts=False,
        reasons=(reason,),
    )


def _how_declared(task: TaskRef) -> Reason:
    if task.unknown_type is not None:
        meant = f"; {task.nearest_type} is the nearest known" if task.nearest_type else ""
        return Reason(
            why=Why.UNKNOWN_TYPE,
            sentence=f"The policy has no task type {task.unknown_type!r}{meant}: the default contract applies.",
        )
    sentence = {
        Declared.MODEL: f"The model name declares the task type {task.type}.",
        Declared.HEADER: f"The header declares the task type {task.type}.",
        Declared.MATCH: f"A match rule recognises the task type {task.type}.",
    }[task.declared]
    return Reason(why=Why.DECLARED, sentence=sentence)


def _unknown(task: TaskRef, policy: Policy) -> Refusal:
    meant = f"Did you mean {task.nearest_type!r}? " if task.nearest_type else ""
    known = ", ".join(sorted(policy.contracts))
    return Refusal(
        code="unknown-task-type",
        sentence=f"The policy has no task type {task.unknown_type!r}. {meant}It knows: {known}.",
    )
