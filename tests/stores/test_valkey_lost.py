"""Shared balances that the server loses: nobody is told what is left, nothing is spent twice, nothing is lost."""

import asyncio
import socket
import threading
import time
from collections.abc import Generator
from contextlib import nullcontext
from dataclasses import replace

import pytest

from support.claims import a_claim, an_account
from support.valkey import PATIENT, QUICK, PlainLedger, Valkey, a_valkey, another_process, budgets_on
from support.waiting import eventually
from tierwise.core.budgets import Balance, Claim, Denied, Lost, Outcome, Reserved
from tierwise.engine.shared_budgets import SharedBudgets
from tierwise.errors import LedgerUnavailable
from tierwise.stores.budgets import operations
from tierwise.stores.budgets.address import parse_address
from tierwise.stores.budgets.batches import SCRIPT
from tierwise.stores.budgets.link import Link
from tierwise.stores.budgets.names import names_in
from tierwise.stores.budgets.rebuild import Loaded, Rebuilder
from tierwise.stores.budgets.valkey import ValkeyBudgets


@pytest.fixture
def valkey() -> Generator[Valkey]:
    with a_valkey() as server:
        yield server


def granted(store: ValkeyBudgets, claim: Claim) -> Outcome:
    """The claim's outcome, asked for again while the balances are lost."""
    return eventually(lambda: store.reserve(claim), until=lambda outcome: not isinstance(outcome, Lost))


def used(ledger: PlainLedger, key: str = "a") -> int:
    return ledger.balance(key).used_nanos


