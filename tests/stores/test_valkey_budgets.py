"""What shared balances do, besides what all do."""

import asyncio
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import count

import pytest

from support.claims import a_claim, an_account
from support.valkey import QUICK, PlainLedger, Valkey, a_valkey, another_process, budgets_on
from support.waiting import eventually
from tierwise.core.budgets import Balance, Claim, Crossing, Denied, Lost, Reserved
from tierwise.engine.shared_budgets import SharedBudgets
from tierwise.errors import AmountTooLarge, BudgetStoreUnfit
from tierwise.stores.budgets.operations import LARGEST
from tierwise.stores.budgets.valkey import ValkeyBudgets

NAMESPACES = count()


@pytest.fixture(scope="module")
def valkey() -> Generator[Valkey]:
    with a_valkey() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    return f"n{next(NAMESPACES)}"


@pytest.fixture
def store(valkey: Valkey, namespace: str) -> Generator[ValkeyBudgets]:
    with budgets_on(valkey, namespace=namespace) as store:
        yield store


def test_a_claim_and_a_limit_may_be_as_large_as_a_double_counts_exactly(store: ValkeyBudgets) -> None:
    account = an_account(limit=LARGEST, warn_at=(80,))
    reached = -(-LARGEST * 80 // 100)

    assert store.reserve(a_claim("c1", reached - 1, account)) == Reserved(amount_nanos=reached - 1)
    crossing = Crossing(account=account, percent=80, used_nanos=reached)
    assert store.reserve(a_claim("c2", 1, account)) == Reserved(amount_nanos=1, crossings=(crossing,))
    rest = LARGEST - reached
    assert isinstance(store.reserve(a_claim("c3", rest + 1, account)), Denied)
    assert store.reserve(a_claim("c3", rest, account)) == Reserved(amount_nanos=rest)
    assert isinstance(store.reserve(a_claim("c4", 1, account)), Denied)


def test_sums_that_only_grow_are_exact_beyond_that(store: ValkeyBudgets) -> None:
    account = an_account(limit=LARGEST, hard=False)
    for n in range(3):
        store.reserve(a_claim(f"c{n}", LARGEST - 1, account))
        store.settle(f"c{n}", LARGEST - 1)

    total = 3 * (LARGEST - 1)
    assert store.balance("a") == Balance(reserved_nanos=total, posted_nanos=total)


@pytest.mark.parametrize(
    ("amount", "limit"), [(LARGEST + 1, 1), (1, LARGEST + 1)], ids=["the claim", "the limit"]
)
def test_what_is_larger_is_refused(store: ValkeyBudgets, amount: int, limit: int) -> None:
    with pytest.raises(AmountTooLarge, match="9007199254740993 is more than 9007199254740992"):
        store.reserve(a_claim("c1", amount, an_account(limit=limit)))


def test_a_limit_is_not_raised_above_what_is_exact(store: ValkeyBudgets) -> None:
    account = an_account(limit=LARGEST)
    store.top_up("t1", "a", LARGEST)
    store.reserve(a_claim("c1", LARGEST, account))

    assert isinstance(store.reserve(a_claim("c2", 1, account)), Denied)


def test_a_top_up_is_taken_in_once_whoever_tells_it(valkey: Valkey, namespace: str) -> None:
    with budgets_on(valkey, namespace=namespace) as one, budgets_on(valkey, namespace=namespace) as other:
        one.top_up("t1", "a", 50)
        assert one.balance("a") == Balance(topped_up_nanos=50)

        other.top_up("t1", "a", 50)

        assert other.balance("a") == Balance(topped_up_nanos=50)


def test_a_top_up_that_a_rebuilding_counted_in_is_not_taken_in_again(valkey: Valkey, namespace: str) -> None:
    ledger = PlainLedger(top_ups={"t1": ("a", 50)})
    with budgets_on(valkey, ledger, namespace=namespace) as store:
        store.top_up("t1", "a", 50)

        assert store.balance("a") == Balance(topped_up_nanos=50)


def test_a_reservation_that_is_kept_stays_so_when_its_cost_is_still_unknown(store: ValkeyBudgets) -> None:
    store.reserve(a_claim("c1", 40, an_account()))
    store.settle("c1", None)

    store.settle("c1", None)

    assert store.balance("a") == Balance(reserved_nanos=40, pending_nanos=40)
    assert store.open_reservations == 1


def test_a_share_is_reported_once_though_several_gateways_reach_it(valkey: Valkey, namespace: str) -> None:
    account = an_account(limit=1000, warn_at=(50, 80))
    with budgets_on(valkey, namespace=namespace) as one, budgets_on(valkey, namespace=namespace) as other:

        def reserve(n: int) -> tuple[Crossing, ...]:
            outcome = (one, other)[n % 2].reserve(a_claim(f"c{n}", 9, account))
            return () if isinstance(outcome, Denied | Lost) else outcome.crossings

        with ThreadPoolExecutor(8) as threads:
            reported = [crossing.percent for found in threads.map(reserve, range(100)) for crossing in found]

    assert sorted(reported) == [50, 80]


def test_an_account_is_forgotten_a_day_after_its_window_has_ended(
    store: ValkeyBudgets, valkey: Valkey
) -> None:
    now_us = time.time_ns() // 1000
    store.reserve(a_claim("c1", 10, an_account("day", ends_us=now_us), an_account("life")))
    (day,) = valkey.ask("KEYS", "*:account:day")
    (life,) = valkey.ask("KEYS", f"{day.decode().removesuffix('day')}life")

    assert abs(valkey.ask("PEXPIRETIME", day.decode()) - now_us // 1000 - 86_400_000) <= 1
    assert valkey.ask("PEXPIRETIME", life.decode()) == -1


def test_a_settlement_does_not_open_an_account_that_is_forgotten(store: ValkeyBudgets) -> None:
    long_ago_us = time.time_ns() // 1000 - 2 * 86_400_000_000
    store.reserve(a_claim("c1", 10, an_account("day", ends_us=long_ago_us), an_account("life")))

    store.settle("c1", 4)

    assert dict(store.balances()) == {"life": Balance(reserved_nanos=10, posted_nanos=4, released_nanos=6)}
    assert store.open_reservations == 0


HAMMER = """
import sys
from support.claims import a_claim, an_account
from support.valkey import budgets_on
from tierwise.core.budgets import Denied, Lost
from tierwise.stores.budgets.address import parse_address

address, namespace, name = sys.argv[1:]
with budgets_on(parse_address(address), namespace=namespace) as store:
    for n in range(300):
        claim = a_claim(f"{name}-{n}", 7, an_account(limit=1000), least=1)
        if not isinstance(store.reserve(claim), Denied | Lost):
            store.settle(claim.call_id, None if n % 3 else 1)
"""


def test_two_processes_together_never_use_more_than_the_limit(valkey: Valkey, namespace: str) -> None:
    hammers = [another_process(HAMMER, valkey.address.text, namespace, name) for name in ("left", "right")]

    assert [hammer.communicate(timeout=60)[0] for hammer in hammers] == [b"", b""]

    assert [hammer.returncode for hammer in hammers] == [0, 0]
    with budgets_on(valkey, namespace=namespace) as store:
        balance = store.balance("a")
        assert balance.used_nanos == 1000
        assert balance.holds


def test_namespaces_share_nothing(valkey: Valkey) -> None:
    with budgets_on(valkey, namespace="left") as left, budgets_on(valkey, namespace="right") as right:
        left.reserve(a_claim("c1", 40, an_account()))
        left.keep("conversation", "fast", 60)

        assert right.balance("a") == Balance()
        assert right.tier("conversation") is None


def test_a_gateway_that_starts_finds_the_balances_of_the_others(valkey: Valkey, namespace: str) -> None:
    ledger = PlainLedger()
    with budgets_on(valkey, ledger, namespace=namespace) as one:
        one.reserve(a_claim("c1", 40, an_account()))

        with budgets_on(valkey, ledger, namespace=namespace) as other:
            assert other.balance("a") == Balance(reserved_nanos=40, pending_nanos=40)

    assert ledger.loads == 1


def test_a_conversation_keeps_its_tier_for_a_time(store: ValkeyBudgets, valkey: Valkey) -> None:
    assert store.tier("c") is None

    store.keep("c", "fast", 90)

    assert store.tier("c") == "fast"
    (key,) = valkey.ask("KEYS", "*:conversation:c")
    assert 60 < valkey.ask("TTL", key.decode()) <= 90


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_forgets_keys_when_its_memory_is_full_is_refused(policy: str) -> None:
    with a_valkey() as server:
        server.ask("CONFIG", "SET", "maxmemory-policy", policy)

        with pytest.raises(BudgetStoreUnfit, match=f"{policy}.*set it to noeviction"):
            ValkeyBudgets(server.address, PlainLedger())


def test_a_password_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_valkey() as server:
        server.ask("CONFIG", "SET", "requirepass", "secret")
        monkeypatch.setenv("TIERWISE_VALKEY_PASSWORD", "secret")
        with budgets_on(server) as store:
            assert store.balance("a") == Balance()

        monkeypatch.setenv("TIERWISE_VALKEY_PASSWORD", "wrong")
        with pytest.raises(BudgetStoreUnfit):
            ValkeyBudgets(server.address, PlainLedger())


def test_coroutines_of_several_loops_share_the_balances(store: ValkeyBudgets) -> None:
    account = an_account(limit=500)

    async def calls(loop: int) -> int:
        budgets = SharedBudgets(store)

        async def call(n: int) -> int:
            claim = a_claim(f"{loop}-{n}", 20, account)
            while isinstance(await budgets.reserve(claim), Denied):
                await budgets.wait(5)
            await asyncio.sleep(0)
            budgets.settle(claim.call_id, 1)
            return 1

        return sum(await asyncio.gather(*(call(n) for n in range(100))))

    with ThreadPoolExecutor(2) as threads:
        finished = list(threads.map(asyncio.run, [calls(0), calls(1)]))

    assert finished == [100, 100]
    assert store.balance("a") == Balance(reserved_nanos=4000, posted_nanos=200, released_nanos=3800)


def test_a_claim_that_nobody_waits_for_any_more_is_undone(store: ValkeyBudgets) -> None:
    async def give_up() -> None:
        budgets = SharedBudgets(store)
        claiming = asyncio.create_task(budgets.reserve(a_claim("c1", 40, an_account())))
        await asyncio.sleep(0)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming

    asyncio.run(give_up())

    assert store.balance("a").pending_nanos == 0
    assert store.open_reservations == 0


def test_a_claim_that_cannot_be_packed_fails_alone(store: ValkeyBudgets) -> None:
    broken = Claim(call_id="\ud800", accounts=(), amount_nanos=1, least_nanos=1)

    with pytest.raises(UnicodeEncodeError):
        store.reserve(broken)

    assert store.reserve(a_claim("c1", 1, an_account())) == Reserved(amount_nanos=1)


def test_a_call_that_ended_while_its_gateway_died_is_settled_at_its_cost(
    valkey: Valkey, namespace: str
) -> None:
    ledger = PlainLedger()
    claims = [a_claim(f"c{n}", 10, an_account()) for n in range(4)]
    with budgets_on(valkey, ledger, namespace=namespace, timing=QUICK) as dead:
        for claim in claims:
            dead.reserve(claim)
        for claim in claims[:3]:
            ledger.set_aside(claim, 10)
        ledger.end("c0", 3)
        ledger.end("c1", None)
    # c0 cost 3, of c1 nobody knows the cost, c2 never ended, c3 was never sent

    with (
        budgets_on(valkey, ledger, namespace=namespace, timing=QUICK) as one,
        budgets_on(valkey, ledger, namespace=namespace, timing=QUICK),
    ):
        settled = eventually(lambda: one.balance("a"), until=lambda balance: balance.pending_nanos == 20)
        assert settled == Balance(reserved_nanos=40, posted_nanos=3, released_nanos=17, pending_nanos=20)
        assert one.open_reservations == 2


RESERVER = """
import sys, time
from support.claims import a_claim, an_account
from support.valkey import QUICK, budgets_on
from tierwise.stores.budgets.address import parse_address

with budgets_on(parse_address(sys.argv[1]), timing=QUICK, namespace=sys.argv[2]) as store:
    store.reserve(a_claim("c1", 10, an_account()))
    print("reserved", flush=True)
    time.sleep(60)
"""


def test_a_gateway_that_is_killed_between_the_entry_and_the_settlement_is_settled_for(
    valkey: Valkey, namespace: str
) -> None:
    ledger = PlainLedger()
    with budgets_on(valkey, ledger, namespace=namespace, timing=QUICK) as living:
        dying = another_process(RESERVER, valkey.address.text, namespace)
        with dying, dying.stdout or nullcontext() as said:
            assert said is not None
            assert said.readline() == b"reserved\n"
            ledger.set_aside(a_claim("c1", 10, an_account()), 10)
            ledger.end("c1", 4)
            assert living.balance("a").pending_nanos == 10
            dying.kill()

        balance = eventually(lambda: living.balance("a"), until=lambda balance: not balance.pending_nanos)

    assert balance == Balance(reserved_nanos=10, posted_nanos=4, released_nanos=6)


def test_a_call_whose_ending_a_rebuilding_did_not_see_yet_is_settled_at_its_cost(
    valkey: Valkey, namespace: str
) -> None:
    ledger = PlainLedger()
    ledger.set_aside(a_claim("c1", 10, an_account()), 10)
    with budgets_on(valkey, ledger, namespace=namespace, timing=QUICK) as store:
        ledger.end("c1", 4)  # its settlement was applied to the balances that were lost

        balance = eventually(lambda: store.balance("a"), until=lambda balance: not balance.pending_nanos)

    assert balance == Balance(reserved_nanos=10, posted_nanos=4, released_nanos=6)


def test_the_reservations_of_a_living_gateway_are_its_own_to_settle(valkey: Valkey, namespace: str) -> None:
    ledger = PlainLedger()
    claim = a_claim("c1", 10, an_account())
    with (
        budgets_on(valkey, ledger, namespace=namespace, timing=QUICK) as living,
        budgets_on(valkey, ledger, namespace=namespace, timing=QUICK),
    ):
        living.reserve(claim)
        ledger.set_aside(claim, 10)
        ledger.end("c1", 4)
        time.sleep(5 * QUICK.look_s)

        assert living.balance("a") == Balance(reserved_nanos=10, pending_nanos=10)
