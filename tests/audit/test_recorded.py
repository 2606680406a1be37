import random
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.simulation import pair, slack
from tierwise.audit.counts import Counts, observations
from tierwise.audit.evidence import log_needed, log_safe, threshold
from tierwise.audit.recorded import (
    GRID,
    MICROS,
    Compared,
    Concluded,
    Grid,
    Recorded,
    coins,
    conclude,
    floor_step,
)
from tierwise.audit.verdicts import Verdict
from tierwise.money import usd

DIFFERENCES = st.floats(-1, 1).map(lambda value: round(value * MICROS))


def compared(low: float, high: float | None = None, *, dear: str | None = "0.10") -> Compared:
    return Compared(
        low_micros=round(low * MICROS),
        high_micros=round((low if high is None else high) * MICROS),
        dear_nanos=None if dear is None else usd(dear),
        cheap_nanos=usd("0.01"),
    )


def recorded(*pairs: Compared) -> Recorded:
    found = Recorded()
    for one in pairs:
        found.add(one)
    return found


def only(found: Recorded, *, margin: float = 0.03) -> Concluded:
    (one,) = conclude({"extraction": found}, margin=margin, alpha=0.05)
    return one


def test_pairs_that_pass_or_fail_have_the_evidence_of_the_three_counts() -> None:
    found = recorded(*[compared(-1)] * 3, *[compared(0)] * 200, *[compared(1)] * 4)
    counts = Counts(worse=3, same=200, better=4)

    assert log_safe(found.for_safe, margin=0.03) == pytest.approx(log_safe(counts, margin=0.03))
    assert log_needed(found.for_needed, margin=0.03) == pytest.approx(log_needed(counts, margin=0.03))
    assert coins(found.for_safe) == counts


@pytest.mark.parametrize("part", [0, 1 / 2, 1 / 3, 2 / 3, 0.25, 0.2, 0.7 - 0.4, 1 / 12, 0.01, 1])
def test_common_fractions_lie_on_the_grid(part: float) -> None:
    micros = round(part * MICROS)

    assert floor_step(micros) == -floor_step(-micros) == round(part * GRID)


@given(differences=st.lists(DIFFERENCES, min_size=1, max_size=30))
@settings(max_examples=50)
def test_the_grid_never_gives_either_claim_more_than_the_differences_do(differences: list[int]) -> None:
    found = Recorded()
    for micros in differences:
        found.add(Compared(low_micros=micros, high_micros=micros, dear_nanos=None, cheap_nanos=None))
    forgiven = 1e-6 * len(differences)

    worst = sum(value * count for value, count in found.for_safe.cells())
    best = sum(value * count for value, count in found.for_needed.cells())

    assert worst - forgiven <= sum(differences) / MICROS <= best + forgiven
    assert observations(found.for_safe) == observations(found.for_needed) == len(differences)


@given(differences=st.lists(DIFFERENCES, min_size=1, max_size=30))
@settings(max_examples=50)
def test_coins_are_as_many_as_the_differences_and_no_better_in_the_mean(differences: list[int]) -> None:
    tally = Grid({floor_step(micros): 1 for micros in differences})

    counts = coins(tally)

    assert counts.pairs == observations(tally)
    mean = sum(value * count for value, count in tally.cells())
    assert mean - 2 <= counts.better - counts.worse <= mean + 1e-6


def test_small_graded_differences_prove_with_fewer_pairs_than_large_ones() -> None:
    rng = random.Random(1)
    graded = recorded(*(compared(rng.uniform(-0.1, 0.1)) for _ in range(200)))
    whole = recorded(*(compared(float(pair(rng, mean=0, differing=0.1))) for _ in range(200)))

    assert log_safe(graded.for_safe, margin=0.03) > log(20) > log_safe(whole.for_safe, margin=0.03)


def test_a_graded_type_at_the_margin_is_proven_at_most_at_the_stated_rate_however_often_one_looks() -> None:
    repetitions = 150

    def proves(seed: int) -> bool:
        rng, found = random.Random(seed), Recorded()
        for number in range(1, 601):
            found.add(compared(-0.03 + rng.choice((-0.37, 0.37, -0.05, 0.05))))
            if number % 10 == 0 and log_safe(found.for_safe, margin=0.03) >= threshold(0.05):
                return True
        return False

    assert sum(proves(seed) for seed in range(repetitions)) / repetitions <= 0.05 + slack(0.05, repetitions)


def test_a_pair_of_unknown_quality_counts_at_its_worst_for_either_claim() -> None:
    whole = recorded(*[compared(0)] * 180)
    opened = recorded(*[compared(0)] * 180, *[compared(-1, 1)] * 8)

    assert only(whole).verdict is Verdict.PROVEN
    assert only(opened).verdict is Verdict.TOO_EARLY
    assert only(opened).interval.low < only(whole).interval.low
    assert only(opened).interval.high > only(whole).interval.high
    assert (opened.undecided, opened.mean) == (8, 0)


def test_failures_that_were_dropped_would_have_proven_what_is_needed() -> None:
    kept = recorded(*[compared(0)] * 200, *[compared(-1)] * 30)
    dropped = recorded(*[compared(0)] * 200)

    assert only(dropped).verdict is Verdict.PROVEN
    assert only(kept).verdict is Verdict.NEEDED


def test_only_both_costs_of_a_pair_enter_the_saving_and_its_interval_holds_the_mean() -> None:
    one = only(recorded(compared(0), compared(0, dear="0.30"), compared(0, dear=None)))

    assert one.recorded.costs.pairs == 2
    assert one.saved is not None
    assert one.saved.nanos == usd("0.19")
    assert one.saved.low_nanos < usd("0.09") < usd("0.29") < one.saved.high_nanos


def test_claims_are_declared_together_over_all_types() -> None:
    def pairs(number: int) -> Recorded:
        return recorded(*[compared(0)] * number)

    many = {f"type-{number}": pairs(5) for number in range(19)}

    (alone,) = conclude({"a": pairs(180)}, margin=0.03, alpha=0.05)
    among = {one.task_type: one for one in conclude({**many, "a": pairs(180)}, margin=0.03, alpha=0.05)}

    assert alone.verdict is Verdict.PROVEN
    assert among["a"].verdict is Verdict.PROVISIONAL
    assert among["a"].more_pairs is not None


def test_a_type_that_is_known_to_lie_at_the_margin_is_too_close() -> None:
    at_margin = recorded(*[compared(-0.05)] * 3000, *[compared(-0.01)] * 3000)

    assert only(at_margin).verdict is Verdict.TOO_CLOSE
    assert only(at_margin).more_pairs is None


def test_without_a_known_difference_no_verdict_is_in_sight() -> None:
    nothing = only(recorded(compared(-1, 1)))

    assert (nothing.verdict, nothing.recorded.mean, nothing.more_pairs) == (Verdict.TOO_EARLY, None, None)


def test_the_type_with_the_largest_saving_over_its_pairs_comes_first() -> None:
    small, large = recorded(compared(0)), recorded(compared(0, dear="9"))

    found = conclude({"a": small, "b": large}, margin=0.03, alpha=0.05)

    assert [one.task_type for one in found] == ["b", "a"]


def test_nothing_is_concluded_from_nothing() -> None:
    assert conclude({}, margin=0.03, alpha=0.05) == ()
