"""Upkeep, driven by hand and by a clock: what it takes in, what it lets go of, and that it goes on."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.claims import a_claim, an_account
from support.entries import decided, failed, posted, set_aside, settled, topped_up
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.waiting import eventually
from tierwise.core.budgets import Balance, Denied, Reserved
from tierwise.core.calibration import LEAST_CALLS, UNCALIBRATED
from tierwise.core.ledger import Entry
from tierwise.core.reserving import Asking
from tierwise.engine import upkeep
from tierwise.engine.desk import Desk
from tierwise.engine.upkeep import FORGOTTEN_AFTER_S, Upkeep
from tierwise.errors import AmountTooLarge, LedgerUnavailable
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.reservations import balances
from tierwise.stores.ledger.sqlite import SqliteLedger, SqliteReader, open_ledger, read_ledger
from tierwise.usage import Usage

KEY = "run-lifetime|k1|r1|lifetime"
"""The account of the entries."""
KEPT_US = 3_600_000_000

ACCOUNT = an_account(KEY, limit=10_000)


@dataclass
class Clock:
    now_us: int = 1_000_100

    def __call__(self) -> int:
        return self.now_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A gateway's budgets, and its ledger."""

    path: Path
    ledger: SqliteLedger
    budgets: MemoryBudgets
    desk: Desk
    clock: Clock
    opened: ExitStack

    def upkeep(self, **changes: Any) -> Upkeep:
        values: dict[str, Any] = {
            "read": lambda: read_ledger(self.path),
            "put": self.put,
            "position": -1,
            "budgets": self.budgets,
            "forgetful": self.budgets,
            "desk": self.desk,
            "clock": self.clock,
        }
        looking = Upkeep(**(values | changes))
        self.opened.callback(looking.close)
        return looking

    def put(self, entry: Entry) -> None:
        self.ledger.write([entry])

    def keep(self, call_id: str) -> None:
        """Let a call of unknown cost end."""
        self.budgets.reserve(a_claim(call_id, 5_000, ACCOUNT))
        self.ledger.write(
            [decided(call_id), set_aside(call_id, accounts=(KEY,)), failed(call_id, cost_nanos=None)]
        )
        self.budgets.settle(call_id, None)

    def in_ledger(self) -> Balance:
        with closing(read_ledger(self.path)) as reader:
            return balances(reader)[KEY]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    path = tmp_path / "ledger.sqlite3"
    clock = Clock()
    policy = book(f'keep_for = "1h"\nprompt_bound = "calibrated"\n{TWO_TIERS}')
    desk = Desk(policy, conversations=Conversations(), clock=clock, new_id=lambda: "new")
    with closing(open_ledger(path)) as ledger, ExitStack() as opened:
        yield Bench(path=path, ledger=ledger, budgets=MemoryBudgets(), desk=desk, clock=clock, opened=opened)


# What is told


def test_what_others_tell_the_ledger_reaches_the_budgets_once(bench: Bench) -> None:
    bench.keep("c1")
    bench.ledger.write([settled("c1", cost_nanos=700), topped_up(account=KEY, amount_nanos=50)])
    looking = bench.upkeep()
    looking.tick()
    looking.tick()

    assert bench.budgets.balance(KEY) == Balance(
        reserved_nanos=5_000, posted_nanos=700, released_nanos=4_300, topped_up_nanos=50
    )
    assert bench.budgets.balance(KEY) == bench.in_ledger()


def test_a_top_up_makes_room_for_a_claim_that_was_denied(bench: Bench) -> None:
    claim = a_claim("c1", 10_500, ACCOUNT)
    before = bench.budgets.reserve(claim)
    bench.put(topped_up(account=KEY, amount_nanos=500))
    bench.upkeep().tick()

    assert isinstance(before, Denied)
    assert bench.budgets.reserve(claim) == Reserved(amount_nanos=10_500)


class Counting(MemoryBudgets):
    """Balances that count no more than a thousand."""

    def top_up(self, entry_id: str, account: str, amount_nanos: int) -> None:
        if amount_nanos > 1_000:
            raise AmountTooLarge(amount=amount_nanos, largest=1_000)
        super().top_up(entry_id, account, amount_nanos)


