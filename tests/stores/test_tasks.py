"""Finished tasks as a ledger has them, of either kind."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, failed, outcome, posted, settled
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.tasks import finished_tasks

HOUR_US = 3_600_000_000
LATER_US = 3 * HOUR_US


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    where = tmp_path / "ledger" if request.param == "sqlite" else request.getfixturevalue("address")
    with closing(open_ledger(where)) as ledger:
        yield ledger


def costs(ledger: Ledger, *, until_us: int = LATER_US, looks_at: int = 100) -> list[int | None]:
    found = finished_tasks(ledger, ["extraction"], until_us=until_us, idle_us=HOUR_US, looks_at=looks_at)
    return [task.cost_nanos for task in found]


def test_attempts_of_a_task_are_summed_and_settled_ones_too(ledger: Ledger) -> None:
    ledger.write(
        [
            decided("c1"),
            posted("c1"),
            decided("c2", first_call_id="c1", attempt=2),
            failed("c2", cost_nanos=None),
        ]
    )
    before = costs(ledger)
    ledger.write([settled("c2", cost_nanos=500)])

    assert (before, costs(ledger)) == ([None], [1_500])


def test_the_audits_calls_and_calls_that_went_as_asked_and_other_types_are_no_tasks(ledger: Ledger) -> None:
    ledger.write(
        [decided("c1", purpose="audit"), decided("c2", acts=False), decided("c3", task_type="triage")]
    )

    assert costs(ledger) == []
    assert finished_tasks(ledger, [], until_us=LATER_US, idle_us=HOUR_US) == []


def test_only_what_was_known_at_a_time_counts(ledger: Ledger) -> None:
    ledger.write([decided(), posted(), outcome(at_us=5_000_000), decided("c9", at_us=LATER_US, task_id="t9")])

    (then,) = finished_tasks(ledger, ["extraction"], until_us=6_000_000, idle_us=HOUR_US)
    assert (then.cost_nanos, then.quality, then.tier, then.model) == (1_000, 1.0, "fast", "claude-haiku-5-5")
    assert costs(ledger, until_us=4_000_000) == []


def test_of_more_calls_than_are_looked_at_the_first_tasks_may_be_cut_and_do_not_count(ledger: Ledger) -> None:
    for number in range(4):
        at_us = number * HOUR_US * 2
        ledger.write(
            [decided(f"c{number}", at_us=at_us, task_id=f"t{number}"), posted(f"c{number}", at_us=at_us)]
        )

    assert len(costs(ledger, until_us=20 * HOUR_US)) == 4
    assert len(costs(ledger, until_us=20 * HOUR_US, looks_at=3)) == 2
