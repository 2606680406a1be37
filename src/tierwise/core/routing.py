"""Which tier a call goes to, and with which cap: the contract's, unless its conversation already has one.

A conversation keeps its tier, because caches are per model and thinking blocks are bound to theirs: what its
first call got, its later ones get. A first call gets the contract's tier, or the one that the autopilot drew for its
run or conversation, where verdicts act. Only a body that the tier's model cannot take moves it, to the nearest
stronger tier that can, else the nearest weaker one.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from tierwise.core.call import UNCAPPED, Call
from tierwise.core.decision import Decision, Drawn, Otherwise, Reason, Refusal, Why
from tierwise.core.policy import Contract, Policy, Tier, cap_floor
from tierwise.core.tasks import Declared, TaskRef, virtual_type
from tierwise.values import maker

NONE_BARRED: Final[Mapping[str, str]] = MappingProxyType({})


def decide(
    call: Call,
    task: TaskRef,
    *,
    policy: Policy,
    kept: str | None = None,
    barred: Mapping[str, str] = NONE_BARRED,
    otherwise: Otherwise | None = None,
    drawn: Drawn | None = None,
) -> Decision | Refusal:
    """Decide one call. The same arguments give the same decision.

    Args:
        call: what routing may know of the request.
        task: the task it belongs to.
        policy: the contracts and tiers.
        kept: name of the tier that the call's conversation already has.
        barred: names of tiers whose models cannot take the body, and why, one sentence each.
        otherwise: what is taken in place of the contract's tier and cap; None takes those.
        drawn: the tier that is taken in place of the contract's for a new conversation; None takes that.

    Returns:
        The decision; or a refusal: the policy is strict about unknown types, a virtual model name declares one
        and there is no default contract, or every tier is barred. A call that is only observed is not refused.
    """
    virtual = virtual_type(call.requested_model) is not None
    if task.unknown_type is not None and (_strict(policy) or (virtual and task.type is None)):
        return _unknown(task, policy)
    if task.type is None:
        return _as_asked(call, _why_no_contract(task))
    contract = policy.contracts[task.type]
    acts = virtual or policy.mode_of(contract) == "route"
    wanted, why = _wanted(contract, kept if kept in policy.tiers else None, drawn)
    if otherwise is not None:
        wanted, why = otherwise.tier, otherwise.why
        contract = _capped(contract, otherwise)
    if wanted not in policy.tiers:
        return _no_counterpart(contract, wanted) if acts else _as_asked(call, _why_no_counterpart(wanted))
    tier = _nearest_free(wanted, policy, barred)
    if tier is not None:
        decision = _on_tier(
            call,
            task,
            contract,
            tier,
            wanted=wanted,
            acts=acts,
            barred=barred,
            why_wanted=why,
            raised=otherwise is not None and otherwise.max_tokens is not None,
        )
        if drawn is None or why is not drawn.why or tier.name != drawn.tier:
            return decision
        return replace(decision, selection_probability=drawn.probability)
    if acts:
        return _no_tier(barred)
    return _as_asked(call, *_passed_over(barred), _OBSERVED)


NO_TRANSLATION: Final = (
    "Tierwise does not translate between Anthropic's API and OpenAI's: a call stays in its family."
)


def cascaded(call: Call, task: TaskRef, policy: Policy) -> Drawn | None:
    """Return the tier that a call's cascade begins with; None where it has none, or its reply cannot be held back."""
    contract = policy.contracts.get(task.type) if task.type is not None else None
    if contract is None or not contract.cascade or call.stream or call.thread:
        return None
    names = list(policy.tiers)
    tier = names[names.index(contract.tier) + 1]
    sentence = (
        f"The contract of {contract.name} tries {tier} first: where its check fails, {contract.tier} follows."
    )
    return Drawn(tier=tier, probability=1.0, why=Reason(why=Why.CASCADE, sentence=sentence))


_OBSERVED: Final = Reason(why=Why.OBSERVED, sentence="The policy observes: the call goes as it was asked.")


def _on_tier(
    call: Call,
    task: TaskRef,
    contract: Contract,
    tier: Tier,
    *,
    wanted: str,
    acts: bool,
    barred: Mapping[str, str],
    why_wanted: Reason,
    raised: bool,
) -> Decision:
    cap, why_cap = _cap(call, contract, tier, "this attempt's" if raised else "the contract's")
    reasons = [_how_declared(task), why_wanted, *_passed_over(barred)]
    if tier.name != wanted:
        reasons.append(
            Reason(why=Why.INELIGIBLE, sentence=f"{tier.name} is the nearest tier that takes this body.")
        )
    reasons.append(why_cap)
    if not acts:
        reasons.append(_OBSERVED)
    return _make_decision(
        tier=tier.name,
        model=tier.model,
        max_tokens=cap,
        effort=contract.effort or tier.effort,
        thinking=contract.thinking or tier.thinking,
        acts=acts,
        reasons=tuple(reasons),
        task_budget=contract.task_budget,
    )


def _as_asked(call: Call, *reasons: Reason) -> Decision:
    return _make_decision(
        tier=None,
        model=call.requested_model,
        max_tokens=call.max_tokens,
        effort="keep",
        thinking="keep",
        acts=False,
        reasons=reasons,
    )


