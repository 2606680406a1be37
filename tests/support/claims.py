"""Accounts and claims for the tests of budgets."""

from tierwise.core.budgets import AccountRef, Claim
from tierwise.core.policy import Budget


def an_account(
    key: str = "a",
    limit: int = 100,
    *,
    hard: bool = True,
    warn_at: tuple[int, ...] = (),
    ends_us: int | None = None,
    pending_share: int | None = None,
) -> AccountRef:
    """An account; with a share, one that bounds only what is pending."""
    budget = Budget(
        name=key, scope="all", limit=limit, hard=hard, warn_at=warn_at, pending_share=pending_share or 100
    )
    return AccountRef(
        key=key, budget=budget, value="", ends_us=ends_us, pending_only=pending_share is not None
    )


def a_claim(call_id: str, amount: int, *accounts: AccountRef, least: int | None = None) -> Claim:
    return Claim(
        call_id=call_id,
        accounts=accounts,
        amount_nanos=amount,
        least_nanos=amount if least is None else least,
    )
