from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.simulation import runs, slack
from tierwise.audit.confidence import confidence, lower_bound
from tierwise.audit.counts import Counts, GradedCounts, mean_of
from tierwise.audit.evidence import log_safe, threshold

COUNTS = st.builds(
    Counts, worse=st.integers(0, 10**5), same=st.integers(0, 10**5), better=st.integers(0, 10**5)
)


@given(counts=COUNTS)
def test_the_interval_contains_the_mean_and_stays_in_range(counts: Counts) -> None:
    found = confidence(counts, alpha=0.05, margin=0.03)
    mean = mean_of(counts)

    assert -1 <= found.low <= found.high <= 1
    assert mean is None or mean in found


@given(counts=COUNTS, alphas=st.tuples(st.floats(0.001, 0.5), st.floats(0.001, 0.5)))
def test_more_certain_intervals_contain_less_certain_ones(
    counts: Counts, alphas: tuple[float, float]
) -> None:
    strict, loose = (confidence(counts, alpha=alpha, margin=0.03) for alpha in sorted(alphas))

    assert strict.low <= loose.low + 1e-9
    assert strict.high >= loose.high - 1e-9


@given(counts=COUNTS)
def test_exchanging_the_tiers_mirrors_the_interval(counts: Counts) -> None:
    mirrored = Counts(worse=counts.better, same=counts.same, better=counts.worse)
    found, other = (confidence(each, alpha=0.05, margin=0.03) for each in (counts, mirrored))

    assert (found.low, found.high) == pytest.approx((-other.high, -other.low), abs=1e-9)


def test_without_pairs_nothing_is_known() -> None:
    assert confidence(Counts(), alpha=0.05, margin=0.03).width == 2


@given(counts=COUNTS)
def test_the_lower_bound_exceeds_the_margin_exactly_where_safe_is_proven(counts: Counts) -> None:
    bound = lower_bound(counts, alpha=0.05, margin=0.03)

    if abs(bound + 0.03) > 1e-9:
        assert (bound > -0.03) == (log_safe(counts, margin=0.03) >= threshold(0.05))


def test_pairs_narrow_the_interval() -> None:
    widths = [
        confidence(Counts(worse=n, same=18 * n, better=n), alpha=0.05, margin=0.03).width
        for n in (5, 50, 500)
    ]

    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_graded_pairs_have_an_interval_too() -> None:
    found = confidence(GradedCounts(counts=(0, 40, 900, 40, 0)), alpha=0.05, margin=0.03)

    assert 0 in found
    assert found.width < confidence(Counts(worse=40, same=900, better=40), alpha=0.05, margin=0.03).width


def test_the_true_mean_is_in_the_interval_at_every_look_in_as_many_cases_as_is_stated() -> None:
    repetitions = 80
    missed = sum(
        any(
            -0.01 not in confidence(counts, alpha=0.1, margin=0.03)
            for counts in islice(runs(mean=-0.01, differing=0.08, pairs=600, seed=seed), 0, None, 6)
        )
        for seed in range(repetitions)
    )

    assert missed / repetitions <= 0.10 + slack(0.10, repetitions)
