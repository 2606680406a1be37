import random
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.simulation import pair, slack
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_above, log_below, mixture, stakes, threshold
from tierwise.audit.splitting import (
    MOST_GROUPS,
    OTHERS,
    Gap,
    Grouping,
    Groups,
    log_different,
    propose_split,
    routable_gap,
)

COUNTS = st.builds(Counts, worse=st.integers(0, 200), same=st.integers(0, 3000), better=st.integers(0, 200))
ALIKE = Counts(worse=60, same=2880, better=60)
LOSING = Counts(worse=60, same=330, better=10)
FINE = Counts(worse=8, same=380, better=12)


def simulated(seed: int, means: list[float], *, pairs: int, differing: float = 0.2) -> list[Counts]:
    draw = random.Random(seed)
    groups: list[Counts] = []
    for mean in means:
        found = [pair(draw, mean=mean, differing=differing) for _ in range(pairs)]
        groups.append(Counts(worse=found.count(-1), same=found.count(0), better=found.count(1)))
    return groups


@given(groups=st.lists(COUNTS, min_size=2, max_size=4), common=st.floats(-0.9, 0.9))
@settings(max_examples=25)
def test_the_evidence_is_the_least_against_any_common_mean(groups: list[Counts], common: float) -> None:
    found = log_different(groups, margin=0.03)
    sides = [
        side(each, mean=common, fractions=stakes(0.03)) for each in groups for side in (log_above, log_below)
    ]

    if sum(group.pairs > 0 for group in groups) >= 2:
        assert found <= mixture(sides) + 1e-6


@given(group=COUNTS, copies=st.integers(2, 4))
@settings(max_examples=15)
def test_groups_with_the_same_pairs_are_no_evidence(group: Counts, copies: int) -> None:
    assert log_different([group] * copies, margin=0.03) <= 1e-9


def test_one_group_is_not_different() -> None:
    assert log_different([LOSING], margin=0.03) == 0
    assert log_different([LOSING, Counts()], margin=0.03) == 0


def test_groups_that_are_alike_are_told_apart_falsely_at_most_at_the_stated_rate() -> None:
    def told(seed: int) -> bool:
        groups = [Counts()] * 3
        for part in range(6):
            more = simulated(100 * seed + part, [-0.05] * 3, pairs=50)
            groups = [have + new for have, new in zip(groups, more, strict=True)]
            if log_different(groups, margin=0.03) >= threshold(0.05):
                return True
        return False

    repetitions = 40
    assert sum(told(seed) for seed in range(repetitions)) / repetitions <= 0.05 + slack(0.05, repetitions)


def test_groups_with_different_truths_are_told_apart() -> None:
    found = [
        log_different(simulated(seed, [-0.15, 0.0], pairs=600), margin=0.03) >= threshold(0.05)
        for seed in range(20)
    ]

    assert sum(found) >= 18


def test_types_that_differ_can_be_routed_by() -> None:
    assert routable_gap({"a": LOSING, "b": FINE}, margin=0.03) is Gap.ROUTABLE


def test_types_that_are_known_to_be_alike_have_no_routable_gap() -> None:
    assert routable_gap({"a": ALIKE, "b": ALIKE}, margin=0.03) is Gap.NONE


@pytest.mark.parametrize("types", [{}, {"a": ALIKE}, {"a": FINE, "b": FINE}, {"a": ALIKE, "b": Counts()}])
def test_where_little_is_known_nothing_is_said(types: dict[str, Counts]) -> None:
    assert routable_gap(types, margin=0.03) is Gap.UNKNOWN


def test_a_type_whose_groups_belong_on_different_tiers_is_split() -> None:
    size = Grouping(feature="input over 8,000 tokens", groups={"no": FINE, "yes": LOSING, "unseen": Counts()})
    language = Grouping(feature="language", groups={"de": LOSING, "en": LOSING})

    split = propose_split([language, size], margin=0.03)

    assert split is not None
    assert split.feature == "input over 8,000 tokens"
    assert [group.name for group in split.groups] == ["yes", "no"]
    assert split.searched == 2
    assert split.log_e >= split.needed == pytest.approx(log(2 / 0.05))
    assert split.groups[0].interval.high < -0.03
    assert not split.decisive  # "no" is fine by its mean, and its interval does not say so yet


def test_with_more_pairs_the_intervals_themselves_lie_on_different_sides() -> None:
    sure = Grouping(feature="size", groups={"no": Counts(worse=20, same=1960, better=30), "yes": LOSING})

    split = propose_split([sure], margin=0.03)

    assert split is not None
    assert split.decisive


def test_a_longer_search_asks_for_more_evidence() -> None:
    weak = Grouping(
        feature="f",
        groups={"a": Counts(worse=16, same=82, better=2), "b": Counts(worse=4, same=92, better=4)},
    )
    alike = [Grouping(feature=f"g{n}", groups={"a": FINE, "b": FINE}) for n in range(10_000)]
    found = log_different(list(weak.groups.values()), margin=0.03)

    assert 0 < found < log(10_001 / 0.05)
    assert propose_split([weak], margin=0.03, alpha=0.999) is not None
    assert propose_split([weak, *alike[:20]], margin=0.03, alpha=0.05) is None


def test_a_split_that_would_change_nothing_is_not_proposed() -> None:
    worse, worst = Counts(worse=60, same=330, better=10), Counts(worse=300, same=90, better=10)

    assert propose_split([Grouping(feature="f", groups={"a": worse, "b": worst})], margin=0.03) is None
    assert propose_split([], margin=0.03) is None


def test_values_that_come_late_are_one_group_and_the_first_keep_theirs() -> None:
    groups = Groups()
    for number in [*range(20), 0, 19]:
        groups.add((("agent", f"a{number}"),), Counts(same=1))

    (grouping,) = groups.groupings()

    assert len(grouping.groups) == MOST_GROUPS
    assert grouping.groups["a0"] == Counts(same=2)
    assert grouping.groups[OTHERS] == Counts(same=20 - MOST_GROUPS + 1 + 1)
