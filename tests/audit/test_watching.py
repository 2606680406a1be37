"""The detector as pairs are fed to it: how soon it finds drift, and how seldom it is wrong."""

import random
from statistics import median

from audit.simulation import pair
from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.watching import find_alarms
from tierwise.core.ledger import Paired

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
    return found[0].pairs if found else None


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
