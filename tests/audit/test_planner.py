import random
from dataclasses import replace
from math import inf
from statistics import fmean, median

import pytest

from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_needed, log_safe, threshold
from tierwise.audit.planner import (
    Allotment,
    Goal,
    Prospect,
    forecast,
    index,
    is_worth_it,
    pairs_missing,
    plan_day,
    plan_purses,
)
from tierwise.audit.posterior import Rates
from tierwise.audit.selection import bar
from tierwise.money import usd


def prospect(counts: Counts | None = None, *, line: str = "a", goal: Goal = Goal.PROVISIONAL) -> Prospect:
    counts = counts or Counts()
    return Prospect(
        line=line,
        goal=goal,
        counts=counts,
        margin=0.03,
        log_safe=log_safe(counts, margin=0.03),
        log_needed=log_needed(counts, margin=0.03),
        bar=bar(lines=12, declared=0, alpha=0.05),
        alpha=0.05,
        tasks_a_day=400,
        saving_nanos=usd("0.024"),
        pair_cost_nanos=usd("0.008"),
        pairs_a_day=200,
    )


GOOD = Counts(worse=4, same=190, better=6)
BAD = Counts(worse=25, same=170, better=5)
EVEN = Counts(worse=90, same=1860, better=30)  # at the margin


def test_the_index_prefers_the_larger_saving_the_cheaper_pair_and_the_better_chance() -> None:
    value = index(prospect())

    assert index(replace(prospect(), tasks_a_day=800)) > value > 0
    assert index(replace(prospect(), saving_nanos=usd("0.012"))) == pytest.approx(value / 2)
    assert index(replace(prospect(), pair_cost_nanos=usd("0.016"))) == pytest.approx(value / 2)
    assert index(prospect(GOOD)) > value > index(prospect(BAD))


def test_the_index_falls_with_the_days_that_evidence_takes() -> None:
    slow = replace(prospect(), pairs_a_day=4)

    assert 0 < index(slow) < index(prospect())
    assert index(replace(prospect(), pairs_a_day=0)) == 0
    assert index(slow, horizon_days=10) < index(slow)


def test_the_index_is_an_average_over_the_draws_that_are_given() -> None:
    chosen = [(0.5, 0.9)], [(0.5, 0.1)]

    assert index(prospect(), uniforms=[*chosen[0], *chosen[1]]) == pytest.approx(
        fmean(index(prospect(), uniforms=one) for one in chosen)
    )


def test_for_a_type_on_the_cheaper_tier_the_index_prefers_the_likelier_failure() -> None:
    assert index(prospect(BAD, goal=Goal.NEEDED)) > index(prospect(GOOD, goal=Goal.NEEDED))


def test_the_pairs_that_are_missing_are_about_those_that_it_takes() -> None:
    def taken(seed: int) -> int:
        draw, counts = random.Random(seed), Counts()
        while log_safe(counts, margin=0.03) < threshold(0.05):
            chance = draw.random()
            counts += Counts(worse=chance < 0.05, same=chance >= 0.1, better=0.05 <= chance < 0.1)
        return counts.pairs

    alone = replace(prospect(goal=Goal.PROVEN), bar=threshold(0.05))
    planned = pairs_missing(alone, Rates(worse=0.05, better=0.05))

    assert planned == pytest.approx(median(taken(seed) for seed in range(40)), rel=0.4)


def test_the_provisional_step_takes_fewer_pairs_than_the_proof() -> None:
    rates = Rates(worse=0.05, better=0.05)

    assert pairs_missing(prospect(), rates) < pairs_missing(prospect(goal=Goal.PROVEN), rates) / 2


def test_pairs_that_are_there_are_not_missing() -> None:
    rates = Rates(worse=0.03, better=0.03)
    before, after = prospect(goal=Goal.PROVEN), prospect(GOOD, goal=Goal.PROVEN)

    assert pairs_missing(after, rates) < pairs_missing(before, rates)


def test_exactly_at_the_margin_nothing_suffices() -> None:
    assert pairs_missing(prospect(), Rates(worse=0.06, better=0.03)) == inf


