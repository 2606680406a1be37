"""The budgets as the drivers see them: claim before a call, settle after it, and warn when one runs low."""

import logging
from typing import Protocol

from tierwise.core.budgets import Claim, Crossing, Denied, Outcome
from tierwise.money import Nanos, format_usd

log = logging.getLogger("tierwise.budgets")


class BudgetStore(Protocol):
    """Holds the accounts; safe to use from any thread."""

    def reserve(self, claim: Claim) -> Outcome:
        """Set a claim aside on all its accounts, or on none, in one step."""
        ...

    def settle(self, call_id: str, cost_nanos: Nanos | None) -> None:
        """Settle a call's reservation at its cost; None keeps it."""
        ...


def reserve(store: BudgetStore, claim: Claim) -> Outcome:
    """Claim, and warn of the accounts that have come near their limits."""
    outcome = store.reserve(claim)
    if not isinstance(outcome, Denied):
        for crossing in outcome.crossings:
            log.warning("%s", describe(crossing))
    return outcome


def describe(crossing: Crossing) -> str:
    """Write a warning for people: `budget run-lifetime, run run-7: 80 % of $25.00 is used ($20.01)`."""
    account = crossing.account
    budget = account.budget
    whose = "" if budget.scope == "all" else f", {budget.scope} {account.value or '(none)'}"
    used = format_usd(crossing.used_nanos)
    limit = format_usd(budget.limit_nanos)
    return f"budget {budget.name}{whose}: {crossing.percent} % of {limit} is used ({used})"
