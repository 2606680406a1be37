"""Finished tasks: gathered out of calls, costed with all that belongs to them, and compared."""

import random
from dataclasses import replace
from math import exp
from statistics import fmean
from typing import Any

import pytest

from audit.simulation import slack
from support.entries import outcome
from tierwise.audit.tasks import FEWEST, Made, Task, TaskCosts, compare, finished
from tierwise.core.ledger import Outcome

HOUR_US = 3_600_000_000


def made(call_id: str = "c1", **changes: Any) -> Made:
    values: dict[str, Any] = {
        "call_id": call_id,
        "at_us": 1_000,
        "ended_us": 2_000,
        "task_type": "extraction",
        "tier": "fast",
        "model": "haiku",
        "task_id": "t1",
        "run_id": "r1",
        "key_id": "k1",
        "first_call_id": None,
        "probability": 1.0,
        "cost_nanos": 10,
    }
    return Made(**(values | changes))


def tasks(*calls: Made, told: tuple[Outcome, ...] = (), until_us: int = 2 * HOUR_US) -> list[Task]:
    return finished(calls, told, until_us=until_us, idle_us=HOUR_US)


# --- What a task is.


def test_calls_of_a_task_are_one_and_its_cost_is_all_of_theirs() -> None:
    (task,) = tasks(made("c1"), made("c2", at_us=1_500), made("c3", at_us=1_600, cost_nanos=5))

    assert task.cost_nanos == 25


def test_without_a_task_the_run_is_one_and_without_a_run_the_attempts_at_a_request() -> None:
    runs = tasks(made("c1", task_id=None), made("c2", task_id=None), made("c3", task_id=None, run_id="r2"))
    alone = {"task_id": None, "run_id": None}
    requests = tasks(made("c1", **alone), made("c2", **alone, first_call_id="c1"), made("c3", **alone))

    assert sorted(task.cost_nanos or 0 for task in runs) == [10, 20]
    assert sorted(task.cost_nanos or 0 for task in requests) == [10, 20]


def test_a_task_of_two_types_is_two_and_two_callers_runs_of_one_name_are_two() -> None:
    assert len(tasks(made("c1"), made("c2", task_type="triage"))) == 2
    assert len(tasks(made("c1"), made("c2", key_id="k2"))) == 2


def test_an_escalation_costs_the_tier_of_the_first_call() -> None:
    (task,) = tasks(made("c0", tier="frontier", model="opus", cost_nanos=100, first_call_id="c1"), made("c1"))

    assert (task.tier, task.model, task.cost_nanos) == ("fast", "haiku", 110)


def test_an_attempt_of_unknown_cost_makes_the_tasks_cost_unknown_and_not_zero() -> None:
    (task,) = tasks(made("c1"), made("c2", at_us=1_500, cost_nanos=None))

    assert task.cost_nanos is None


# --- When it is finished.


def test_a_task_is_over_when_nothing_came_of_it_for_a_while() -> None:
    assert tasks(made(ended_us=1_000_000), until_us=HOUR_US) == []
    assert len(tasks(made(ended_us=1_000_000), until_us=HOUR_US + 1_000_000)) == 1


def test_a_task_is_over_when_its_outcome_was_told_after_its_last_call() -> None:
    early = tasks(made(at_us=5_000, ended_us=6_000), told=(outcome(at_us=4_000),), until_us=9_000)
    late = tasks(made(at_us=5_000, ended_us=6_000), told=(outcome(at_us=5_000),), until_us=9_000)

    assert early == []
    assert [task.quality for task in late] == [1.0]


def test_a_task_that_may_have_begun_before_what_is_known_is_left_out() -> None:
    calls = [made("c1", at_us=100), made("c2", at_us=300, task_id="t2")]

    found = finished(calls, (), until_us=2 * HOUR_US, idle_us=HOUR_US, whole_since_us=200)

    assert [task.at_us for task in found] == [300]


# --- What was told of it.


@pytest.mark.parametrize(
    ("about", "applies"),
    [
        ({}, True),
        ({"run_id": None}, True),
        ({"task_id": None}, True),
        ({"run_id": "r2"}, False),
        ({"task_id": "t2"}, False),
        ({"key_id": "k1"}, True),
        ({"key_id": "k2"}, False),
    ],
)
def test_an_outcome_is_of_the_task_or_the_run_that_it_names_and_of_its_callers_own(
    about: dict[str, Any], *, applies: bool
) -> None:
    (task,) = tasks(made(), told=(outcome(**about),))

    assert task.quality == (1.0 if applies else None)


def test_the_tasks_own_outcome_counts_before_its_runs_and_of_one_the_latest() -> None:
    runs_own = outcome("o9", task_id=None, quality=0.9)
    told = (outcome("o1", quality=0.1), outcome("o2", run_id=None, quality=0.2), runs_own)

    (task,) = tasks(made(), told=told)

    assert task.quality == 0.2


# --- What a tier's tasks cost.


def task(number: int, tier: str, cost: int | None, **changes: Any) -> Task:
    values: dict[str, Any] = {
        "task_type": "extraction",
        "tier": tier,
        "model": tier,
        "probability": 1.0,
        "at_us": 0,
        "run": f"{tier} {number}",
        "cost_nanos": cost,
        "quality": None,
    }
    return Task(**(values | changes))