class Slow(PlainLedger):
    """A ledger that says nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = threading.Event()
        self.asked = threading.Event()

    def load(self) -> Loaded:
        self.asked.set()
        self.may_answer.wait(20)
        return super().load()


def test_a_server_that_is_not_there_loses_claims_and_not_settlements(valkey: Valkey) -> None:
    ledger = PlainLedger()
    claim = a_claim("c1", 40, an_account())
    with budgets_on(valkey, ledger) as store:
        store.reserve(claim)
        ledger.set_aside(claim, 40)
        valkey.kill()

        outcome = store.reserve(a_claim("c2", 10, an_account()))
        store.settle("c1", 30)
        ledger.end("c1", 30)
        assert isinstance(outcome, Lost)
        assert "valkey.sock" in outcome.why
        assert store.trouble is not None
        assert store.tier("conversation") is None

        valkey.start()
        assert granted(store, a_claim("c3", 70, an_account())) == Reserved(amount_nanos=70)
        assert store.trouble is None
        assert store.balance("a") == Balance(
            reserved_nanos=110, posted_nanos=30, released_nanos=10, pending_nanos=70
        )


def test_a_gateway_may_start_before_its_server(valkey: Valkey) -> None:
    valkey.kill()
    store = ValkeyBudgets(valkey.address, PlainLedger(), timing=PATIENT)
    try:
        assert isinstance(store.reserve(a_claim("c1", 40, an_account())), Lost)

        valkey.start()

        assert granted(store, a_claim("c1", 40, an_account())) == Reserved(amount_nanos=40)
    finally:
        store.close()


@pytest.mark.parametrize("scheme", ["valkey", "valkeys"])
def test_what_cannot_be_reached_by_the_network_is_lost(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/0"
    store = ValkeyBudgets(parse_address(nobody), PlainLedger(), timing=QUICK)

    outcome = store.reserve(a_claim("c1", 40, an_account()))
    store.close()

    assert isinstance(outcome, Lost)
    assert nobody in outcome.why


def test_a_server_that_does_not_answer_is_lost_and_settlements_are_applied_when_it_does(
    valkey: Valkey,
) -> None:
    with budgets_on(valkey, timing=replace(PATIENT, silence_s=0.3)) as store:
        store.reserve(a_claim("c1", 40, an_account()))
        valkey.freeze()

        assert isinstance(store.reserve(a_claim("c2", 10, an_account())), Lost)
        store.settle("c1", 30)
        store.top_up("t1", "a", 5)
        assert isinstance(store.reserve(a_claim("c3", 10, an_account())), Lost)
        valkey.thaw()

        assert granted(store, a_claim("c4", 75, an_account())) == Reserved(amount_nanos=75)
        assert store.balance("a").posted_nanos == 30
        assert store.balance("a").pending_nanos == 75
        assert store.open_reservations == 1


def test_claims_that_were_sent_to_a_server_that_did_not_answer_hold_nothing_afterwards(
    valkey: Valkey,
) -> None:
    async def ask(store: ValkeyBudgets) -> list[Outcome]:
        budgets = SharedBudgets(store)
        return await asyncio.gather(
            *(budgets.reserve(a_claim(f"c{n}", 1, an_account(limit=1000))) for n in range(50))
        )

    with budgets_on(valkey, timing=replace(PATIENT, silence_s=0.2)) as store:
        for _ in range(3):
            valkey.freeze()
            outcomes = asyncio.run(ask(store))
            assert all(isinstance(outcome, Lost) for outcome in outcomes)
            valkey.thaw()

            assert isinstance(granted(store, a_claim("after", 1, an_account(limit=1000))), Reserved)
            store.settle("after", 0)
            assert store.balance("a").pending_nanos == 0
            assert store.open_reservations == 0


def test_a_batch_of_a_session_that_was_given_up_is_not_applied(valkey: Valkey) -> None:
    with budgets_on(valkey, gateway="g") as store:
        epoch = valkey.ask("GET", "{tierwise:test}:epoch").decode()
        batch = operations.batch([operations.reserve(a_claim("late", 40, an_account()))])

        reply = valkey.ask("EVAL", SCRIPT, 1, "{tierwise:test}", epoch, "g", "given up", batch)

        assert operations.answers(reply) == "session"
        assert store.open_reservations == 0


def test_a_batch_for_balances_that_were_given_up_is_not_applied(valkey: Valkey) -> None:
    with budgets_on(valkey, gateway="g") as store:
        session = valkey.ask("GET", "{tierwise:test}:alive:g").decode()
        batch = operations.batch([operations.reserve(a_claim("late", 40, an_account()))])

        reply = valkey.ask("EVAL", SCRIPT, 1, "{tierwise:test}", "earlier run", "g", session, batch)

        assert operations.answers(reply) == "epoch"
        assert store.open_reservations == 0


def test_a_server_that_was_emptied_is_filled_from_the_ledger(valkey: Valkey) -> None:
    ledger = PlainLedger()
    claims = [a_claim(f"c{n}", 20, an_account()) for n in range(3)]
    with budgets_on(valkey, ledger) as store:
        for claim in claims:
            store.reserve(claim)
            ledger.set_aside(claim, 20)
        ledger.end("c0", 5)
        store.settle("c0", 5)

        valkey.ask("FLUSHALL")

        assert isinstance(store.reserve(a_claim("c3", 56, an_account())), Lost)
        assert isinstance(granted(store, a_claim("c3", 56, an_account())), Denied)
        assert isinstance(store.reserve(a_claim("c3", 55, an_account())), Reserved)
        store.settle("c1", 4)
        assert store.balance("a") == Balance(
            reserved_nanos=115, posted_nanos=9, released_nanos=31, pending_nanos=75
        )


def test_a_server_that_was_emptied_is_noticed_by_a_gateway_that_is_idle(valkey: Valkey) -> None:
    ledger = PlainLedger()
    with budgets_on(valkey, ledger):
        before = ledger.loads

        valkey.ask("FLUSHALL")

        eventually(lambda: ledger.loads, until=lambda loads: loads > before)


def test_a_server_that_starts_with_an_older_snapshot_is_not_believed() -> None:
    ledger = PlainLedger()
    old, new = a_claim("old", 20, an_account()), a_claim("new", 70, an_account())
    with a_valkey() as valkey, budgets_on(valkey, ledger) as store:
        store.reserve(old)
        ledger.set_aside(old, 20)
        valkey.ask("SAVE")
        store.reserve(new)
        ledger.set_aside(new, 70)

        valkey.kill()
        valkey.start()

        assert isinstance(granted(store, a_claim("more", 11, an_account())), Denied)
        assert store.balance("a") == Balance(reserved_nanos=90, pending_nanos=90)
        assert len(valkey.ask("KEYS", "*:account:a")) == 1


def test_nobody_is_granted_anything_until_the_ledger_may_have_caught_up(valkey: Valkey) -> None:
    ledger = PlainLedger()
    claim = a_claim("slow", 80, an_account())
    with budgets_on(valkey, ledger, timing=replace(PATIENT, grace_s=1.0)) as store:
        store.reserve(claim)
        valkey.ask("FLUSHALL")
        eventually(lambda: store.trouble, until=bool)
        ledger.set_aside(claim, 80)  # later than the loss, and before the grace is over

        assert isinstance(granted(store, a_claim("c2", 21, an_account())), Denied)


def test_one_gateway_rebuilds_and_the_others_wait(valkey: Valkey) -> None:
    ledger = Slow()
    ledger.may_answer.set()
    with budgets_on(valkey, ledger) as one, budgets_on(valkey, ledger) as other:
        ledger.may_answer.clear()
        ledger.asked.clear()
        before = ledger.loads
        valkey.ask("FLUSHALL")
        assert ledger.asked.wait(10)

        for store in (one, other):
            assert isinstance(store.reserve(a_claim("c1", 1, an_account())), Lost)
        ledger.may_answer.set()

        for number, store in enumerate((one, other)):
            assert isinstance(granted(store, a_claim(f"c{number}", 1, an_account())), Reserved)
        assert ledger.loads == before + 1


def test_a_rebuilding_that_loses_its_server_is_begun_again_and_leaves_nothing(valkey: Valkey) -> None:
    ledger = Slow()
    ledger.may_answer.set()
    claim = a_claim("c1", 40, an_account())
    ledger.set_aside(claim, 40)
    with budgets_on(valkey, ledger) as store:
        ledger.may_answer.clear()
        ledger.asked.clear()
        valkey.ask("FLUSHALL")
        assert ledger.asked.wait(10)
        valkey.ask("FLUSHALL")  # and with it the lock of the one that rebuilds
        ledger.may_answer.set()

        assert isinstance(granted(store, a_claim("c2", 61, an_account())), Denied)
        eventually(lambda: valkey.ask("KEYS", "*:account:a"), until=lambda keys: len(keys) == 1)


def test_a_gateway_that_was_taken_over_from_while_it_rebuilt_changes_nothing(valkey: Valkey) -> None:
    class TakenOver(PlainLedger):
        def load(self) -> Loaded:
            valkey.ask("SET", names.rebuilding, "another token")
            return super().load()

    names = names_in("test")
    valkey.ask("SET", names.alive("g"), "session")
    ledger = TakenOver()
    ledger.set_aside(a_claim("c1", 40, an_account()), 40)
    link = Link(valkey.address)
    rebuilder = Rebuilder(
        link=link, names=names, gateway="g", truth=ledger, pause=lambda _: None, grace_s=0, beat_s=0
    )

    assert not rebuilder.rebuild(is_first=True)

    link.close()
    assert sorted(valkey.ask("KEYS", "*")) == [names.alive("g").encode(), names.rebuilding.encode()]


def test_a_ledger_that_cannot_be_read_is_the_trouble_until_it_can(valkey: Valkey) -> None:
    class Broken(PlainLedger):
        broken = True

        def load(self) -> Loaded:
            if self.broken:
                raise LedgerUnavailable(path="calls.db", why="disk full")
            return super().load()

    ledger = Broken()
    store = ValkeyBudgets(valkey.address, ledger, timing=QUICK)
    try:
        eventually(lambda: store.trouble or "", until=lambda trouble: "disk full" in trouble)

        ledger.broken = False

        assert isinstance(granted(store, a_claim("c1", 1, an_account())), Reserved)
        assert store.trouble is None
    finally:
        store.close()


REBUILDER = """
import sys, time
from support.valkey import QUICK, PlainLedger
from tierwise.stores.budgets import operations
from tierwise.stores.budgets.address import parse_address
from tierwise.stores.budgets.batches import SCRIPT
from tierwise.stores.budgets.valkey import ValkeyBudgets

