"""Ranking: task types by what a further dollar buys, where they differ at all."""

from dataclasses import replace
from typing import Any

from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.ranking import Ranking, rank
from tierwise.audit.splitting import Gap
from tierwise.audit.standings import stand
from tierwise.audit.verdicts import Rules
from tierwise.core.ledger import Paired
from tierwise.money import usd

KEY = LineKey(task_type="x", dear=Arm(tier="frontier", model="opus"), cheap=Arm(tier="fast", model="haiku"))


def pairs(
    task_type: str, *, worse: int = 0, same: int = 0, open_: int = 0, cheap: str = "fast", **changes: Any
) -> list[Paired]:
    key = replace(KEY, task_type=task_type, cheap=Arm(tier=cheap, model="haiku"))
    values: dict[str, Any] = {
        "call_id": "c",
        "shadow_call_id": "s",
        "task_type": task_type,
        "line": key.id,
        "line_parts": key.parts,
        "on_dear": True,
        "how": "check",
        "probability": 0.1,
        "cluster": "c",
        "dear_nanos": usd("1"),
        "cheap_nanos": usd("0.1"),
    }
    outcomes = [-1] * worse + [0] * same + [None] * open_
    return [
        Paired(pair_id=f"{key.id} {number}", at_us=number, difference=outcome, **(values | changes))
        for number, outcome in enumerate(outcomes)
    ]


def ranked(*found: list[Paired]) -> tuple[Ranking, dict[str, int]]:
    audit = stand(
        [pair for each in found for pair in each],
        {},
        traffic={},
        margins={},
        rules=Rules(),
        closed=frozenset(),
    )
    ranking = rank(audit.standings, alpha=0.05)
    names = {one.line.line: one.line.task_type for one in audit.standings}
    return ranking, {names[line]: place for line, place in ranking.places.items()}


def test_types_are_ranked_by_what_a_further_dollar_buys_where_they_differ() -> None:
    ranking, places = ranked(
        pairs("fine", worse=2, same=398), pairs("bad", worse=160, same=240), pairs("half", worse=80, same=320)
    )

    assert ranking.gap is Gap.ROUTABLE
    assert places == {"bad": 1, "half": 2, "fine": 3}


def test_types_on_which_the_tiers_differ_equally_have_no_routable_gap_and_no_order() -> None:
    ranking, places = ranked(pairs("one", worse=150, same=2850), pairs("other", worse=155, same=2845))

    assert ranking.gap is Gap.NONE
    assert places == {}


def test_without_enough_pairs_nobody_says_that_there_is_no_gap() -> None:
    ranking, places = ranked(pairs("one", worse=5, same=95), pairs("other", worse=4, same=96))

    assert ranking.gap is Gap.UNKNOWN
    assert places == {"one": 1, "other": 2}


def test_alternatives_that_differ_on_one_type_are_no_gap_between_types() -> None:
    ranking, _ = ranked(pairs("one", worse=160, same=240), pairs("one", worse=2, same=398, cheap="low"))

    assert ranking.gap is Gap.UNKNOWN


def test_with_a_pair_that_nobody_could_grade_nothing_is_said_of_a_gap() -> None:
    ranking, places = ranked(pairs("one", worse=160, same=240, open_=1), pairs("other", same=400))

    assert ranking.gap is None
    assert places == {"other": 1}
