"""What another attempt must mean: a fallback leads to another tier, and nothing is said in vain."""

from tierwise.config.draft import Draft, meant
from tierwise.config.reading import Notes
from tierwise.config.values import shown
from tierwise.core.policy import Contract


def check_attempts(contract: Contract, draft: Draft, notes: Notes) -> None:
    """Note what is wrong with a contract's other attempts; its own tier is there."""
    path = ("task_types", contract.name)
    if contract.fallback is not None:
        if contract.fallback not in draft.tiers:
            message = f"there is no tier {shown(contract.fallback)}"
            notes.error((*path, "fallback"), message, meant(contract.fallback, draft.tiers, "tiers"))
        elif contract.fallback == contract.tier:
            notes.error((*path, "fallback"), "is the type's own tier", "name another one, or remove the line")
    if contract.cascade and contract.check is None:
        fix = "add quality.check, which says what a good reply is"
        notes.error((*path, "cascade"), "has nothing to check the first reply by", fix)
    if contract.cascade and contract.tier == list(draft.tiers)[-1]:
        notes.error(
            (*path, "cascade"), f"finds no cheaper tier: {contract.tier} is the last", "remove the line"
        )
    if contract.on_truncation == "escalate" and contract.tier == next(iter(draft.tiers)):
        fix = 'write on_truncation = "raise-cap"'
        notes.warn((*path, "on_truncation"), f"finds no stronger tier: {contract.tier} is the first", fix)
    if contract.on_truncation != "return" and contract.max_tokens is None:
        message = "does nothing: without max_tokens the cap is the caller's own, and never raised"
        notes.warn((*path, "on_truncation"), message, "remove the line, or set max_tokens")
