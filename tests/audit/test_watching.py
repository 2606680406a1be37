"""The detector as pairs are fed to it: how soon it finds drift, and how seldom it is wrong."""

import random
from statistics import median

from audit.simulation import pair
from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.watching import (
    BATCH,
    LEARNS_FROM,
    alarm_acts,
    find_alarms,
    find_pass_alarms,
    find_rises,
)
from tierwise.core.ledger import Checked, Paired

KEY = LineKey(task_type="t", dear=Arm(tier="frontier", model="a"), cheap=Arm(tier="fast", model="b"))
CLAIMED_US = 1_000


def paired(number: int, difference: int | None) -> Paired:
    return Paired(
        pair_id=f"p{number}",
        at_us=CLAIMED_US + 1 + number,
        call_id="c1",
        shadow_call_id="c2",
        task_type="t",
        line=KEY.id,
        line_parts=KEY.parts,
        on_dear=True,
        difference=difference,
        how="check",
        probability=0.1,
        cluster=f"k{number}",
        dear_nanos=2,
        cheap_nanos=1,
    )


def alarm_after(differences: list[int | None]) -> int | None:
    """After how many pairs since the verdict there is an alarm."""
    pairs = [paired(number, difference) for number, difference in enumerate(differences)]
    found = find_alarms(pairs, {KEY.id: CLAIMED_US}, margins={})
    return found[0].observations if found else None


def test_a_drop_of_ten_points_is_found_within_three_hundred_pairs_of_it() -> None:
    def delay(seed: int) -> int:
        draw = random.Random(seed)
        before = [pair(draw, mean=0, differing=0.05) for _ in range(200)]
        after = [pair(draw, mean=-0.10, differing=0.15) for _ in range(1_500)]
        found = alarm_after([*before, *after])
        assert found is not None
        return found - len(before)

    assert median(delay(seed) for seed in range(60)) <= 300


def test_a_tier_that_stays_as_good_does_not_alarm_in_two_thousand_pairs() -> None:
    def seen(seed: int) -> int | None:
        draw = random.Random(seed)
        return alarm_after([pair(draw, mean=0, differing=0.1) for _ in range(2_000)])

    assert [seed for seed in range(20) if seen(seed) is not None] == []


def test_pairs_that_nobody_can_grade_count_as_losses() -> None:
    assert alarm_after([None] * 40) is not None


def replies_until_alarm(seed: int, *, before: float, after: float, changes_at: int, most: int) -> int | None:
    """Checked replies, from those on that the share is learned from, until the alarm."""
    draw = random.Random(seed)

    def batch(number: int) -> Checked:
        rate = before if number * BATCH < changes_at else after
        passed = sum(draw.random() < rate for _ in range(BATCH))
        return Checked(
            checked_id=f"c{number}",
            at_us=CLAIMED_US + 1 + number,
            task_type="t",
            line=KEY.id,
            passed=passed,
            failed=BATCH - passed,
        )

    counts = [batch(number) for number in range(most // BATCH)]
    found = find_pass_alarms(counts, {KEY.id: CLAIMED_US}, margins={})
    return found[0].observations if found else None


def test_a_pass_rate_that_falls_by_ten_points_is_found_within_four_hundred_replies() -> None:
    found = [
        replies_until_alarm(seed, before=0.92, after=0.82, changes_at=LEARNS_FROM, most=4_000)
        for seed in range(40)
    ]

    assert median(each or 4_000 for each in found) <= 400


def test_a_pass_rate_that_stays_hardly_ever_alarms() -> None:
    found = [
        replies_until_alarm(seed, before=0.92, after=0.92, changes_at=0, most=10_000) for seed in range(40)
    ]

    assert len([each for each in found if each is not None]) <= 2


def test_before_the_share_is_learned_there_is_no_alarm() -> None:
    assert replies_until_alarm(1, before=0.92, after=0.0, changes_at=300, most=LEARNS_FROM) is None


def test_a_type_that_hardly_ever_passes_is_not_watched() -> None:
    assert replies_until_alarm(1, before=0.01, after=0.0, changes_at=LEARNS_FROM, most=4_000) is None


# --- Whether a tier that would not do will do by now.


def rise_after(differences: list[int | None], closed: frozenset[str] = frozenset()) -> int | None:
    pairs = [paired(number, difference) for number, difference in enumerate(differences)]
    found = find_rises(pairs, closed, margins={}, alpha=0.05)
    return found[0].observations if found else None


NEEDED: list[int | None] = [-1, 0] * 200


def test_a_cheaper_tier_that_has_become_as_good_is_found() -> None:
    made = rise_after([*NEEDED, *[0] * 600])

    assert made is not None
    assert made < len(NEEDED) + 300
    assert rise_after([*NEEDED, *[0] * 600], frozenset({KEY.id})) is None


def test_one_that_stays_worse_or_was_never_needed_does_not_alarm() -> None:
    assert rise_after([*NEEDED, *[-1, *[0] * 15] * 60]) is None
    assert rise_after([0] * 2_000) is None


def test_a_line_that_all_its_pairs_say_is_fine_is_not_closed_for_what_its_first_ones_said() -> None:
    assert rise_after([*[-1] * 10, *[0] * 3_000]) is None


def test_pairs_that_nobody_can_grade_neither_prove_a_need_nor_that_it_is_over() -> None:
    assert rise_after([*NEEDED, *[None, *[0] * 15] * 60]) is None
    assert rise_after([*[None] * 60, *[0] * 600]) is None


def test_such_an_alarm_closes_the_line_and_moves_nothing() -> None:
    pairs = [paired(number, difference) for number, difference in enumerate([*NEEDED, *[0] * 600])]
    found = find_rises(pairs, (), margins={}, alpha=0.05)

    (act,) = alarm_acts(found, pairs, (), at_us=9)

    assert (act.line, act.share, act.from_tier, act.to_tier) == (KEY.id, None, "frontier", "fast")
    assert "since it needed the dearer tier the cheaper one did worse in" in act.why