def test_an_entry_that_the_budgets_cannot_count_holds_up_no_other(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    budgets = Counting()
    bench.ledger.write(
        [
            topped_up("t1", account=KEY, amount_nanos=2_000),
            topped_up("t2", account=KEY, amount_nanos=70),
        ]
    )
    bench.upkeep(budgets=budgets).tick()

    assert budgets.balance(KEY).topped_up_nanos == 70
    assert "2000" in caplog.text.replace(",", "")


# What was kept for long enough


def test_what_was_kept_for_long_enough_is_posted_as_assumed_at_its_worst_case(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.keep("c1")
    bench.clock.now_us += KEPT_US + 1
    looking = bench.upkeep()
    looking.round()
    looking.tick()
    (call,) = calls(bench.path)

    assert (call["basis"], call["cost_nanos"]) == ("assumed", 5_000)
    assert call["note"] == "kept for 3600 s, and nobody could say what it cost: its worst case"
    assert bench.budgets.balance(KEY) == Balance(reserved_nanos=5_000, posted_nanos=5_000)
    assert "1 reservations of unknown cost were posted as assumed" in caplog.text


def test_what_was_kept_for_less_long_stays_kept(bench: Bench) -> None:
    bench.keep("c1")
    bench.clock.now_us += KEPT_US
    looking = bench.upkeep()
    looking.round()
    looking.tick()

    assert bench.budgets.balance(KEY) == Balance(reserved_nanos=5_000, pending_nanos=5_000)
    assert bench.in_ledger().pending_nanos == 5_000


def test_gateways_that_assume_the_same_call_at_once_post_it_once(bench: Bench) -> None:
    bench.keep("c1")
    bench.clock.now_us += KEPT_US + 1
    written: list[Entry] = []
    first, second = bench.upkeep(put=written.append), bench.upkeep(put=written.append)
    first.round()
    second.round()
    bench.ledger.write(written[:1])
    bench.ledger.write(written[1:])
    first.tick()
    second.tick()
    second.round()

    assert len(written) == 2
    assert bench.in_ledger() == Balance(reserved_nanos=5_000, posted_nanos=5_000)
    assert bench.budgets.balance(KEY) == bench.in_ledger()


def test_a_cost_that_is_learned_in_time_is_not_assumed(bench: Bench) -> None:
    bench.keep("c1")
    bench.put(settled("c1", cost_nanos=700))
    bench.clock.now_us += KEPT_US + 1
    looking = bench.upkeep()
    looking.tick()
    looking.round()
    (call,) = calls(bench.path)

    assert (call["basis"], call["cost_nanos"]) == ("reconciled", 700)


# What else each minute does


def test_accounts_of_windows_that_ended_are_forgotten_an_hour_after_the_longest_wait(bench: Bench) -> None:
    day = an_account("day|d1", ends_us=2_000_000)
    bench.budgets.reserve(a_claim("c1", 10, day))
    bench.budgets.settle("c1", 10)
    looking = bench.upkeep()
    bench.clock.now_us = 2_000_000 + (10 + FORGOTTEN_AFTER_S) * 1_000_000 - 1
    looking.round()
    before = bench.budgets.balance("day|d1")
    bench.clock.now_us += 1
    looking.round()

    assert before.posted_nanos == 10
    assert bench.budgets.balance("day|d1") == Balance()


def test_an_account_is_held_for_as_long_as_a_call_may_wait_for_its_money(bench: Bench) -> None:
    bench.desk.book = book(f'queue_for = "3h"\n{TWO_TIERS}')
    day = an_account("day|d1", ends_us=2_000_000)
    bench.budgets.reserve(a_claim("c1", 10, day))
    bench.budgets.settle("c1", 10)
    bench.clock.now_us = 2_000_000 + 3 * 3_600_000_000
    bench.upkeep().round()

    assert bench.budgets.balance("day|d1").posted_nanos == 10


def test_what_texts_have_had_of_tokens_makes_later_claims_smaller(bench: Bench) -> None:
    bench.desk.book = book(
        f'prompt_bound = "calibrated"\n{TWO_TIERS}\n[[budgets]]\nscope = "all"\nlimit_usd = "5"\n'
    )
    for number in range(LEAST_CALLS):
        call_id = f"c{number}"
        bench.ledger.write(
            [
                decided(call_id),
                set_aside(call_id, prompt_bytes=1_000, prompt_kind="ascii"),
                posted(call_id, usage=Usage(input_tokens=200, output_tokens=9)),
            ]
        )
    before = claimed(bench.desk)
    bench.upkeep().round()

    assert claimed(bench.desk) < before


def test_a_policy_that_counts_bytes_learns_nothing(bench: Bench) -> None:
    bench.desk.book = book()
    bench.ledger.write([decided(), set_aside(prompt_bytes=1_000, prompt_kind="ascii"), posted()])
    bench.upkeep().round()

    assert bench.desk.calibration is UNCALIBRATED


def test_lengths_are_learned_where_a_contract_may_escalate(bench: Bench) -> None:
    bench.ledger.write([decided(), posted()])
    bench.desk.book = book(TWO_TIERS + 'on_truncation = "raise-cap"\n')
    bench.upkeep().round()
    before = bench.desk.lengths
    bench.desk.book = book(TWO_TIERS + 'on_truncation = "escalate"\n')
    bench.upkeep().round()

    assert before.histograms == {}
    assert bench.desk.lengths.histograms.keys() == {("extraction", "claude-haiku-5-5")}


def claimed(desk: Desk) -> int:
    """What a call asks for."""
    messages = [{"role": "user", "content": "Which firm? " * 100}]
    body = {"model": "task/extraction", "max_tokens": 9, "messages": messages}
    asking = desk.open(json.dumps(body).encode(), {}).exchange._asking  # pyright: ignore[reportPrivateUsage] — no entry has it before the answer
    assert isinstance(asking, Asking)
    return asking.claim.amount_nanos


# The thread


def test_a_ledger_that_cannot_be_read_is_tried_again_and_nothing_is_missed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "TICK_S", 0.01)
    looking = bench.upkeep(read=failing_at_first(bench.path, times=3))
    bench.put(topped_up(account=KEY, amount_nanos=50))
    looking.start()
    eventually(lambda: bench.budgets.balance(KEY).topped_up_nanos, until=lambda amount: amount == 50)
    looking.close()

    assert "the ledger cannot be read for upkeep" in caplog.text


def test_the_ledger_is_opened_once_and_again_only_after_it_could_not_be_read(bench: Bench) -> None:
    opened: list[SqliteReader] = []

    def read() -> SqliteReader:
        opened.append(read_ledger(bench.path))
        return opened[-1]

    looking = bench.upkeep(read=read)
    looking.tick()
    looking.round()
    looking.tick()
    before = len(opened)
    opened[0].close()
    with pytest.raises(LedgerUnavailable):
        looking.tick()
    bench.put(topped_up(account=KEY, amount_nanos=50))
    looking.tick()

    assert (before, len(opened)) == (1, 2)
    assert bench.budgets.balance(KEY).topped_up_nanos == 50


def failing_at_first(path: Path, *, times: int) -> Callable[[], SqliteReader]:
    left = iter(range(times))

    def read() -> SqliteReader:
        if next(left, None) is not None:
            raise LedgerUnavailable(path=str(path), why="it is locked")
        return read_ledger(path)

    return read


def test_an_end_does_not_wait_for_a_ledger_that_does_not_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "TICK_S", 0.01)
    monkeypatch.setattr(upkeep, "FAREWELL_S", 0.01)
    asked, answers = threading.Event(), threading.Event()

    def read() -> SqliteReader:
        asked.set()
        answers.wait(30)
        return read_ledger(bench.path)

    looking = bench.upkeep(read=read)
    looking.start()
    asked.wait(30)
    looking.close()

    assert not answers.is_set()
    answers.set()
