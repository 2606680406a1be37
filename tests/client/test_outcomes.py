"""Outcomes that a program tells in process."""

from contextlib import closing
from pathlib import Path

import pytest

import tierwise
from support.clients import router_of
from tierwise.core.ledger import Outcome
from tierwise.errors import LedgerUnavailable, MalformedOutcome, NoSession
from tierwise.stores.ledger.outcomes import outcomes
from tierwise.stores.ledger.sqlite import read_ledger


def recorded(path: Path) -> list[Outcome]:
    with closing(read_ledger(path)) as ledger:
        return list(outcomes(ledger, since_us=0))


def test_it_is_told_to_the_open_session_about_the_block_that_it_stands_in(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with (
        tierwise.Session(router_of(tmp_path), ledger=path),
        tierwise.task("extraction", run="r1", task_id="t1"),
    ):
        tierwise.outcome(False)

    (found,) = recorded(path)
    assert (found.run_id, found.task_id, found.quality, found.key_id) == ("r1", "t1", 0.0, None)


def test_what_it_is_about_may_be_said_and_then_the_block_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with (
        tierwise.Session(router_of(tmp_path), ledger=path),
        tierwise.task("extraction", run="r1", task_id="t1"),
    ):
        tierwise.outcome(quality=0.5, run="r9")

    assert [(found.run_id, found.task_id) for found in recorded(path)] == [("r9", None)]


def test_without_a_session_it_says_so_and_with_two_it_asks_which(tmp_path: Path) -> None:
    with pytest.raises(NoSession, match="no sessions are open"):
        tierwise.outcome(True, run="r1")

    router, first, second = router_of(tmp_path), tmp_path / "one", tmp_path / "two"
    with tierwise.Session(router, ledger=first), tierwise.Session(router, ledger=second) as chosen:
        with pytest.raises(NoSession, match="2 sessions are open"):
            tierwise.outcome(True, run="r1")
        tierwise.outcome(True, run="r1", session=chosen)

    assert (len(recorded(first)), len(recorded(second))) == (0, 1)


def test_an_outcome_of_nothing_is_refused(tmp_path: Path) -> None:
    with (
        tierwise.Session(router_of(tmp_path), ledger=None),
        pytest.raises(MalformedOutcome, match="Say what it is about"),
    ):
        tierwise.outcome(True)


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with tierwise.Session(router_of(tmp_path), ledger=None) as session:
        session.ledger = _Broken()
        with pytest.raises(LedgerUnavailable, match="the disk is full"):
            tierwise.outcome(True, run="r1", session=session)


class _Broken:
    trouble = "the disk is full"

    def put(self, entry: object) -> None: ...

    def record(self, entry: object) -> bool:
        return entry is None

    async def record_async(self, entry: object) -> bool:
        return entry is None
