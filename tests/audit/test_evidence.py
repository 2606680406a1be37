import random
from dataclasses import replace
from itertools import pairwise
from math import exp, inf, log, log1p, sqrt
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.simulation import pair, runs, slack
from tierwise.audit.counts import Counts, GradedCounts
from tierwise.audit.evidence import (
    BOLDEST,
    growth,
    log_above,
    log_below,
    log_needed,
    log_safe,
    stakes,
    threshold,
)

OUTCOMES = st.lists(st.sampled_from([-1, 0, 0, 0, 1]), max_size=40)
COUNTS = st.builds(
    Counts, worse=st.integers(0, 10**6), same=st.integers(0, 10**6), better=st.integers(0, 10**6)
)
PROVEN = threshold(0.05)


def counted(outcomes: list[int]) -> Counts:
    return Counts(worse=outcomes.count(-1), same=outcomes.count(0), better=outcomes.count(1))


def test_evidence_begins_at_one() -> None:
    assert log_safe(Counts(), margin=0.03) == 0
    assert log_needed(Counts(), margin=0.03) == 0


def test_stakes_are_evenly_spaced_in_their_logarithms() -> None:
    found = stakes(0.03)

    assert len(found) == 12
    assert found[0] == pytest.approx(0.03 / 0.4)
    assert found[-1] == pytest.approx(BOLDEST)
    assert all(after / before == pytest.approx(found[1] / found[0]) for before, after in pairwise(found))


@given(outcomes=OUTCOMES, margin=st.sampled_from([0.01, 0.03, 0.05, 0.1]))
def test_the_capital_is_that_of_twelve_gamblers_who_bet_on_each_pair(
    outcomes: list[int], margin: float
) -> None:
    wealths = [1.0] * 12
    for outcome in outcomes:
        for number, stake in enumerate(stakes(margin)):
            wealths[number] *= 1 + stake / (1 - margin) * (outcome + margin)

    found = log_safe(counted(outcomes), margin=margin)

    assert found == pytest.approx(log(sum(wealths) / 12), abs=1e-9)


@given(outcomes=OUTCOMES, margin=st.sampled_from([0.03, 0.05]))
def test_a_fair_pair_leaves_the_expected_capital_where_it_was(outcomes: list[int], margin: float) -> None:
    counts = counted(outcomes)  # and the next pair's mean is -0.03
    now = exp(log_safe(counts, margin=margin))

    expected = (
        0.07 * exp(log_safe(counts + Counts(better=1), margin=margin))
        + 0.83 * exp(log_safe(counts + Counts(same=1), margin=margin))
        + 0.10 * exp(log_safe(counts + Counts(worse=1), margin=margin))
    )

    assert expected == pytest.approx(now) if margin == 0.03 else expected > now


@given(counts=COUNTS)
def test_a_better_pair_speaks_for_safe_and_a_worse_one_for_needed(counts: Counts) -> None:
    better, worse = counts + Counts(better=1), counts + Counts(worse=1)

    assert log_safe(better, margin=0.03) > log_safe(counts, margin=0.03) > log_safe(worse, margin=0.03)
    assert log_needed(better, margin=0.03) < log_needed(counts, margin=0.03) < log_needed(worse, margin=0.03)


@given(counts=COUNTS, one=st.floats(-0.99, 0.99), other=st.floats(-0.99, 0.99))
def test_evidence_against_a_mean_is_monotone_in_that_mean(counts: Counts, one: float, other: float) -> None:
    low, high = sorted((one, other))
    fractions = stakes(0.03)

    assert log_above(counts, mean=low, fractions=fractions) >= (
        log_above(counts, mean=high, fractions=fractions) - 1e-6
    )
    assert log_below(counts, mean=low, fractions=fractions) <= (
        log_below(counts, mean=high, fractions=fractions) + 1e-6
    )


def test_millions_of_pairs_overflow_nothing() -> None:
    safe = log_safe(Counts(worse=10**7, same=10**9, better=10**8), margin=0.03)
    unsafe = log_safe(Counts(worse=10**8, same=10**8), margin=0.03)

    assert 10**7 < safe < 10**9
    assert -(10**9) < unsafe < -(10**6)


def test_the_end_of_the_range_is_refuted_by_one_pair_beyond_it() -> None:
    fractions = stakes(0.03)

    assert log_above(Counts(same=1), mean=-1.0, fractions=fractions) == inf
    assert log_above(Counts(worse=9), mean=-1.0, fractions=fractions) == 0
    assert log_below(Counts(same=1), mean=1.0, fractions=fractions) == inf
    assert log_below(Counts(better=9), mean=1.0, fractions=fractions) == 0


@given(counts=COUNTS)
def test_three_grades_are_the_three_counts(counts: Counts) -> None:
    graded = GradedCounts(counts=(counts.worse, counts.same, counts.better))

    assert log_safe(graded, margin=0.03) == log_safe(counts, margin=0.03)


def test_halves_weigh_less_than_whole_losses() -> None:
    halves = GradedCounts(counts=(0, 10, 100, 0, 0))
    wholes = GradedCounts(counts=(10, 0, 100, 0, 0))

    assert log_needed(wholes, margin=0.03) > log_needed(halves, margin=0.03) > 0