def held(*found: Task) -> TaskCosts:
    return compare(found, dear="frontier", cheap="fast")


def both(number: int = FEWEST, *, dear: int = 100, cheap: int = 25, **changes: Any) -> list[Task]:
    numbers = range(number)
    return [
        *(task(each, "frontier", dear + each % 2, **changes) for each in numbers),
        *(task(each, "fast", cheap + each % 2, **changes) for each in numbers),
    ]


def test_the_ratio_is_of_what_a_finished_task_costs_on_either_tier() -> None:
    found = held(*both()).ratio()

    assert found is not None
    assert found.value == pytest.approx(25.5 / 100.5)
    assert found.low < found.value < found.high


def test_the_reverse_is_its_inverse() -> None:
    costs = held(*both())
    down, up = costs.ratio(), costs.reverse()

    assert down is not None
    assert up is not None
    assert (up.value, up.low, up.high) == pytest.approx((1 / down.value, 1 / down.high, 1 / down.low))


def test_too_few_tasks_or_runs_or_too_many_of_unknown_cost_say_nothing() -> None:
    enough = both()
    one_run = [replace(each, run=f"{each.tier} {number % 5}") for number, each in enumerate(enough)]

    assert held(*both(FEWEST - 1)).ratio() is None
    assert held(*one_run).ratio() is None
    assert held(*enough, *(task(100 + each, "fast", None) for each in range(3))).ratio() is None
    assert held(*enough, *(task(100 + each, "fast", None) for each in range(2))).ratio() is not None


def test_tasks_of_unknown_cost_are_counted_apart() -> None:
    costs = held(*both(), task(100, "fast", None))

    assert (costs.cheap.tasks, costs.cheap.unknown_cost, costs.tasks) == (FEWEST, 1, 2 * FEWEST)


def test_tasks_that_cost_nothing_have_no_ratio() -> None:
    assert held(*(replace(each, cost_nanos=0) for each in both())).ratio() is None


def test_a_tasks_of_a_run_resemble_each_other_and_count_as_one_observation() -> None:
    alone = [*both(200)]
    in_runs = [
        replace(each, run=f"{each.tier} {number // 20}", cost_nanos=(each.cost_nanos or 0) + number // 20)
        for number, each in enumerate(alone)
    ]

    apart, together = held(*alone).ratio(), held(*in_runs).ratio()

    assert apart is not None
    assert together is not None
    assert together.high - together.low > 5 * (apart.high - apart.low)


def simulated(seed: int, *, runs: int) -> TaskCosts:
    """Runs of four tasks whose costs are skewed and have a part in common; the cheaper tier's ratio is 0.4."""
    draw = random.Random(seed)
    found: list[Task] = []
    for tier, mean in (("frontier", 1.0), ("fast", 0.4)):
        for run in range(runs):
            common = draw.gauss(0, 0.5)
            for _ in range(4):
                cost = mean * exp(common + draw.gauss(0, 0.5) - 0.25)
                found.append(task(run, tier, int(cost * 1e9)))
    return held(*found)


@pytest.mark.parametrize("runs", [12, 50])
def test_the_interval_contains_the_true_ratio_as_often_as_is_stated(runs: int) -> None:
    repetitions = 200
    found = [simulated(seed, runs=runs).ratio() for seed in range(repetitions)]

    hits = fmean(one is not None and one.low <= 0.4 <= one.high for one in found)

    assert hits >= 0.87 - slack(0.87, repetitions)


def test_where_runs_were_drawn_each_weighs_one_over_the_chance_of_its_draw() -> None:
    """In the first half tasks cost ten times as much, and few go to the cheaper tier; in the second half most do."""
    found: list[Task] = []
    for factor, share in ((10, 0.1), (1, 0.9)):
        for number in range(1000):
            cheap = number < 1000 * share
            tier, chance = ("fast", share) if cheap else ("frontier", 1 - share)
            found.append(
                task(
                    number,
                    tier,
                    (25 if cheap else 100) * factor,
                    probability=chance,
                    run=f"{factor} {number}",
                )
            )

    ratio = held(*found).ratio()
    as_if_not_drawn = held(*(replace(each, probability=1.0) for each in found)).ratio()

    assert ratio is not None
    assert as_if_not_drawn is not None
    assert ratio.value == pytest.approx(0.25)
    assert as_if_not_drawn.value < 0.1


def test_tasks_that_were_drawn_are_compared_alone_where_they_are_enough() -> None:
    drawn = both(probability=0.5)
    others = [replace(each, cost_nanos=9_999, run=f"other {each.run}") for each in both()]

    assert held(*drawn, *others).drawn
    assert not held(*drawn[:5], *others).drawn
    assert held(*drawn, *others).tasks == 2 * FEWEST


# --- How they came out.


def test_outcomes_of_both_tiers_are_compared_once_enough_were_told() -> None:
    good = [
        replace(each, quality=float(number % 10 != 0) if each.tier == "frontier" else float(number % 2))
        for number, each in enumerate(both(40, probability=0.5))
    ]

    found = held(*good).difference()

    assert found is not None
    assert found.value == pytest.approx(0.5 - 0.9)
    assert -1 <= found.low < found.value < found.high
    assert held(*(replace(each, quality=None) for each in good)).difference() is None
