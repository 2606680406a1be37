"""The audit's evidence in a ledger, of either kind."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from support.entries import decided, posted
from tierwise.core.ledger import Declared, Graded, Paired
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.pairs import DAY_US, DaySpend, evidence, spend
from tierwise.stores.ledger.retention import prune
from tierwise.stores.ledger.verification import verify

PAIR = Paired(
    pair_id="pair-1",
    at_us=5,
    call_id="c1",
    shadow_call_id="c2",
    task_type="extraction",
    line="0123",
    line_parts=(
        ("task_type", "extraction"),
        ("dear.tier", "frontier"),
        ("dear.effort", None),
        ("opening", 0),
    ),
    on_dear=True,
    difference=None,
    how="differs",
    probability=0.1,
    cluster="k1",
    dear_nanos=50,
    cheap_nanos=None,
)


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    where = tmp_path / "ledger" if request.param == "sqlite" else request.getfixturevalue("address")
    with closing(open_ledger(where)) as ledger:
        yield ledger


def test_a_pair_is_read_as_it_was_written(ledger: Ledger) -> None:
    ledger.write([PAIR])

    assert evidence(ledger).pairs == (PAIR,)


def test_a_grade_without_its_pair_breaks_a_law(ledger: Ledger) -> None:
    grade = Graded(pair_id="pair-1", at_us=6, difference=1, how="label")
    ledger.write([PAIR, grade, replace(grade, pair_id="pair-2")])

    found = {finding.law: finding.examples for finding in verify(ledger) if finding.breaches}

    assert found == {"every grade belongs to a pair": ("pair-2",)}


def test_an_outcome_that_is_told_later_counts_and_only_the_first(ledger: Ledger) -> None:
    ledger.write([PAIR])
    ledger.write([Graded(pair_id="pair-1", at_us=6, difference=-1, how="label")])
    ledger.write([Graded(pair_id="pair-1", at_us=7, difference=1, how="label")])

    assert evidence(ledger).pairs == (replace(PAIR, difference=-1, how="label"),)


def test_a_cluster_gives_a_line_one_pair_a_day_whoever_made_it(ledger: Ledger) -> None:
    again = replace(PAIR, pair_id="pair-2", at_us=6)
    next_day = replace(PAIR, pair_id="pair-3", at_us=DAY_US)
    ledger.write([PAIR])
    ledger.write([again, next_day])

    assert [pair.pair_id for pair in evidence(ledger).pairs] == ["pair-1", "pair-3"]


def test_a_line_is_declared_once(ledger: Ledger) -> None:
    ledger.write([Declared(line="0123", at_us=8, log_e=5.5, pairs=130)])
    ledger.write([Declared(line="0123", at_us=9, log_e=1.5, pairs=140)])

    assert evidence(ledger).frozen == {"0123": 5.5}


def test_evidence_outlives_the_entries_of_its_calls(ledger: Ledger) -> None:
    ledger.write([decided(), posted(), PAIR, decided("c9", at_us=9 * DAY_US)])
    prune(ledger, 3 * DAY_US)

    assert evidence(ledger).pairs == (PAIR,)
    assert not [finding for finding in verify(ledger) if finding.breaches]


def test_a_days_spend_has_the_audits_own_calls_apart(ledger: Ledger) -> None:
    ledger.write([decided(), decided("c2", purpose="audit", first_call_id="c1")])
    ledger.write([posted(), posted("c2", cost_nanos=7)])

    assert spend(ledger, since_day=0) == (
        DaySpend(day=0, task_type="(audit)", calls=1, cost_nanos=7),
        DaySpend(day=0, task_type="extraction", calls=1, cost_nanos=1_000),
    )
    assert spend(ledger, since_day=1) == ()
