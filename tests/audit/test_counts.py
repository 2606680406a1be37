import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.audit.counts import Arm, Counts, GradedCounts, LineKey, mean_of, observations
from tierwise.audit.evidence import log_safe

COUNTS = st.builds(
    Counts, worse=st.integers(0, 10**9), same=st.integers(0, 10**9), better=st.integers(0, 10**9)
)
KEY = LineKey(
    task_type="extraction",
    dear=Arm(tier="frontier", model="claude-opus-5-5", effort="medium"),
    cheap=Arm(tier="fast", model="claude-haiku-5-5"),
    check_version="c1",
    prompt_version="p1",
)


@given(one=COUNTS, other=COUNTS, third=COUNTS)
def test_merging_is_commutative_and_associative(one: Counts, other: Counts, third: Counts) -> None:
    assert one + other == other + one
    assert (one + other) + third == one + (other + third)
    assert one + Counts() == one


@given(outcomes=st.lists(st.sampled_from([-1, 0, 1]), max_size=60), seed=st.integers(0, 10**6))
def test_evidence_does_not_depend_on_the_order_of_pairs_or_on_who_counted_them(
    outcomes: list[int], seed: int
) -> None:
    def counted(some: list[int]) -> Counts:
        return sum(
            (Counts(worse=outcome == -1, same=outcome == 0, better=outcome == 1) for outcome in some),
            start=Counts(),
        )

    shuffled = random.Random(seed).sample(outcomes, len(outcomes))
    half = len(outcomes) // 2

    assert log_safe(counted(shuffled[:half]) + counted(shuffled[half:]), margin=0.03) == log_safe(
        counted(outcomes), margin=0.03
    )


def test_the_mean_of_no_pairs_is_unknown() -> None:
    assert mean_of(Counts()) is None
    assert mean_of(Counts(worse=1, same=2, better=1)) == 0
    assert mean_of(GradedCounts(counts=(0, 2, 0, 0, 0))) == -0.5


def test_grades_are_evenly_spaced_from_minus_one_to_one() -> None:
    graded = GradedCounts(counts=(1, 2, 3, 4, 5)) + GradedCounts(counts=(0, 0, 0, 0, 1))

    assert graded.cells() == ((-1.0, 1), (-0.5, 2), (0.0, 3), (0.5, 4), (1.0, 6))
    assert observations(graded) == graded.pairs == 16


@pytest.mark.parametrize(
    "changed",
    [
        replace(KEY, task_type="triage"),
        replace(KEY, cheap=Arm(tier="fast", model="claude-haiku-6")),
        replace(KEY, dear=replace(KEY.dear, effort="high")),
        replace(KEY, check_version="c2"),
        replace(KEY, judge_version="j1"),
        replace(KEY, prompt_version=None),
        replace(KEY, opening=1),
    ],
)
def test_whatever_may_change_the_truth_opens_a_new_line(changed: LineKey) -> None:
    assert changed.id != KEY.id


def test_a_line_has_the_same_id_in_every_process() -> None:
    assert KEY.id == "2ad2b4532bcbd0db51e0aeed9854382b"
