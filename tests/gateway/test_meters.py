"""What the gateway counts of itself."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.gateway.meters import Meters, Quantiles

LONGEST_US = int(1.02**999)
"""Longer durations share the last bucket."""


def test_nothing_has_no_quantile() -> None:
    assert Quantiles().at(0.5) is None


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_a_lone_duration_is_every_quantile(share: float) -> None:
    quantiles = Quantiles()
    quantiles.add(12_345)

    found = quantiles.at(share)
    assert found is not None
    assert found == pytest.approx(12_345, rel=0.01)


@given(st.lists(st.integers(2, LONGEST_US), min_size=1, max_size=60), st.floats(0.001, 1.0))
def test_a_quantile_is_within_one_per_cent_of_the_durations_own(durations: list[int], share: float) -> None:
    quantiles = Quantiles()
    for duration in durations:
        quantiles.add(duration)

    found = quantiles.at(share)
    own = sorted(durations)[math.ceil(share * len(durations)) - 1]
    assert found is not None
    assert found == pytest.approx(own, rel=0.0101)


@given(st.integers(-(10**6), 10**15))
def test_any_duration_is_counted_even_if_a_clock_was_set_back(duration: int) -> None:
    quantiles = Quantiles()
    quantiles.add(duration)

    assert quantiles.count == 1
    assert quantiles.at(1.0) is not None


def test_a_snapshot_has_milliseconds_and_names_that_stay() -> None:
    meters = Meters()
    meters.calls = 3
    for microseconds in (1_000, 2_000, 90_000):
        meters.added.add(microseconds)

    snapshot = meters.snapshot()

    assert snapshot.keys() == {"calls", "in_flight", "passed_through", "added_ms"}
    added = snapshot["added_ms"]
    assert isinstance(added, dict)
    assert added == {
        "p50": pytest.approx(2.0, rel=0.01),
        "p90": pytest.approx(90.0, rel=0.01),
        "p99": pytest.approx(90.0, rel=0.01),
    }
