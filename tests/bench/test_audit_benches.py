"""A small part of what the benches of the audit measure, on seeds of its own, and the measures themselves."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from audit.simulation import slack

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def _benches() -> Iterator[None]:
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


def bench(name: str) -> Any:
    return import_module(name)


def test_at_the_margin_the_bets_claim_at_most_at_their_rate_where_a_peeking_test_claims_often() -> None:
    pairs, repetitions = bench("audit_pairs"), 60

    found = [pairs.claims(cell, seed=seed) for cell in pairs.CELLS[1:4] for seed in range(repetitions)]

    assert sum(one.betting for one in found) / len(found) <= 0.05 + slack(0.05, len(found))
    assert sum(one.peeking for one in found) / len(found) > 0.35


def test_a_proof_takes_about_as_many_pairs_as_a_planned_look_that_knows_what_differs() -> None:
    pairs = bench("audit_pairs")
    cell = pairs.CELLS[4]

    found = pairs.quantiles([pairs.pairs_until_proven(cell, seed=seed) for seed in range(200)])

    assert found["median"] <= 1.15 * cell.fixed_pairs


@pytest.fixture(scope="module")
def rows(_benches: None) -> dict[str, dict[str, float]]:
    fleets = bench("audit_fleet")
    seeds = range(910, 913)
    return {
        plan.name: fleets.figures([fleets.run(fleets.fleet(seed), plan, seed=seed) for seed in seeds])
        for plan in fleets.PLANS
    }


def test_two_steps_leave_a_fraction_of_what_shadowing_at_one_rate_leaves(
    rows: dict[str, dict[str, float]],
) -> None:
    assert rows["constant_rate"]["regret_share"] > 0.6
    assert rows["two_steps_flat"]["regret_share"] < 0.3
    assert rows["two_steps_credit"]["regret_share"] < 0.25
    assert rows["two_steps_credit"]["day_of_80"] < rows["two_steps_flat"]["day_of_80"] < 40


def test_what_stands_proven_at_the_end_is_right_and_the_audit_keeps_to_its_share(
    rows: dict[str, dict[str, float]],
) -> None:
    for name in ("constant_rate", "one_rate_proof_only", "index_proof_only", "two_steps_flat"):
        assert rows[name]["final_wrong"] == 0
        assert rows[name]["audit_share"] <= 0.0201


# --- Recorded outcomes.


def row(task_type: str, cheap: float, dear: float) -> Any:
    return bench("outcomes_data").Row(
        task_type=task_type, cheap=cheap, dear=dear, cheap_usd=0.1, dear_usd=1.0
    )


def test_a_router_that_tells_nothing_apart_recovers_half_on_average() -> None:
    outcomes = bench("outcomes")
    curve = outcomes.curve_of([(0.0, row("a", 0, 1)), (0.0, row("a", 1, 1))])

    assert outcomes.area([(share, gained / 1) for share, gained in curve]) == pytest.approx(0.5)
    assert outcomes.reach(curve, 0.8) == pytest.approx(0.8)


def test_a_router_that_knows_which_type_needs_the_dearer_model_recovers_more() -> None:
    outcomes = bench("outcomes")
    rows = [row("hard", 0, 1)] * 60 + [row("easy", 1, 1)] * 60
    data = bench("outcomes_data").Recorded(name="made up", rows=tuple(rows))

    found = outcomes.routers(data, repetitions=2, seed=1)

    assert found["10"]["apgr"] == pytest.approx(0.75, abs=0.02)
    assert found["10"]["cpt50"] == pytest.approx(25, abs=2)


def test_claims_about_recorded_outcomes_are_held_against_all_the_data() -> None:
    outcomes = bench("outcomes")
    rows = [row("hard", 0, 1)] * 100 + [row("easy", 1, 1)] * 400
    data = bench("outcomes_data").Recorded(name="made up", rows=tuple(rows))

    found = outcomes.claims(data, margin=0.03, orders=2, seed=1)

    assert (found["safe"], found["proven"], found["needed"]) == (1, 1, 1)
    assert found["wrong_proven_share"] == found["wrong_needed_share"] == 0
    assert found["saved_of_best"] == pytest.approx(1)
    assert found["pairs"] < 500


def test_a_cascade_with_a_perfect_verifier_is_as_good_as_the_better_of_both() -> None:
    data = bench("outcomes_data").Recorded(name="made up", rows=(row("a", 0, 1), row("a", 1, 0)))

    found = bench("outcomes").cascades(data)["100 % noticed, 0 % false alarms"]

    assert found == {"quality": 1.0, "cost_share": pytest.approx(1.2 / 2)}


def test_without_the_recorded_outcomes_their_bench_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "outcomes.py"), "--data", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 3
    assert "is no folder: the recorded outcomes are not part of the project" in done.stdout