def test_a_forecast_says_pairs_cost_and_days() -> None:
    found = forecast(prospect(GOOD, goal=Goal.PROVEN))

    assert found is not None
    assert 100 < found.pairs < 1500
    assert found.cost_nanos == found.pairs * usd("0.008")
    assert found.days == pytest.approx(found.pairs / 200, rel=0.01)


def test_where_no_verdict_is_in_sight_there_is_no_forecast() -> None:
    assert forecast(replace(prospect(EVEN), pairs_a_day=5)) is None
    assert forecast(replace(prospect(), pairs_a_day=0)) is None


def test_evidence_that_pays_is_worth_it_and_evidence_that_does_not_is_given_up() -> None:
    assert is_worth_it(prospect())
    assert not is_worth_it(replace(prospect(), tasks_a_day=2, pairs_a_day=1, pair_cost_nanos=usd("0.2")))
    assert not is_worth_it(replace(prospect(), saving_nanos=-1))
    assert not is_worth_it(replace(prospect(EVEN, goal=Goal.PROVEN), tasks_a_day=30, pairs_a_day=15))
    assert is_worth_it(prospect(BAD, goal=Goal.NEEDED))
    assert not is_worth_it(replace(prospect(EVEN, goal=Goal.NEEDED), pairs_a_day=5))


def test_a_day_goes_to_the_largest_index_as_far_as_its_traffic_allows() -> None:
    best = replace(prospect(GOOD, line="best", goal=Goal.PROVEN), pairs_a_day=55, tasks_a_day=9000)
    next_best = prospect(GOOD, line="next", goal=Goal.PROVEN)

    found = plan_day([next_best, best], budget_nanos=usd("1.00"))

    assert found == (
        Allotment(line="best", pairs=55, cost_nanos=usd("0.44")),
        Allotment(line="next", pairs=70, cost_nanos=usd("0.56")),
    )


def test_a_line_gets_no_more_than_its_verdict_probably_needs() -> None:
    near = replace(prospect(GOOD, goal=Goal.PROVEN), bar=log_safe(GOOD, margin=0.03) + 0.05)

    (found,) = plan_day([near], budget_nanos=usd(100))

    assert found.pairs in {10, 20, 30}


def test_what_is_left_of_a_day_goes_to_a_cheaper_pair() -> None:
    dear = replace(prospect(GOOD, line="dear"), pair_cost_nanos=usd("0.05"), tasks_a_day=9000)
    cheap = replace(prospect(line="cheap"), pair_cost_nanos=usd("0.001"))

    assert [found.line for found in plan_day([dear, cheap], budget_nanos=usd("0.4"))] == ["cheap"]


def test_nothing_is_spent_without_a_budget_or_a_prospect() -> None:
    assert plan_day([prospect()], budget_nanos=0) == ()
    assert plan_day([replace(prospect(), saving_nanos=0)], budget_nanos=usd(5)) == ()
    assert plan_day([], budget_nanos=usd(5)) == ()


def test_a_proof_that_frees_little_comes_after_a_verdict_that_frees_all() -> None:
    almost = replace(prospect(GOOD, goal=Goal.PROVEN), frees=0.08)

    assert index(almost) == pytest.approx(0.08 * index(prospect(GOOD, goal=Goal.PROVEN)))
    assert index(almost) < index(prospect())


def test_what_one_purse_leaves_is_the_others() -> None:
    down, up = prospect(line="down"), prospect(line="up", goal=Goal.NEEDED)

    alone = plan_purses([down], [], purses_nanos=(usd("0.10"), usd("0.50")))
    both = plan_purses([down], [up], purses_nanos=(usd("0.10"), usd("0.50")))

    assert alone == plan_day([down], budget_nanos=usd("0.60"))
    spent = {allotment.line: allotment.cost_nanos for allotment in both}
    assert 0 < spent["up"] <= usd("0.50")
    assert spent["down"] <= usd("0.60") - spent["up"]
