import random
from collections.abc import Iterable
from statistics import median

import pytest

from audit.simulation import pair, slack
from tierwise.audit.drift import (
    Detector,
    Suspicion,
    alarms,
    falls_below,
    observe,
    passes_less,
    rises_above,
)


def observe_all(detector: Detector, suspicion: Suspicion, values: Iterable[float]) -> Suspicion:
    """Take observations in their order, and stop at an alarm."""
    for value in values:
        suspicion = observe(detector, suspicion, value)
        if alarms(detector, suspicion):
            break
    return suspicion


def delay(detector: Detector, *, before: float, after: float, differing: float, seed: int) -> int:
    """Pairs from a change until the alarm, 200 pairs after the start."""
    draw = random.Random(seed)
    quiet = [pair(draw, mean=before, differing=differing) for _ in range(200)]
    suspicion = observe_all(detector, Suspicion(), quiet)
    begun = suspicion.observations
    while not alarms(detector, suspicion):
        suspicion = observe(detector, suspicion, pair(draw, mean=after, differing=differing))
    return suspicion.observations - begun


@pytest.mark.parametrize(("drop", "reference"), [(-0.10, 282), (-0.20, 94), (-0.40, 39)])
def test_the_median_delay_after_a_drop_is_the_reference(drop: float, reference: int) -> None:
    found = [
        delay(falls_below(0.03), before=0, after=drop, differing=0.02 - drop, seed=seed) for seed in range(60)
    ]

    assert median(found) == pytest.approx(reference, rel=0.3)


def test_a_drop_of_ten_points_is_found_within_three_hundred_pairs() -> None:
    found = [
        delay(falls_below(0.03), before=0, after=-0.10, differing=0.12, seed=seed) for seed in range(100, 160)
    ]

    assert median(found) <= 300


def test_a_rise_is_found_too() -> None:
    found = [
        delay(rises_above(0.03), before=-0.10, after=0.05, differing=0.15, seed=seed) for seed in range(30)
    ]

    assert median(found) <= 500


def test_false_alarms_are_further_apart_on_average_than_is_stated() -> None:
    detector, repetitions = falls_below(0.03, alarm_every=400), 40

    def until_alarm(seed: int) -> int:
        draw = random.Random(seed)
        return observe_all(
            detector, Suspicion(), (pair(draw, mean=-0.03, differing=0.1) for _ in range(1600))
        ).observations

    found = [until_alarm(seed) for seed in range(repetitions)]

    assert sum(found) / repetitions >= 400  # though runs are cut off at 1,600, which lowers the mean


def test_a_type_that_is_as_good_hardly_ever_alarms() -> None:
    detector = falls_below(0.03, alarm_every=5000)
    draw = random.Random(5)

    seen = observe_all(detector, Suspicion(), (pair(draw, mean=0, differing=0.1) for _ in range(5000)))

    assert not alarms(detector, seen)


@pytest.mark.parametrize(("rate", "reference"), [(0.87, 848), (0.82, 194), (0.72, 53)])
def test_the_free_monitor_finds_a_fallen_pass_rate_in_about_as_many_tasks_as_the_reference(
    rate: float, reference: int
) -> None:
    detector = passes_less(0.90, margin=0.03)

    def tasks(seed: int) -> int:
        draw = random.Random(seed)
        suspicion = observe_all(detector, Suspicion(), (draw.random() < 0.92 for _ in range(300)))
        assert not alarms(detector, suspicion)
        fallen = (draw.random() < rate for _ in range(20_000))
        return observe_all(detector, suspicion, fallen).observations - 300

    assert median(tasks(seed) for seed in range(40)) == pytest.approx(reference, rel=0.35)


def test_a_pass_rate_in_control_seldom_alarms() -> None:
    detector, repetitions = passes_less(0.90, margin=0.03, alarm_every=2000), 20

    def alarmed(seed: int) -> bool:
        draw = random.Random(seed)
        return alarms(
            detector, observe_all(detector, Suspicion(), (draw.random() < 0.92 for _ in range(2000)))
        )

    share = sum(alarmed(seed) for seed in range(repetitions)) / repetitions
    assert share <= 0.10 + slack(0.10, repetitions)


def test_a_detector_that_nobody_resets_stays_finite() -> None:
    detector = falls_below(0.03)
    suspicion = Suspicion()
    for _ in range(3000):
        suspicion = observe(detector, suspicion, -1)

    assert 1e299 < suspicion.level < 1e301