class Endless(PlainLedger):
    def load(self):
        print("asked", flush=True)
        time.sleep(60)

ValkeyBudgets(parse_address(sys.argv[1]), Endless(), namespace="test", timing=QUICK)
time.sleep(60)
"""


def test_a_gateway_that_dies_while_it_rebuilds_is_taken_over_from(valkey: Valkey) -> None:
    dying = another_process(REBUILDER, valkey.address.text)
    with dying, dying.stdout or nullcontext() as said:
        assert said is not None
        assert said.readline() == b"asked\n"
        dying.kill()

    with budgets_on(valkey, timing=QUICK) as store:
        assert isinstance(store.reserve(a_claim("c1", 1, an_account())), Reserved)


def test_settlements_that_come_while_the_balances_are_rebuilt_are_applied_afterwards(valkey: Valkey) -> None:
    ledger = Slow()
    ledger.may_answer.set()
    before, after = a_claim("before", 30, an_account()), a_claim("after", 30, an_account())
    with budgets_on(valkey, ledger) as store:
        for claim in (before, after):
            store.reserve(claim)
            ledger.set_aside(claim, 30)
        ledger.may_answer.clear()
        ledger.asked.clear()
        valkey.ask("FLUSHALL")
        assert ledger.asked.wait(10)
        ledger.end("before", 7)  # which the ledger holds when it is read
        store.settle("before", 7)
        ledger.may_answer.set()
        ledger_has_answered = eventually(lambda: ledger.loads, until=lambda loads: loads == 2)
        ledger.end("after", 8)
        store.settle("after", 8)

        assert ledger_has_answered
        assert isinstance(granted(store, a_claim("last", 85, an_account())), Reserved)
        assert store.balance("a") == Balance(
            reserved_nanos=145, posted_nanos=15, released_nanos=45, pending_nanos=85
        )


@pytest.mark.parametrize("how", ["emptied", "restarted"])
def test_a_loss_in_the_middle_of_many_calls_spends_no_more_than_the_limit(how: str) -> None:
    limit, worst, cost = 2_000, 40, 15
    ledger = PlainLedger()
    account = an_account(limit=limit)
    highest = 0
    lost = 0

    async def call(budgets: SharedBudgets, call_id: str) -> None:
        nonlocal highest, lost
        claim = a_claim(call_id, worst, account)
        outcome = await budgets.reserve(claim)
        lost += isinstance(outcome, Lost)
        if not isinstance(outcome, Reserved):
            await asyncio.sleep(0.01)
            return
        await asyncio.sleep(0.005)
        ledger.set_aside(claim, worst)
        highest = max(highest, used(ledger))
        await asyncio.sleep(0.02)
        ledger.end(call_id, cost)
        budgets.settle(call_id, cost)

    async def gateway(store: ValkeyBudgets, name: int, until: float) -> None:
        budgets = SharedBudgets(store)

        async def caller(number: int) -> None:
            calls = 0
            while time.monotonic() < until:
                await call(budgets, f"{name}-{number}-{calls}")
                calls += 1

        await asyncio.gather(*(caller(number) for number in range(25)))

    async def all_at_once(one: ValkeyBudgets, other: ValkeyBudgets, valkey: Valkey) -> None:
        until = time.monotonic() + 3
        both = asyncio.gather(gateway(one, 1, until), gateway(other, 2, until))
        for _ in range(2):
            await asyncio.sleep(0.1)
            if how == "emptied":
                await asyncio.to_thread(valkey.ask, "FLUSHALL")
            else:
                await asyncio.to_thread(valkey.kill)
                await asyncio.to_thread(valkey.start)
            await asyncio.sleep(0.9)
        await both

    with a_valkey() as valkey, budgets_on(valkey, ledger) as one, budgets_on(valkey, ledger) as other:
        asyncio.run(all_at_once(one, other, valkey))
        granted(one, a_claim("nothing", 0, account))
        one.settle("nothing", 0)

        other.balance("a")
        balance = one.balance("a")
    assert lost
    assert limit - worst < highest <= limit
    assert (balance.posted_nanos, balance.pending_nanos) == (used(ledger), 0)
    assert balance.holds


def test_what_was_told_before_the_end_is_applied(valkey: Valkey) -> None:
    with budgets_on(valkey) as store:
        store.reserve(a_claim("c1", 40, an_account()))
        for n in range(1000):
            store.top_up(f"t{n}", "a", 1)
        store.settle("c1", 30)

    with budgets_on(valkey) as store:
        assert store.balance("a") == Balance(
            reserved_nanos=40, posted_nanos=30, released_nanos=10, topped_up_nanos=1000
        )


def test_after_the_end_every_claim_is_lost(valkey: Valkey) -> None:
    with budgets_on(valkey) as store:
        pass

    assert store.reserve(a_claim("c1", 1, an_account())) == Lost(why="the gateway stops")


@pytest.mark.parametrize(
    ("text", "host", "port", "db", "tls"),
    [
        ("valkey://cache", "cache", 6379, 0, False),
        ("redis://cache:7000/3", "cache", 7000, 3, False),
        ("valkeys://cache:7000/", "cache", 7000, 0, True),
        ("rediss://[::1]:7000/1", "::1", 7000, 1, True),
    ],
)
def test_an_address_names_host_port_database_and_tls(
    text: str, host: str, port: int, db: int, tls: bool
) -> None:
    address = parse_address(text)

    assert (address.host, address.port, address.db, address.tls) == (host, port, db, tls)


def test_an_address_may_name_a_socket() -> None:
    address = parse_address("unix:///run/valkey.sock?db=2")

    assert (address.path, address.db) == ("/run/valkey.sock", 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cache:6379", "write valkey://HOST:PORT/DB"),
        ("http://cache", "write valkey://HOST:PORT/DB"),
        ("valkey://", "write valkey://HOST:PORT/DB"),
        ("valkey://cache:port", "write valkey://HOST:PORT/DB"),
        ("valkey://cache/first", "'first', which is no number"),
        ("valkey://user:secret@cache", "TIERWISE_VALKEY_PASSWORD"),
        ("unix://run/valkey.sock", "unix:///PATH"),
        ("unix:///run/valkey.sock?timeout=3", "unix:///PATH"),
    ],
)
def test_what_is_no_address_is_told_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_address(text)

    assert says in str(raised.value)
    assert "secret" not in str(raised.value)
