"""What a budget costs a call: reserving and settling in this process, on 1, 3 and 6 accounts, in one thread."""

from time import perf_counter
from typing import Final

from measuring import Spread, arguments, show, spread, write
from tierwise.core.budgets import AccountRef, Claim
from tierwise.core.policy import Budget
from tierwise.stores.budgets.memory import MemoryBudgets

ACCOUNTS: Final = (1, 3, 6)
RUNS: Final = 1000
"""Each has accounts of its own, so that a pair's accounts are seldom the last pair's."""
AMOUNT_NANOS: Final = 50_000_000
COST_NANOS: Final = 20_000_000


def claims(pairs: int, accounts: int) -> list[Claim]:
    """The claims of so many calls, made before the measuring: a claim is the caller's to make."""
    budgets = [Budget(name=f"budget-{n}", scope="run", limit_nanos=10**18) for n in range(accounts)]
    runs = [
        tuple(
            AccountRef(key=f"{budget.name}|key|{run}|lifetime", budget=budget, value=f"{run}", ends_us=None)
            for budget in budgets
        )
        for run in range(RUNS)
    ]
    return [
        Claim(
            call_id=f"call-{n}",
            accounts=runs[n % RUNS],
            amount_nanos=AMOUNT_NANOS + n,
            least_nanos=AMOUNT_NANOS // 4,
        )
        for n in range(pairs)
    ]


def pairs_per_s(asked: list[Claim]) -> float:
    """Reserve and settle each claim once, on accounts that are all new; return how many a second."""
    store = MemoryBudgets()
    reserve, settle = store.reserve, store.settle
    began = perf_counter()
    for claim in asked:
        reserve(claim)
        settle(claim.call_id, COST_NANOS)
    return len(asked) / (perf_counter() - began)


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    pairs, repeats = (20_000, 5) if options.quick else (100_000, 15)
    figures: dict[str, Spread] = {}
    for accounts in ACCOUNTS:
        asked = claims(pairs, accounts)
        figures[str(accounts)] = spread([pairs_per_s(asked) for _ in range(repeats)])
    shown = {f"accounts: {accounts}": figure for accounts, figure in figures.items()}
    show("Reserve and settle, one thread", shown, unit="pairs/s", places=0)
    write(options.json, {"pairs_per_s": figures})


if __name__ == "__main__":
    main()
