"""Where a call is read and planned: under the policy of that moment, on the tier that its conversation has."""

import json
from itertools import count
from typing import Any

import pytest

from support.policies import TWO_TIERS, book
from tierwise.core.planning import Plan, Refused
from tierwise.engine.desk import Desk
from tierwise.errors import MalformedRequest
from tierwise.stores.conversations import Conversations

FIRST = {"role": "user", "content": "Which firm signed?"}
LATER = [FIRST, {"role": "assistant", "content": "Acme."}, {"role": "user", "content": "When?"}]
PREFILLED = [FIRST, {"role": "assistant", "content": "{"}]
HOUR_US = 3_600_000_000

MOVED = TWO_TIERS.replace(
    '[task_types.extraction]\ntier = "fast"', '[task_types.extraction]\ntier = "frontier"'
).replace("max_tokens = 512", "max_tokens = 4096")


class Clock:
    now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Desk:
    numbers = count(1)
    return Desk(book(), conversations=Conversations(), clock=clock, new_id=lambda: f"c{next(numbers)}")


def tier(desk: Desk, messages: list[Any], **headers: str) -> str | None:
    """The tier that a call of the type extraction gets."""
    body = {"model": "task/extraction", "max_tokens": 4096, "messages": messages}
    plan = desk.open(
        json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()}
    ).plan
    assert isinstance(plan, Plan)
    return plan.decision.tier


def test_each_call_has_an_id_of_its_own_and_a_machine(desk: Desk) -> None:
    body = json.dumps({"model": "task/extraction", "max_tokens": 9, "messages": [FIRST]}).encode()
    one, two = desk.open(body, {}), desk.open(body, {})

    assert (one.call_id, two.call_id) == ("c1", "c2")
    assert one.exchange is not two.exchange
    assert one.exchange.read_us == 1_000


def test_a_conversation_keeps_its_tier_under_another_policy(desk: Desk) -> None:
    before = tier(desk, [FIRST])
    desk.book = book(MOVED)

    assert (before, tier(desk, LATER)) == ("fast", "fast")


def test_a_new_conversation_decides_afresh(desk: Desk) -> None:
    tier(desk, [FIRST])
    desk.book = book(MOVED)

    assert tier(desk, [FIRST]) == "frontier"


def test_a_declared_task_keeps_its_tier_from_its_first_call_on(desk: Desk) -> None:
    tier(desk, [FIRST], x_tierwise_task_id="t1")
    desk.book = book(MOVED)

    assert tier(desk, [{"role": "user", "content": "Another"}], x_tierwise_task_id="t1") == "fast"
    assert tier(desk, [{"role": "user", "content": "Another"}], x_tierwise_task_id="t2") == "frontier"


def test_a_conversation_is_forgotten_an_hour_after_its_last_call(desk: Desk, clock: Clock) -> None:
    tier(desk, [FIRST])
    desk.book = book(MOVED)
    clock.now += HOUR_US - 1
    kept = tier(desk, LATER)
    clock.now += HOUR_US - 1
    kept_again = tier(desk, LATER)
    clock.now += HOUR_US

    assert (kept, kept_again, tier(desk, LATER)) == ("fast", "fast", "frontier")


def test_a_preview_remembers_nothing(desk: Desk) -> None:
    body = json.dumps({"model": "task/extraction", "max_tokens": 9, "messages": LATER}).encode()
    preview = desk.preview(body, {})
    desk.book = book(MOVED)

    assert isinstance(preview.plan, Plan)
    assert preview.plan.decision.tier == "fast"
    assert tier(desk, LATER) == "frontier"


def test_a_count_of_tokens_needs_no_cap(desk: Desk) -> None:
    body = json.dumps({"model": "task/extraction", "messages": [FIRST]}).encode()

    assert isinstance(desk.preview(body, {}, counting=True).plan, Plan)
    with pytest.raises(MalformedRequest, match="max_tokens"):
        desk.preview(body, {})


def test_a_body_that_no_tier_takes_is_refused_and_not_remembered(desk: Desk) -> None:
    body = json.dumps({"model": "task/extraction", "max_tokens": 9, "messages": PREFILLED}).encode()

    assert isinstance(desk.open(body, {}).plan, Refused)
    desk.book = book(MOVED)
    assert tier(desk, LATER) == "frontier"


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"model":"task/extraction"}', b"\xff"])
def test_a_body_that_is_no_request_is_an_error(desk: Desk, raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        desk.open(raw, {})
