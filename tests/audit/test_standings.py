"""Standings: what all pairs together say of each task type."""

from dataclasses import replace
from typing import Any

import pytest

from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.standings import Audit, Traffic, stand
from tierwise.audit.tasks import Task
from tierwise.audit.verdicts import Rules, Verdict
from tierwise.core.ledger import Paired
from tierwise.money import usd

KEY = LineKey(
    task_type="triage",
    dear=Arm(tier="frontier", model="opus"),
    cheap=Arm(tier="fast", model="haiku"),
    check_version="v1",
)
TRAFFIC = {"triage": Traffic(calls=1_000, spend_nanos=usd("100"))}


def pairs(
    key: LineKey = KEY, *, worse: int = 0, same: int = 0, open_: int = 0, **changes: Any
) -> list[Paired]:
    """Pairs of a line, a call of a dollar against one of ten cents."""
    outcomes = [-1] * worse + [0] * same + [None] * open_
    values: dict[str, Any] = {
        "task_type": key.task_type,
        "line": key.id,
        "line_parts": key.parts,
        "on_dear": True,
        "how": "check",
        "probability": 0.1,
        "cluster": "c",
        "dear_nanos": usd("1"),
        "cheap_nanos": usd("0.1"),
    }
    return [
        Paired(
            pair_id=f"{key.id}-{number}",
            at_us=number,
            call_id="c",
            shadow_call_id="s",
            difference=outcome,
            **(values | changes),
        )
        for number, outcome in enumerate(outcomes)
    ]


def look(found: list[Paired], frozen: dict[str, float] | None = None) -> Audit:
    return stand(found, frozen or {}, traffic=TRAFFIC, margins={}, rules=Rules())


def verdict(found: list[Paired], frozen: dict[str, float] | None = None) -> Verdict:
    (standing,) = look(found, frozen).standings
    return standing.verdict


def test_without_pairs_there_is_nothing_to_say() -> None:
    assert look([]).standings == ()


def test_few_pairs_are_too_early() -> None:
    assert verdict(pairs(same=10)) is Verdict.TOO_EARLY


def test_many_pairs_that_do_not_differ_prove_that_the_cheaper_tier_will_do() -> None:
    assert verdict(pairs(same=60)) is Verdict.PROVISIONAL
    assert verdict(pairs(same=300)) is Verdict.PROVEN


def test_pairs_in_which_the_cheaper_tier_does_worse_prove_that_the_dearer_one_is_needed() -> None:
    assert verdict(pairs(worse=40, same=60)) is Verdict.NEEDED


def test_undecided_pairs_prove_neither() -> None:
    assert verdict(pairs(same=300, open_=60)) not in {Verdict.PROVEN, Verdict.PROVISIONAL, Verdict.NEEDED}
    assert verdict(pairs(worse=10, open_=200)) is not Verdict.NEEDED


def test_the_order_of_pairs_changes_nothing() -> None:
    found = pairs(worse=5, same=80)

    (one,), (other,) = look(found).standings, look(found[::-1]).standings

    assert (one.verdict, one.interval) == (other.verdict, other.interval)


def test_another_model_begins_from_nothing_and_opens_what_had_a_verdict_again() -> None:
    newer = replace(KEY, cheap=Arm(tier="fast", model="haiku-2"))
    found = [*pairs(same=300), *(replace(pair, at_us=10_000) for pair in pairs(newer, same=5))]

    assert verdict(found) is Verdict.REOPENED


def test_every_line_that_was_opened_makes_the_next_proof_harder() -> None:
    others = [pairs(replace(KEY, task_type=f"type-{number}"), same=1) for number in range(50)]
    found = pairs(same=200)

    alone = look(found).selection.proven
    among_many = look([*found, *(pair for other in others for pair in other)]).selection.proven

    assert KEY.id in alone
    assert KEY.id not in among_many


def test_a_declared_line_keeps_the_evidence_that_it_had() -> None:
    assert verdict(pairs(worse=4, same=100), frozen={KEY.id: 5.0}) is Verdict.PROVEN


def test_what_is_at_stake_is_the_logged_spend_times_what_pairs_say_of_costs() -> None:
    (standing,) = look(pairs(same=20)).standings

    assert standing.stake is not None
    assert standing.stake.nanos == pytest.approx(usd("90"))
    assert standing.pair_nanos == usd("0.1")


def test_of_a_type_on_the_cheaper_tier_the_next_pair_costs_the_dearer_ones_call() -> None:
    (standing,) = look(pairs(same=200, on_dear=False)).standings

    assert standing.verdict not in {Verdict.PROVEN, Verdict.PROVISIONAL}
    assert standing.pair_nanos == usd("1")


# --- Dollars by finished tasks.


def tasks(tier: str, model: str, cost: int, *, at_us: int = 1) -> list[Task]:
    return [
        Task(
            task_type="triage",
            tier=tier,
            model=model,
            probability=1.0,
            at_us=at_us,
            run=f"{tier} {number}",
            cost_nanos=cost + number,
            quality=None,
        )
        for number in range(30)
    ]


def with_tasks(found: list[Paired], *done: Task) -> Audit:
    return stand(found, {}, traffic=TRAFFIC, margins={}, rules=Rules(), tasks=done)


def test_enough_finished_tasks_of_both_tiers_stand_in_the_pairs_place() -> None:
    done = [*tasks("frontier", "opus", usd("1")), *tasks("fast", "haiku", usd("0.5"))]

    (standing,) = with_tasks(pairs(worse=40, same=60), *done).standings
    (up,) = with_tasks(pairs(worse=40, same=60, on_dear=False), *done).standings

    assert standing.by_tasks
    assert standing.stake is not None
    assert standing.stake.nanos == pytest.approx(usd("50"), rel=1e-3)
    assert standing.prospect.saving_nanos == pytest.approx(usd("0.5"), rel=1e-3)
    assert standing.value is not None
    assert standing.value.per_dollar == pytest.approx(0.4 / 0.5, rel=1e-3)
    assert up.stake is not None
    assert up.stake.nanos == pytest.approx(usd("100"), rel=1e-3)


def test_tasks_of_another_model_or_from_when_a_tier_had_another_effort_are_not_compared() -> None:
    lazy = replace(KEY, dear=Arm(tier="frontier", model="opus", effort="low"))
    other_model = [*tasks("frontier", "opus", 100), *tasks("fast", "haiku-2", 50)]
    before = [*tasks("frontier", "opus", 100, at_us=15), *tasks("fast", "haiku", 50, at_us=15)]
    later = [replace(pair, at_us=10_000) for pair in pairs(lazy, same=20)]

    (standing,) = with_tasks(pairs(same=20), *other_model).standings
    (current,) = with_tasks([*pairs(same=20), *later], *before).standings
    (alone,) = with_tasks(later, *before).standings

    assert not standing.by_tasks
    assert not current.by_tasks
    assert alone.by_tasks
