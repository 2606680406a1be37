"""Balances as a gateway takes them up at its start, in its own memory or in a store that is shared."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.claims import a_claim, an_account
from support.entries import decided, failed, posted, set_aside, settled, topped_up
from support.policies import book
from support.valkey import QUICK, a_valkey
from support.waiting import eventually
from tierwise.core.budgets import Balance, Denied, Lost, Reserved
from tierwise.engine import balances as balances_module
from tierwise.engine import shared_balances
from tierwise.engine.balances import Balances, hold_balances
from tierwise.engine.desk import Desk
from tierwise.engine.upkeep import Upkeep
from tierwise.errors import LedgerUnavailable
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.budgets.valkey import ValkeyBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.reservations import balances
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger

KEY = "run-lifetime|k1|r1|lifetime"
ACCOUNT = an_account(KEY, limit=10_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger of a gateway that died: a call that was posted, one of which nobody knows the cost, and a top-up."""
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        ledger.write([decided("c1"), set_aside("c1", accounts=(KEY,)), posted("c1", cost_nanos=1_000)])
        ledger.write([decided("c2"), set_aside("c2", accounts=(KEY,))])
        ledger.write([topped_up(account=KEY, amount_nanos=50)])
    return path


@pytest.fixture(params=["own", "shared"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str | None]:
    """Where balances are: in this process, or at an address."""
    if request.param == "own":
        yield None
        return
    monkeypatch.setattr(shared_balances, "TIMING", QUICK)
    with a_valkey() as valkey:
        yield valkey.address.text


@contextmanager
def held(path: Path, store: str | None) -> Generator[Balances]:
    taken = hold_balances(path, store=store)
    try:
        yield taken
    finally:
        taken.close()


def balance(taken: Balances) -> Balance:
    assert isinstance(taken.store, MemoryBudgets | ValkeyBudgets)
    return taken.store.balance(KEY)


def looking(path: Path, taken: Balances) -> Upkeep:
    desk = Desk(book(), conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c9")
    return Upkeep(
        read=lambda: read_ledger(path),
        put=lambda entry: None,
        position=taken.position,
        budgets=taken.store,
        forgetful=taken.forgetful,
        desk=desk,
        clock=lambda: 0,
    )


DEAD = Balance(
    reserved_nanos=10_000, pending_nanos=5_000, posted_nanos=1_000, released_nanos=4_000, topped_up_nanos=50
)


def test_what_a_dead_gateway_had_set_aside_is_kept_at_its_worst_case(path: Path, store: str | None) -> None:
    with held(path, store) as taken:
        denied = taken.store.reserve(a_claim("c3", 4_051, ACCOUNT))
        granted = taken.store.reserve(a_claim("c4", 4_050, ACCOUNT))

    assert isinstance(denied, Denied)
    assert (denied.posted_nanos, denied.pending_nanos, denied.topped_up_nanos) == (1_000, 5_000, 50)
    assert granted == Reserved(amount_nanos=4_050)


def test_what_was_told_before_the_start_counts_once(path: Path, store: str | None) -> None:
    with held(path, store) as taken:
        with closing(looking(path, taken)) as watch:
            watch.tick()

        assert balance(taken) == DEAD


def test_what_was_told_after_the_start_counts(path: Path, store: str | None) -> None:
    with held(path, store) as taken:
        with closing(open_ledger(path)) as ledger:
            ledger.write([settled("c2", cost_nanos=300), topped_up("t2", account=KEY, amount_nanos=7)])
        with closing(looking(path, taken)) as watch:
            watch.tick()

        assert balance(taken) == Balance(
            reserved_nanos=10_000, posted_nanos=1_300, released_nanos=8_700, topped_up_nanos=57
        )
        with closing(read_ledger(path)) as reader:
            assert balances(reader)[KEY] == balance(taken)


def test_a_call_that_ended_without_a_known_cost_is_kept_too(path: Path, store: str | None) -> None:
    with closing(open_ledger(path)) as ledger:
        ledger.write([failed("c2", cost_nanos=None)])

    with held(path, store) as taken:
        assert balance(taken) == DEAD


def test_a_store_that_is_away_at_the_start_refuses_until_it_comes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balances_module, "_READY_WITHIN_S", 0.1)
    monkeypatch.setattr(shared_balances, "TIMING", QUICK)
    claim = a_claim("c3", 10, ACCOUNT)
    with a_valkey() as valkey:
        valkey.kill()
        with held(path, valkey.address.text) as taken:
            before, trouble = taken.store.reserve(claim), taken.trouble()
            valkey.start()
            after = eventually(
                lambda: taken.store.reserve(claim), until=lambda outcome: not isinstance(outcome, Lost)
            )
            assert balance(taken).posted_nanos == 1_000

    assert isinstance(before, Lost)
    assert trouble is not None
    assert after == Reserved(amount_nanos=10)


@pytest.mark.parametrize("address", [None, "valkey://127.0.0.1:1/0"])
def test_there_are_no_balances_of_a_ledger_that_is_not_there(tmp_path: Path, address: str | None) -> None:
    with pytest.raises(LedgerUnavailable):
        hold_balances(tmp_path / "none.sqlite3", store=address)
