"""Calls under a budget, through both drivers: the reservation before the call, and its settlement whatever happens."""

from pathlib import Path

import pytest

from support.ledgers import Lock
from support.plays import BODY, Driver, Played, only_call, play
from support.policies import TWO_TIERS, book
from support.transcripts import EVENTS, STREAM, Transcript, message
from tierwise.core.budgets import Balance
from tierwise.errors import UpstreamDropped, UpstreamUnreachable
from tierwise.money import usd
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger import writer
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.sqlite import read_ledger
from tierwise.upstream.port import Outgoing

ACCOUNT = "all-lifetime|lifetime"
COST = 1000 * 100 + 200 * 500
"""1,000 tokens in and 200 out on claude-haiku-5-5."""


def policy(limit: str = "1.00"):
    return book(f'{TWO_TIERS}\n[[budgets]]\nscope = "all"\nlimit_usd = "{limit}"\n')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture(params=["coroutine", "thread"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.fixture
def budgets() -> MemoryBudgets:
    return MemoryBudgets()


def kept(balance: Balance) -> bool:
    return balance.pending_nanos == balance.reserved_nanos > 0 and balance.posted_nanos == 0


def test_the_reservation_is_durable_before_the_call_leaves_and_settled_at_its_cost(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    played = play(driver, Transcript(chunks=(message(),)), path, policy=policy(), budgets=budgets)

    assert played.notes == [
        "decision handed in",
        "reservation handed in",
        "reservation durable",
        "sent",
        "ending handed in",
        "ending durable",
        "last part taken, ledger has ['posted']",
    ]
    balance = budgets.balance(ACCOUNT)
    assert (balance.posted_nanos, balance.pending_nanos, balance.overrun_nanos) == (COST, 0, 0)
    assert balance.holds
    (reservation,) = reservations(path)
    assert (reservation.amount_nanos, reservation.cost_nanos) == (balance.reserved_nanos, COST)


def reservations(path: Path):
    ledger = read_ledger(path)
    try:
        return list(past(ledger))
    finally:
        ledger.close()


@pytest.mark.parametrize(
    ("provider", "is_kept"),
    [
        (Transcript(no_reply=UpstreamUnreachable(why="no route")), False),
        (Transcript(no_reply=UpstreamDropped(why="reset")), True),
        (Transcript(status=529, chunks=(b'{"type":"error","error":{"type":"overloaded_error"}}',)), False),
        (Transcript(headers=EVENTS, chunks=STREAM[:3], breaks=UpstreamDropped(why="reset")), True),
        (Transcript(chunks=(b"{}",)), True),
    ],
)
def test_what_is_not_billed_is_released_and_what_may_be_is_kept(
    driver: Driver, path: Path, budgets: MemoryBudgets, provider: Transcript, is_kept: bool
) -> None:
    play(driver, provider, path, policy=policy(), budgets=budgets)

    balance = budgets.balance(ACCOUNT)
    assert balance.holds
    assert kept(balance) is is_kept
    assert is_kept or balance.released_nanos == balance.reserved_nanos


def test_a_caller_that_leaves_during_the_reply_pays_its_worst_case(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    transcript = Transcript(headers=EVENTS, chunks=STREAM)

    play(driver, transcript, path, policy=policy(), budgets=budgets, leaves_after=2)

    assert kept(budgets.balance(ACCOUNT))


def test_a_short_budget_answers_and_nothing_is_sent(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    played = play(driver, Transcript(), path, policy=policy("0.0001"), budgets=budgets)

    assert played.requests == []
    assert played.taken.answered is not None
    assert played.taken.answered.code == "budget"
    assert played.taken.answered.denied is not None
    assert budgets.balance(ACCOUNT) == Balance()
    assert (played.call["ending"], played.call["error"], played.call["cost_nanos"]) == ("failed", "budget", 0)


def test_a_reservation_that_cannot_be_written_down_sends_nothing_and_costs_nothing(
    driver: Driver, path: Path, budgets: MemoryBudgets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.02)
    monkeypatch.setattr(writer, "RETRY_S", 0.005)
    lock = Lock()

    played = play(
        driver,
        Transcript(),
        path,
        policy=policy(),
        budgets=budgets,
        store=lock.opened,
        then=lock.free.set,
    )

    assert played.requests == []
    assert played.taken.answered is not None
    assert played.taken.answered.code == "ledger"
    assert (budgets.balance(ACCOUNT).pending_nanos, budgets.open_reservations) == (0, 0)
    assert (played.call["error"], played.call["cost_nanos"]) == ("ledger", 0)


def test_a_gateway_that_fails_on_a_call_ends_it_and_keeps_its_reservation(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    def provider(_request: Outgoing) -> Transcript:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(driver, provider, path, policy=policy(), budgets=budgets)

    assert kept(budgets.balance(ACCOUNT))


def test_a_settled_run_leaves_no_open_reservation_behind(
    driver: Driver, tmp_path: Path, budgets: MemoryBudgets
) -> None:
    def played(number: int) -> Played:
        path = tmp_path / f"{number}.sqlite3"
        return play(driver, Transcript(chunks=(message(),)), path, policy=policy(), budgets=budgets)

    for number in range(20):
        played(number)

    assert budgets.open_reservations == 0
    assert budgets.balance(ACCOUNT).posted_nanos == 20 * COST < usd("1.00")


def test_a_call_that_no_budget_counts_reserves_nothing(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    play(driver, Transcript(chunks=(message(),)), path, budgets=budgets)

    assert dict(budgets.balances()) == {}
    assert reservations(path) == []
    assert only_call(path)["task_type"] == BODY["model"].removeprefix("task/")
