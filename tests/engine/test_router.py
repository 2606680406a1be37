"""The policy without a gateway."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tierwise.config import parse_book, starter_policy
from tierwise.core.decision import Why
from tierwise.core.planning import Plan
from tierwise.engine.desk import Desk
from tierwise.engine.router import Router
from tierwise.errors import NoCap, PolicyError, UnknownTaskType
from tierwise.stores.conversations import Conversations

STARTER = parse_book(starter_policy(), file="tierwise.toml")

NO_DEFAULT = """
[tiers.frontier]
model = "claude-opus-5-5"

[task_types.review]
tier = "frontier"

[task_types.extraction]
tier = "frontier"
max_tokens = 4096
"""

NEW_MODEL = """
[tiers.frontier]
model = "claude-new-6"

[task_types.review]
tier = "frontier"

[[prices]]
model = "claude-new-6"
input_usd_per_mtok = "1.00"
output_usd_per_mtok = "5.00"
"""


def router(text: str) -> Router:
    return Router.from_book(parse_book(text, file="tierwise.toml"))


def test_a_task_type_goes_to_its_contracts_tier():
    decision = Router.from_book(STARTER).route("extraction")

    assert (decision.tier, decision.model, decision.max_tokens) == ("fast", "claude-haiku-5-5", 2048)


def test_a_policy_file_makes_a_router(tmp_path: Path):
    path = tmp_path / "tierwise.toml"
    path.write_text(starter_policy("4.6"))

    assert Router.from_file(path).route("synthesis").model == "claude-opus-4-6"


def test_a_policy_file_that_is_wrong_makes_none(tmp_path: Path):
    with pytest.raises(PolicyError):
        Router.from_file(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("task_type", [*STARTER.policy.contracts, "never-heard-of"])
@pytest.mark.parametrize("asked", [1, 512, 100_000])
def test_it_decides_as_the_gateway_does_for_a_call_of_this_type(task_type: str, asked: int):
    desk = Desk(STARTER, conversations=Conversations(), clock=lambda: 0, new_id=lambda: "c1")
    body = {
        "model": f"task/{task_type}",
        "max_tokens": asked,
        "messages": [{"role": "user", "content": "hi"}],
    }

    planned = desk.preview(json.dumps(body).encode(), {}).plan

    assert isinstance(planned, Plan)
    assert Router.from_book(STARTER).route(task_type, max_tokens=asked) == planned.decision


def test_a_caller_that_asks_for_no_cap_gets_the_contracts_and_is_told_so():
    decision = Router.from_book(STARTER).route("classification")

    (reason,) = (reason for reason in decision.reasons if reason.why is Why.CAP)
    assert decision.max_tokens == 256
    assert reason.sentence == "No cap was asked for: 256 is the contract's, with room to think."


def test_a_caller_that_asks_for_no_cap_where_there_is_none_gets_the_models_most():
    assert router(NO_DEFAULT).route("review").max_tokens == 128_000


def test_a_model_whose_most_is_not_known_needs_a_cap():
    new = router(NEW_MODEL)

    with pytest.raises(NoCap, match="review has no max_tokens and claude-new-6 is not in the catalogue"):
        new.route("review")
    assert new.route("review", max_tokens=300).max_tokens == 300


def test_an_unknown_type_gets_the_default_contract():
    decision = Router.from_book(STARTER).route("extractoin")

    assert decision.tier == "fast"
    assert decision.reasons[0].why is Why.UNKNOWN_TYPE


@pytest.mark.parametrize("text", [NO_DEFAULT, "strict = true\n" + starter_policy()])
def test_an_unknown_type_is_an_error_where_nothing_stands_for_it(text: str):
    with pytest.raises(UnknownTaskType) as raised:
        router(text).route("extractoin")

    assert (raised.value.task_type, raised.value.nearest) == ("extractoin", "extraction")
    assert "The policy has no task type 'extractoin'. Did you mean 'extraction'? It knows: " in str(
        raised.value
    )


def test_anything_with_a_type_is_routed_to_a_models_name():
    @dataclass(frozen=True)
    class Job:
        type: str
        text: str = ""

    assert Router.from_book(STARTER).route_task(Job("evaluation")) == "claude-opus-5-5"


def test_the_policy_is_there_to_be_read():
    assert Router.from_book(STARTER).policy is STARTER.policy