def _cap(call: Call, contract: Contract, tier: Tier, whose: str) -> tuple[int, Reason]:
    """The cap that is sent: min(caller's, max(contract's, the model's thinking floor))."""
    asked = call.max_tokens
    if asked == UNCAPPED and contract.max_tokens is None:
        return _own_cap(contract, tier)
    if contract.max_tokens is None:
        return asked, _why_cap(f"{contract.name} has no cap: the caller's {asked} stays.")
    if asked <= contract.max_tokens:
        return asked, _why_cap(f"The caller's cap of {asked} is within {whose}.")
    ceiling = max(contract.max_tokens, cap_floor(tier, contract))
    if ceiling > contract.max_tokens:
        room = f"{tier.model} needs {ceiling} for room to think; {whose} is {contract.max_tokens}"
        if asked <= ceiling:
            return asked, _why_cap(f"The caller's cap of {asked} stays: {room}.")
        return ceiling, _why_cap(f"Capped at {ceiling}: {room}.")
    told = "no cap" if asked == UNCAPPED else str(asked)
    return ceiling, _why_cap(f"Capped at {whose} {ceiling}; the caller asked for {told}.")


def _own_cap(contract: Contract, tier: Tier) -> tuple[int, Reason]:
    """The tier's cap for a call that brings none, under a contract that has none."""
    if tier.max_tokens is None:
        return UNCAPPED, _why_cap(f"Neither the caller nor {contract.name} nor {tier.name} has a cap.")
    return tier.max_tokens, _why_cap(
        f"Neither the caller nor {contract.name} has a cap: {tier.name}'s is {tier.max_tokens}."
    )


def _capped(contract: Contract, otherwise: Otherwise) -> Contract:
    return contract if otherwise.max_tokens is None else replace(contract, max_tokens=otherwise.max_tokens)


def _why_cap(sentence: str) -> Reason:
    return Reason(why=Why.CAP, sentence=sentence)


def _nearest_free(wanted: str, policy: Policy, barred: Mapping[str, str]) -> Tier | None:
    """The wanted tier, else the nearest stronger one, else the nearest weaker one, that is not barred."""
    if wanted not in barred:
        return policy.tiers[wanted]
    names = list(policy.tiers)
    at = names.index(wanted)
    for name in (*names[at::-1], *names[at + 1 :]):
        if name not in barred:
            return policy.tiers[name]
    return None


def _how_declared(task: TaskRef) -> Reason:
    if task.unknown_type is None:
        return _declared(task.declared, task.type)
    meant = f"; {task.nearest_type} is the nearest known" if task.nearest_type else ""
    return Reason(
        why=Why.UNKNOWN_TYPE,
        sentence=f"The policy has no task type {task.unknown_type!r}{meant}: the default contract applies.",
    )


@lru_cache(maxsize=1024)
def _declared(how: Declared, task_type: str | None) -> Reason:
    match how:
        case Declared.MODEL:
            sentence = f"The model name declares the task type {task_type}."
        case Declared.HEADER:
            sentence = f"The header declares the task type {task_type}."
        case _:
            sentence = f"A match rule recognises the task type {task_type}."
    return Reason(why=Why.DECLARED, sentence=sentence)


def _wanted(contract: Contract, kept: str | None, drawn: Drawn | None) -> tuple[str, Reason]:
    """The tier that a call should get, and why: its conversation's, else the autopilot's, else the contract's."""
    if drawn is not None and kept in {None, drawn.tier}:
        return drawn.tier, drawn.why
    wanted = contract.tier if kept is None else kept
    return wanted, _why_wanted(contract, wanted, drawn)


def _why_wanted(contract: Contract, wanted: str, drawn: Drawn | None) -> Reason:
    if contract.tier == wanted and drawn is None:
        return _named(contract.name, wanted)
    return Reason(why=Why.CONVERSATION, sentence=f"Its conversation is on the tier {wanted} and stays there.")


@lru_cache(maxsize=1024)
def _named(contract: str, tier: str) -> Reason:
    return Reason(why=Why.CONTRACT, sentence=f"The contract of {contract} names the tier {tier}.")


def _passed_over(barred: Mapping[str, str]) -> tuple[Reason, ...]:
    return tuple(
        Reason(why=Why.INELIGIBLE, sentence=f"The tier {tier} cannot take this body: {why}")
        for tier, why in barred.items()
    )


def _why_no_contract(task: TaskRef) -> Reason:
    if task.unknown_type is None:
        return Reason(
            why=Why.UNDECLARED, sentence="Nothing declares a task type: the call passes as it was asked."
        )
    return Reason(
        why=Why.UNKNOWN_TYPE,
        sentence=f"The policy has no task type {task.unknown_type!r} and no default contract: "
        "the call passes as it was asked.",
    )


def _strict(policy: Policy) -> bool:
    return policy.strict and policy.mode == "route"


def _unknown(task: TaskRef, policy: Policy) -> Refusal:
    meant = f"Did you mean {task.nearest_type!r}? " if task.nearest_type else ""
    known = ", ".join(sorted(policy.contracts))
    return Refusal(
        code="unknown-task-type",
        sentence=f"The policy has no task type {task.unknown_type!r}. {meant}It knows: {known}.",
    )


def _no_tier(barred: Mapping[str, str]) -> Refusal:
    each = " ".join(f"{tier}: {why}" for tier, why in barred.items())
    return Refusal(code="ineligible", sentence=f"No tier of the policy takes this body. {each}")


def _no_counterpart(contract: Contract, tier: str) -> Refusal:
    """Only the policy of OpenAI's clients lacks tiers that contracts name: they are written one by one."""
    return Refusal(
        code="not-supported",
        sentence=f"The contract of {contract.name} names the tier {tier}, and the policy has no "
        f"[openai.tiers.{tier}]: add it, with a model of the OpenAI-compatible server. {NO_TRANSLATION}",
    )


def _why_no_counterpart(tier: str) -> Reason:
    return Reason(
        why=Why.OBSERVED,
        sentence=f"The policy observes, and has no [openai.tiers.{tier}]: the call goes as asked.",
    )


_make_decision: Final = maker(Decision)
