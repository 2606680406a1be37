"""Outcomes in a ledger, of either kind."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, outcome, posted
from tierwise.stores.ledger.copying import copy_ledger
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.outcomes import outcomes
from tierwise.stores.ledger.retention import prune
from tierwise.stores.ledger.verification import verify

DAY_US = 86_400_000_000


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    where = tmp_path / "ledger" if request.param == "sqlite" else request.getfixturevalue("address")
    with closing(open_ledger(where)) as ledger:
        yield ledger


def test_outcomes_are_read_as_they_were_written_in_their_order(ledger: Ledger) -> None:
    told = [outcome("o2"), outcome("o1", task_id=None, quality=0.5, key_id="ci")]
    ledger.write(told)

    assert list(outcomes(ledger, since_us=0)) == told
    assert list(outcomes(ledger, since_us=4_000_001)) == []


def test_of_an_id_the_first_is_kept(ledger: Ledger) -> None:
    ledger.write([outcome()])
    ledger.write([outcome(quality=0.0)])

    assert list(outcomes(ledger, since_us=0)) == [outcome()]


def test_an_outcome_may_come_before_its_call_and_breaks_no_law(ledger: Ledger) -> None:
    ledger.write([outcome()])
    ledger.write([decided(), posted()])

    assert not [finding for finding in verify(ledger) if finding.breaches]


def test_old_outcomes_are_pruned_with_the_calls_of_their_time(ledger: Ledger) -> None:
    ledger.write([decided(), posted(), outcome(), outcome("o2", at_us=5 * DAY_US)])
    ledger.write([decided("c9", at_us=9 * DAY_US)])

    pruned = prune(ledger, 3 * DAY_US)

    assert (pruned.calls, pruned.entries) == (1, 3)
    assert [found.outcome_id for found in outcomes(ledger, since_us=0)] == ["o2"]
    assert not [finding for finding in verify(ledger) if finding.breaches]


def test_a_copy_has_them(ledger: Ledger, tmp_path: Path) -> None:
    ledger.write([decided(), posted(), outcome()])
    with closing(open_ledger(tmp_path / "copy")) as copy:
        copy_ledger(ledger, copy, progress=lambda done, total: None)

        assert list(outcomes(copy, since_us=0)) == [outcome()]
