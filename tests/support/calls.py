"""Calls and policies, whole, with what a test is about as arguments."""

from collections.abc import Iterable
from typing import Any

from tierwise.core.call import Call
from tierwise.core.estimate import Contents
from tierwise.core.policy import Contract, MatchRule, Policy, Tier

FRONTIER = Tier(name="frontier", model="claude-opus-5-5", effort="medium")
MIDDLE = Tier(name="middle", model="claude-sonnet-5")
FAST = Tier(name="fast", model="claude-haiku-5-5", thinking="off")

EXTRACTION = Contract(name="extraction", tier="fast", max_tokens=512)
SYNTHESIS = Contract(name="synthesis", tier="frontier", max_tokens=8192)
DEFAULT = Contract(name="default", tier="middle")


def a_call(model: str = "claude-opus-5-5", **fields: Any) -> Call:
    return Call(requested_model=model, max_tokens=fields.pop("max_tokens", 32_000), **fields)


def contents_of(call: Call) -> Contents:
    """The contents of a call that is all text."""
    return Contents(body_bytes=call.body_bytes, attachments=0, open_ended=False, cache_writes="none")


def a_policy(
    *contracts: Contract,
    tiers: Iterable[Tier] = (FRONTIER, MIDDLE, FAST),
    rules: tuple[MatchRule, ...] = (),
    **fields: Any,
) -> Policy:
    return Policy(
        tiers={tier.name: tier for tier in tiers},
        contracts={contract.name: contract for contract in contracts or (EXTRACTION, SYNTHESIS)},
        rules=rules,
        **fields,
    )
