"""The plan of a day, out of a ledger: what one purse leaves, and what rises."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, posted
from support.policies import TWO_TIERS, book
from tierwise.audit.verdicts import Verdict
from tierwise.config import Book
from tierwise.core.ledger import Act, Paired
from tierwise.engine.dayplan import day_plan
from tierwise.engine.looking import look
from tierwise.engine.shadowing import line_key
from tierwise.engine.standing import audit_of
from tierwise.money import usd
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.pairs import DAY_US

DAY = 20_000
BOTH = book(
    TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true').replace(
        '[task_types.extraction]\ntier = "fast"', '[task_types.extraction]\ntier = "fast"\nshadow = true'
    )
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger(tmp_path / "ledger")) as ledger:
        for day in range(DAY - 3, DAY):
            name, at_us = f"c{day}", day * DAY_US
            ledger.write([decided(name, task_type="synthesis", tier="frontier", at_us=at_us)])
            ledger.write([posted(name, cost_nanos=usd("10"), at_us=at_us)])
        yield ledger


def pairs(name: str, differences: list[int], *, on_dear: bool = True, policy: Book = BOTH) -> list[Paired]:
    key = line_key(policy.policy, policy.policy.contracts[name], dear="frontier", cheap="fast")
    return [
        Paired(
            pair_id=f"{name}-{number}",
            at_us=(DAY - 1) * DAY_US + number,
            call_id="c1",
            shadow_call_id="c2",
            task_type=name,
            line=key.id,
            line_parts=key.parts,
            on_dear=on_dear,
            difference=difference,
            how="check",
            probability=0.1,
            cluster=f"k{number}",
            dear_nanos=usd("0.50"),
            cheap_nanos=usd("0.14"),
        )
        for number, difference in enumerate(differences)
    ]


def test_what_types_on_the_cheaper_tier_leave_is_handed_over_once_every_type_has_begun(
    ledger: Ledger,
) -> None:
    ledger.write([*pairs("synthesis", [0] * 40), *pairs("extraction", [0] * 40, on_dear=False)])

    assert day_plan(ledger, BOTH.policy, day=DAY).handed_nanos > 0


def test_a_type_that_has_not_begun_keeps_its_purse(ledger: Ledger) -> None:
    ledger.write([*pairs("synthesis", [0] * 40)])

    assert day_plan(ledger, BOTH.policy, day=DAY).handed_nanos == 0


def test_a_tier_that_will_do_by_now_opens_its_line_anew(ledger: Ledger) -> None:
    ledger.write(pairs("synthesis", [*[-1, 0] * 200, *[0] * 600]))
    now_us = DAY * DAY_US

    (alarm,) = look(ledger, BOTH.policy, at_us=now_us)
    ledger.write([alarm])

    assert getattr(alarm, "act", None) is Act.ALARMED
    (standing,) = audit_of(ledger, BOTH.policy, at_us=now_us).standings
    assert standing.verdict is Verdict.REOPENED
    assert look(ledger, BOTH.policy, at_us=now_us) == []
