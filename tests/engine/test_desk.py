"""Where a call is read and planned: under the policy of that moment, on the tier that its conversation has."""

import json
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from support.policies import TWO_TIERS, book
from tierwise.core.budgets import Claim, Denied
from tierwise.core.calibration import Calibration, Ratio
from tierwise.core.effects import Claimed, Reserve
from tierwise.core.planning import Plan, Refused
from tierwise.core.policy import Budget, Contract
from tierwise.engine.desk import Desk, Opened, Reading
from tierwise.errors import MalformedRequest
from tierwise.money import usd
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


def a_reading(desk: Desk, messages: list[Any], *, model: str = "task/extraction", **headers: str) -> Reading:
    body = {"model": model, "max_tokens": 4096, "messages": messages}
    return desk.read(
        json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()}
    )


def tier_of(opened: Opened) -> str | None:
    assert isinstance(opened.plan, Plan)
    return opened.plan.decision.tier


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


def test_a_conversation_that_another_gateway_knows_keeps_its_tier_and_is_known_here_from_then_on(
    desk: Desk,
) -> None:
    reading = a_reading(desk, LATER)

    opened = desk.begin(reading, kept="frontier")

    assert reading.is_strange
    assert tier_of(opened) == "frontier"
    assert a_reading(desk, LATER).kept == "frontier"


def test_what_is_known_here_goes_before_what_others_know(desk: Desk) -> None:
    tier(desk, [FIRST])
    reading = a_reading(desk, LATER)

    assert not reading.is_strange
    assert tier_of(desk.begin(reading, kept="frontier")) == "fast"


def test_a_new_conversation_is_not_strange(desk: Desk) -> None:
    reading = a_reading(desk, [FIRST])

    assert (reading.is_strange, reading.kept) == (False, None)


def test_an_undeclared_call_has_no_conversation(desk: Desk) -> None:
    reading = a_reading(desk, LATER, model="claude-opus-5-5")

    assert (reading.conversation, reading.is_strange) == (None, False)
    desk.begin(reading).keep_tier("fast")
    assert a_reading(desk, LATER).kept is None


def test_other_gateways_are_told_the_tier_of_a_conversation_and_for_how_long(clock: Clock) -> None:
    told: list[tuple[str, str, int]] = []
    desk = Desk(book(), conversations=Conversations(), clock=clock, new_id=lambda: "c1")
    desk.share = lambda key, tier, for_s: told.append((key, tier, for_s))
    reading = a_reading(desk, [FIRST])

    desk.begin(reading).keep_tier("frontier")

    assert reading.conversation is not None
    assert told == [(reading.conversation, "fast", 3600), (reading.conversation, "frontier", 3600)]


def test_a_tier_that_is_kept_later_is_its_conversations(desk: Desk) -> None:
    desk.begin(a_reading(desk, [FIRST])).keep_tier("frontier")

    assert tier(desk, LATER) == "frontier"


TRIES_CHEAPER = replace(
    book(),
    policy=replace(
        book().policy,
        budgets=(Budget(name="all", scope="all", limit=usd("1"), when_short=("downgrade", "refuse")),),
        contracts={"extraction": Contract(name="extraction", tier="frontier", downgrade_to="fast")},
    ),
)


def moves(opened: Opened) -> bool:
    """Whether the call is moved to the cheaper tier when it is denied what it asks."""
    claim: Claim | None = None
    for effect in opened.exchange.begin(1_000):
        assert isinstance(effect, Reserve)
        claim = effect.claim
    assert claim is not None
    denied = Denied(
        account=claim.accounts[0], posted_nanos=usd("1"), pending_nanos=0, asked_nanos=claim.least_nanos
    )
    opened.exchange.receive(Claimed(outcome=denied, at_us=1_000))
    return isinstance(opened.plan, Plan) and opened.plan.decision.tier == "fast"


def test_the_first_call_of_a_conversation_may_be_moved_and_so_may_that_of_a_declared_task(desk: Desk) -> None:
    desk.book = TRIES_CHEAPER

    assert moves(desk.begin(a_reading(desk, [FIRST])))
    assert moves(desk.begin(a_reading(desk, [FIRST], x_tierwise_task_id="t1")))


def test_a_call_is_not_moved_where_its_conversation_began_before(desk: Desk) -> None:
    desk.book = TRIES_CHEAPER
    desk.begin(a_reading(desk, [FIRST], x_tierwise_task_id="t1"))

    assert not moves(desk.begin(a_reading(desk, LATER)))
    assert not moves(desk.begin(a_reading(desk, [FIRST], x_tierwise_task_id="t1")))
    assert not moves(desk.begin(a_reading(desk, [FIRST], x_tierwise_task_id="t2"), kept="frontier"))


def test_the_credential_of_a_call_names_its_accounts_and_stands_in_its_entry(desk: Desk) -> None:
    policy = replace(book().policy, budgets=(Budget(name="keys", scope="key", limit=usd("1")),))
    desk.book = replace(book(), policy=policy)

    (reserve,) = desk.begin(a_reading(desk, [FIRST]), key_id="k1").exchange.begin(1_000)

    assert isinstance(reserve, Reserve)
    assert [account.key for account in reserve.claim.accounts] == ["keys|k1|lifetime"]
    assert desk.begin(a_reading(desk, [FIRST]), key_id="k1").exchange.key_id == "k1"
    assert desk.begin(a_reading(desk, [FIRST])).exchange.key_id is None


def test_a_desk_bounds_prompts_by_what_it_was_told_of_texts(desk: Desk) -> None:
    budget = Budget(name="all", scope="all", limit=usd("1"))
    desk.book = replace(book(), policy=replace(book().policy, budgets=(budget,), prompt_bound="calibrated"))
    long = [{"role": "user", "content": "Which firm signed? " * 100}]

    def asked() -> int:
        (reserve,) = desk.begin(a_reading(desk, long)).exchange.begin(1_000)
        assert isinstance(reserve, Reserve)
        return reserve.claim.amount_nanos

    by_bytes = asked()
    desk.calibration = Calibration(
        ratios={("claude-haiku-5-5", "ascii"): Ratio(calls=1_000, most_per_mille=300)}
    )

    assert asked() < by_bytes
