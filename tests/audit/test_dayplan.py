"""The plan of a day: rates that share the allowance by the index."""

from dataclasses import replace
from typing import Any

import pytest

from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.dayplan import FEWEST, MOST, WATCHING, clusters_a_day, plan_rates
from tierwise.audit.standings import Standing, Traffic, stand
from tierwise.audit.verdicts import Rules, Verdict
from tierwise.core.ledger import Paired
from tierwise.money import usd

DAY_US = 86_400_000_000


def pairs_of(name: str, *, same: int, worse: int = 0, **values: Any) -> list[Paired]:
    key = LineKey(task_type=name, dear=Arm(tier="frontier", model="a"), cheap=Arm(tier="fast", model="b"))
    first = Paired(
        pair_id=name,
        at_us=0,
        call_id="c1",
        shadow_call_id="c2",
        task_type=name,
        line=key.id,
        line_parts=key.parts,
        on_dear=True,
        difference=0,
        how="check",
        probability=0.1,
        cluster=name,
        dear_nanos=usd("0.10"),
        cheap_nanos=usd("0.01"),
    )
    return [
        replace(
            first,
            **{"at_us": number * DAY_US // 100, "difference": 0 if number < same else -1} | values,
        )
        for number in range(same + worse)
    ]


def standings(*pairs: list[Paired], calls: float = 1_000) -> dict[str, Standing]:
    names = {pair.task_type for each in pairs for pair in each}
    audit = stand(
        [pair for each in pairs for pair in each],
        {},
        traffic={name: Traffic(calls=calls, spend_nanos=usd("100")) for name in names},
        margins={},
        rules=Rules(),
    )
    return {one.line.task_type: one for one in audit.standings}


def rates(found: dict[str, Standing], purse: str = "100", clusters: float = 1_000) -> dict[str, float | None]:
    plan = plan_rates(
        found.values(),
        {one.line.line: clusters for one in found.values()},
        purses_nanos=(usd(purse), usd(purse)),
        day=9,
    )
    return {name: plan.rates.get(one.line.line) for name, one in found.items()}


def test_a_line_with_few_pairs_has_no_plan() -> None:
    assert rates(standings(pairs_of("new", same=FEWEST - 1))) == {"new": None}


def test_a_line_that_is_sought_an_answer_on_gets_pairs_and_never_more_than_a_half() -> None:
    found = standings(pairs_of("open", same=60))

    few, many = rates(found)["open"], rates(found, clusters=20)["open"]

    assert few is not None
    assert 0 < few < MOST
    assert many == MOST


def test_a_proven_line_goes_on_with_a_few_pairs() -> None:
    found = standings(pairs_of("proven", same=300))

    assert found["proven"].verdict is Verdict.PROVEN
    assert rates(found)["proven"] == WATCHING / 1_000


def test_a_line_that_is_not_worth_its_price_gets_none() -> None:
    found = standings(pairs_of("close", same=500, worse=15), calls=0.01)

    assert rates({"close": found["close"]})["close"] == 0


def test_a_line_that_rests_goes_on_resting_when_nothing_is_known_of_its_traffic() -> None:
    found = standings(pairs_of("close", same=500, worse=15), calls=0.01)

    assert plan_rates(found.values(), {}, purses_nanos=(1, 1), day=9).rates == {found["close"].line.line: 0}


def test_a_line_with_an_answer_is_watched_at_the_policys_rate_when_nothing_is_known_of_its_traffic() -> None:
    found = standings(pairs_of("proven", same=300))

    assert plan_rates(found.values(), {}, purses_nanos=(1, 1), day=9).rates == {}


def test_where_money_is_short_the_line_of_larger_index_gets_it() -> None:
    dear = pairs_of("dear", same=60, dear_nanos=usd("1.00"))
    cheap = pairs_of("cheap", same=60, dear_nanos=usd("0.02"))

    found = rates(standings(dear, cheap), purse="0.30")

    assert found["dear"] is not None
    assert found["dear"] > 0
    assert found["cheap"] == 0


def test_what_types_on_the_cheaper_tier_leave_goes_to_the_others_where_all_have_begun() -> None:
    found = standings(pairs_of("down", same=60), pairs_of("up", same=60, on_dear=False))
    clusters = {one.line.line: 1_000.0 for one in found.values()}
    purses = usd("0.20"), usd("90")

    kept = plan_rates(found.values(), clusters, purses_nanos=purses, day=9)
    handed = plan_rates(found.values(), clusters, purses_nanos=purses, day=9, hands_over=True)

    down, up = found["down"].line.line, found["up"].line.line
    assert kept.handed_nanos == 0
    assert handed.rates[down] > kept.rates[down] > 0
    assert handed.rates[up] == kept.rates[up]
    spent = handed.rates[up] * 1_000 * usd("0.10")
    assert 0 < handed.handed_nanos <= purses[1] - spent
    assert handed.rates[down] * 1_000 * usd("0.01") == pytest.approx(purses[0] + handed.handed_nanos)


def test_a_type_that_goes_down_already_is_proven_for_the_little_that_frees_and_watched_where_that_is_too_little() -> (
    None
):
    pairs = pairs_of("moved", same=60)
    line = pairs[0].line
    audit = stand(
        pairs,
        {},
        traffic={"moved": Traffic(calls=1_000, spend_nanos=usd("100"))},
        margins={},
        rules=Rules(),
        remembered={line: Verdict.PROVISIONAL},
    )
    (moved,) = audit.standings
    worthless = replace(moved, prospect=replace(moved.prospect, saving_nanos=0))

    plan = plan_rates([worthless], {line: 1_000}, purses_nanos=(usd("9"), usd("9")), day=9)

    assert moved.prospect.frees == pytest.approx(0.08)
    assert plan.rates == {line: WATCHING / 1_000}


def test_the_plan_is_the_same_whenever_it_is_made() -> None:
    found = standings(pairs_of("a", same=60), pairs_of("b", same=50, worse=1))

    assert rates(found) == rates(found)


def test_each_pair_stands_for_as_many_clusters_as_its_probability_says() -> None:
    pairs = pairs_of("a", same=20, probability=0.05)

    assert clusters_a_day(pairs, since_us=0, days=4) == {pairs[0].line: pytest.approx(100)}
