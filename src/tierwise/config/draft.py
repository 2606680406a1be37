"""A policy as far as it could be read, and the fixes that several of its checks offer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tierwise.core.catalog import find
from tierwise.core.policy import Budget, Client, Contract, MatchRule, Mode, Tier, WhenLost
from tierwise.names import nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A policy as far as it could be read: None stands where a table is there and cannot be used."""

    tiers: Mapping[str, Tier | None]
    contracts: Mapping[str, Contract | None]
    rules: tuple[MatchRule | None, ...]
    budgets: tuple[Budget | None, ...]
    clients: tuple[Client | None, ...]
    mode: Mode
    strict: bool
    budget_store: str | None
    when_lost: WhenLost | None
    """None where the file does not say it."""


def meant(name: str, known: Iterable[str], what: str) -> str:
    """Return the fix for a name that leads nowhere: the nearest one that is known, or all of them."""
    names = tuple(known)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean {close}?"
    return f"the {what} are {', '.join(names)}" if names else f"there are no {what} yet"


def less_thinking(contract: Contract, tier: Tier) -> str | None:
    """Return what makes room on a tier for a contract's cap as it is; None where nothing on the tier does."""
    model = find(tier.model)
    if tier.thinking_floor is not None:
        return f"lower thinking_floor in [tiers.{tier.name}]"
    if contract.thinking == "keep" and tier.thinking == "off":
        return 'remove thinking = "keep": the tier has it off'
    if model is not None and model.thinking_off is not None:
        return f'set thinking = "off" in [tiers.{tier.name}]'
    return None