def test_growth_is_that_of_the_best_stake() -> None:
    chances = [(-1.0, 0.05), (0.0, 0.90), (1.0, 0.05)]

    def grown(bet: float) -> float:
        return sum(chance * log1p(bet * (value + 0.03)) for value, chance in chances)

    best = max(grown(step / 10_000 * BOLDEST / 0.97) for step in range(10_001))
    found = growth(chances, mean=-0.03, low=-1.0, high=1.0, above=True)

    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(0.03**2 / (2 * 0.1), rel=0.1)  # the rule of thumb


def test_nothing_grows_on_the_wrong_side() -> None:
    chances = [(-1.0, 0.10), (0.0, 0.85), (1.0, 0.05)]

    assert growth(chances, mean=-0.03, low=-1.0, high=1.0, above=True) == 0
    assert growth(chances, mean=-0.03, low=-1.0, high=1.0, above=False) > 0


# --- What is promised under continuous looking, and what it costs.

CELLS = [(0.01, 0.05), (0.03, 0.05), (0.03, 0.10), (0.05, 0.10), (0.05, 0.20), (0.03, 0.031)]
REPETITIONS = 200


@pytest.mark.parametrize(("margin", "differing"), CELLS)
def test_at_the_margin_safe_is_proven_falsely_at_most_at_the_stated_rate_however_often_one_looks(
    margin: float, differing: float
) -> None:
    false = sum(
        any(
            log_safe(counts, margin=margin) >= PROVEN
            for counts in runs(mean=-margin, differing=differing, pairs=1500, seed=seed)
        )
        for seed in range(REPETITIONS)
    )

    assert false / REPETITIONS <= 0.05 + slack(0.05, REPETITIONS)


def test_at_the_margin_needed_is_proven_falsely_at_most_at_the_stated_rate() -> None:
    false = sum(
        any(
            log_needed(counts, margin=0.03) >= PROVEN
            for counts in runs(mean=-0.03, differing=0.1, pairs=1500, seed=seed)
        )
        for seed in range(REPETITIONS)
    )

    assert false / REPETITIONS <= 0.05 + slack(0.05, REPETITIONS)


def test_a_t_test_that_is_looked_at_after_every_pair_is_wrong_in_more_than_a_third_of_cases() -> None:
    def peeks(seed: int) -> bool:
        draw, total, squares = random.Random(seed), 0.0, 0
        for number in range(1, 2001):
            difference = pair(draw, mean=-0.03, differing=0.05)
            total, squares = total + difference, squares + difference * difference
            mean = total / number
            variance = (squares - number * mean**2) / max(1, number - 1)
            if number >= 30 and variance > 0 and (mean + 0.03) / sqrt(variance / number) > 1.645:
                return True
        return False

    false = sum(peeks(seed) for seed in range(200)) / 200

    assert false > 0.35


def pairs_until_safe(*, differing: float, margin: float, alpha: float, seed: int) -> int:
    before = Counts()
    for after in runs(mean=0, differing=differing, pairs=60_000, seed=seed):
        if log_safe(after, margin=margin) >= threshold(alpha):
            return first_safe(before, after, margin=margin, alpha=alpha)
        before = after
    raise AssertionError


def first_safe(before: Counts, after: Counts, *, margin: float, alpha: float) -> int:
    """Pairs at the proof, which lies in a run of ties or at the one pair between the two."""
    while after.same > before.same + 1:
        middle = replace(after, same=(after.same + before.same) // 2)
        proven = log_safe(middle, margin=margin) >= threshold(alpha)
        before, after = (before, middle) if proven else (middle, after)
    return after.pairs


@pytest.mark.parametrize(
    ("margin", "differing", "alpha", "reference"),
    [
        (0.03, 0.02, 0.05, 246),
        (0.03, 0.05, 0.05, 405),
        (0.03, 0.10, 0.05, 696),
        (0.05, 0.02, 0.05, 116),
        (0.05, 0.05, 0.05, 167),
        (0.05, 0.10, 0.05, 258),
        (0.05, 0.20, 0.05, 465),
        (0.03, 0.05, 0.0025, 830),
        (0.05, 0.10, 0.0025, 548),
    ],
)
def test_the_median_of_pairs_until_a_proof_is_the_reference(
    margin: float, differing: float, alpha: float, reference: int
) -> None:
    found = [
        pairs_until_safe(differing=differing, margin=margin, alpha=alpha, seed=seed)
        for seed in range(REPETITIONS)
    ]

    # The spread of a median: about 1.25 standard deviations of one run, which is three quarters of its mean.
    assert median(found) == pytest.approx(reference, rel=3 * 1.25 * 0.75 / sqrt(REPETITIONS))


@pytest.mark.parametrize(("mean", "reference"), [(-0.08, 262), (-0.12, 112), (-0.20, 56)])
def test_the_median_of_pairs_until_the_dearer_tier_is_needed_is_the_reference(
    mean: float, reference: int
) -> None:
    found: list[int] = []
    for seed in range(REPETITIONS):
        walk = runs(mean=mean, differing=-mean + 0.05, pairs=20_000, seed=seed)
        found.append(next(counts.pairs for counts in walk if log_needed(counts, margin=0.03) >= PROVEN))

    assert median(found) == pytest.approx(reference, rel=0.2)
