import random
from math import sqrt
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.audit.counts import Counts
from tierwise.audit.posterior import LATTICE, draws, probability_above

SMALL = st.builds(
    Counts, worse=st.integers(0, 3000), same=st.integers(0, 100_000), better=st.integers(0, 3000)
)


@pytest.mark.parametrize(
    "counts",
    [
        Counts(),
        Counts(same=55),
        Counts(worse=10, same=300, better=8),
        Counts(worse=40, same=900, better=15),
        Counts(worse=300, same=9000, better=20),
    ],
)
def test_the_probability_is_that_of_the_dirichlet_distribution(counts: Counts) -> None:
    draw, repetitions = random.Random(3), 10_000

    def above() -> bool:
        worse, same, better = (
            draw.gammavariate(shape, 1)
            for shape in (0.5 + counts.worse, 9 + counts.same, 0.5 + counts.better)
        )
        return (better - worse) / (worse + same + better) > -0.03

    simulated = sum(above() for _ in range(repetitions)) / repetitions

    assert probability_above(counts, -0.03) == pytest.approx(simulated, abs=2 / sqrt(repetitions))


@given(counts=SMALL)
@settings(max_examples=30)
def test_exchanging_the_tiers_mirrors_the_probability(counts: Counts) -> None:
    mirrored = Counts(worse=counts.better, same=counts.same, better=counts.worse)

    assert probability_above(counts, -0.03) + probability_above(mirrored, 0.03) == pytest.approx(1, abs=1e-3)


def test_about_fifty_ties_make_a_type_provisional_and_a_worse_pair_asks_for_many_more() -> None:
    assert probability_above(Counts(same=30), -0.03) < 0.95
    assert probability_above(Counts(same=55), -0.03) > 0.95
    assert probability_above(Counts(same=55, worse=1), -0.03) < 0.95


def test_hundreds_of_millions_of_pairs_are_no_problem() -> None:
    counts = Counts(worse=29_000_000, same=971_000_000)

    assert probability_above(counts, -0.03) == pytest.approx(1)
    assert probability_above(counts, -0.028) == pytest.approx(0)


@given(counts=SMALL)
@settings(max_examples=30)
def test_the_planned_draws_have_the_posterior_means(counts: Counts) -> None:
    total = counts.pairs + 10
    found = draws(counts)
    deviation = sqrt((counts.worse + counts.better + 1) / total / total)

    assert len(found) == len(LATTICE) == 24
    assert fmean(rates.differing for rates in found) == pytest.approx(
        (counts.worse + counts.better + 1) / total, abs=deviation / 4
    )
    assert fmean(rates.mean for rates in found) == pytest.approx(
        (counts.better - counts.worse) / total, abs=deviation / 2
    )


def test_draws_are_what_the_uniforms_say() -> None:
    low, high = draws(Counts(worse=50, same=900, better=50), [(0.5, 0.01), (0.5, 0.99)])

    assert low.differing == pytest.approx(0.1, abs=0.002)
    assert low.mean < -0.01 < 0.01 < high.mean
    assert sum(chance for _, chance in low.chances()) == pytest.approx(1)
