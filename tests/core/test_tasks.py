import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import DEFAULT, EXTRACTION, SYNTHESIS, a_call, a_policy
from tierwise.core.call import Call
from tierwise.core.policy import MatchRule
from tierwise.core.tasks import (
    LONGEST_ID,
    Declared,
    TaskRef,
    continues,
    conversation_key,
    name_task,
    virtual_type,
)

TYPE = "x-tierwise-task-type"
POLICY = a_policy(EXTRACTION, SYNTHESIS)
WITH_DEFAULT = a_policy(EXTRACTION, SYNTHESIS, DEFAULT)
RULES = (
    MatchRule(task_type="extraction", model="claude-haiku-*", headers={"x-team": "billing*"}),
    MatchRule(task_type="synthesis", user_id="research-?"),
    MatchRule(task_type="extraction", headers={"x-team": "*"}),
    MatchRule(task_type="synthesis", headers={"x-team": "billing"}),
)
WITH_RULES = a_policy(EXTRACTION, SYNTHESIS, rules=RULES)


def a_task(**fields: str | None) -> TaskRef:
    return TaskRef(declared=Declared.HEADER, type=fields.pop("type", "extraction"), **fields)


@pytest.mark.parametrize(
    ("model", "task_type"),
    [
        ("task/extraction", "extraction"),
        ("task-extraction", "extraction"),
        ("task-template-filling", "template-filling"),
        ("task/a/b", "a/b"),
        ("task/", ""),
        ("claude-opus-5-5", None),
        ("my-task/extraction", None),
        ("Task/extraction", None),
        ("task", None),
        ("", None),
    ],
)
def test_a_virtual_model_name_begins_with_task(model: str, task_type: str | None) -> None:
    assert virtual_type(model) == task_type


@pytest.mark.parametrize(
    ("call", "declared", "task_type"),
    [
        (a_call("task/extraction", headers={TYPE: "synthesis"}), Declared.MODEL, "extraction"),
        (a_call("task-synthesis", headers={TYPE: "extraction"}), Declared.MODEL, "synthesis"),
        (a_call(headers={TYPE: "extraction", "x-team": "billing"}), Declared.HEADER, "extraction"),
        (a_call(headers={TYPE: "", "x-team": "billing"}), Declared.MATCH, "extraction"),
        (a_call(metadata_user_id="research-1"), Declared.MATCH, "synthesis"),
        (a_call(), Declared.UNDECLARED, None),
    ],
)
def test_the_model_name_comes_before_the_header_and_the_header_before_the_rules(
    call: Call, declared: Declared, task_type: str | None
) -> None:
    task = name_task(call, policy=WITH_RULES)

    assert (task.declared, task.type, task.unknown_type) == (declared, task_type, None)


@pytest.mark.parametrize(
    ("call", "task_type"),
    [
        # The first rule that holds wins, though a later one says otherwise.
        (a_call("claude-haiku-5-5", headers={"x-team": "billing-eu"}, metadata_user_id="r-1"), "extraction"),
        (a_call(headers={"x-team": "billing"}, metadata_user_id="research-7"), "synthesis"),
        (a_call(headers={"x-team": "billing"}), "extraction"),
        # Every condition of a rule must hold, and capitals count.
        (a_call("claude-haiku-5-5", metadata_user_id="research-77"), None),
        (a_call("Claude-Haiku-5-5", metadata_user_id="Research-7"), None),
    ],
)
def test_match_rules_are_asked_in_the_order_of_the_file(call: Call, task_type: str | None) -> None:
    assert name_task(call, policy=WITH_RULES).type == task_type


def test_what_a_call_does_not_have_matches_no_pattern_not_even_a_star() -> None:
    rules = (
        MatchRule(task_type="extraction", headers={"x-claude-code-agent-id": "*"}),
        MatchRule(task_type="synthesis", user_id="*"),
    )
    policy = a_policy(EXTRACTION, SYNTHESIS, rules=rules)

    assert name_task(a_call(), policy=policy).declared is Declared.UNDECLARED
    assert name_task(a_call(headers={"x-claude-code-agent-id": ""}), policy=policy).type == "extraction"
    assert name_task(a_call(metadata_user_id="u"), policy=policy).type == "synthesis"


def test_an_unknown_type_has_no_contract_and_its_nearest_name_is_told() -> None:
    task = name_task(a_call("task/extracton"), policy=POLICY)

    assert task == TaskRef(
        declared=Declared.MODEL, type=None, unknown_type="extracton", nearest_type="extraction"
    )


def test_an_unknown_type_gets_the_default_contract_where_there_is_one() -> None:
    task = name_task(a_call(headers={TYPE: "poetry"}), policy=WITH_DEFAULT)

    assert task == TaskRef(declared=Declared.HEADER, type="default", unknown_type="poetry")


def test_the_default_contract_is_not_for_calls_that_declare_nothing() -> None:
    assert name_task(a_call(), policy=WITH_DEFAULT) == TaskRef(declared=Declared.UNDECLARED, type=None)


def test_the_default_contract_can_be_declared_by_its_name() -> None:
    task = name_task(a_call("task/default"), policy=WITH_DEFAULT)

    assert task == TaskRef(declared=Declared.MODEL, type="default")


@pytest.mark.parametrize(
    ("headers", "run_id", "agent"),
    [
        ({"x-tierwise-run-id": "run-1", "x-claude-code-session-id": "s"}, "run-1", None),
        ({"x-claude-code-session-id": "s-1"}, "s-1", None),
        ({"x-tierwise-run-id": "", "x-claude-code-session-id": "s-1"}, "s-1", None),
        ({"x-tierwise-agent": "reader", "x-claude-code-agent-id": "a"}, None, "reader"),
        ({"x-claude-code-agent-id": "a-1"}, None, "a-1"),
        ({}, None, None),
    ],
)
def test_run_and_agent_are_named_by_our_headers_or_else_by_those_of_claude_code(
    headers: dict[str, str], run_id: str | None, agent: str | None
) -> None:
    task = name_task(a_call(headers=headers), policy=POLICY)

    assert (task.run_id, task.agent, task.task_id) == (run_id, agent, None)


def test_the_task_id_has_a_header_of_its_own() -> None:
    assert name_task(a_call(headers={"x-tierwise-task-id": "t-9"}), policy=POLICY).task_id == "t-9"


@given(st.text(min_size=LONGEST_ID + 1, max_size=LONGEST_ID + 50))
def test_what_callers_name_is_cut_before_it_goes_into_the_ledger(name: str) -> None:
    headers = dict.fromkeys(("x-tierwise-task-id", "x-tierwise-run-id", "x-tierwise-agent", TYPE), name)

    by_header = name_task(a_call(headers=headers), policy=POLICY)
    by_model = name_task(a_call(f"task/{name}"), policy=POLICY)

    cut = name[:LONGEST_ID]
    assert (by_header.task_id, by_header.run_id, by_header.agent) == (cut, cut, cut)
    assert by_header.unknown_type == by_model.unknown_type == cut


def test_every_turn_of_a_conversation_has_the_same_key() -> None:
    first, later = a_call(opening="f00d", turns=1), a_call(opening="f00d", turns=9, max_tokens=5)
    task = a_task(run_id="r", agent="a")

    assert conversation_key(first, task) == conversation_key(later, task) is not None


def test_conversations_differ_by_opening_run_agent_and_type() -> None:
    call = a_call(opening="f00d")
    keys = {
        conversation_key(call, a_task(run_id="r", agent="a")),
        conversation_key(call, a_task(run_id="r2", agent="a")),
        conversation_key(call, a_task(run_id="r", agent="a2")),
        conversation_key(call, a_task(run_id="r", agent="a", type="synthesis")),
        conversation_key(a_call(opening="beef"), a_task(run_id="r", agent="a")),
        conversation_key(call, a_task()),
    }

    assert len(keys) == 6


def test_a_task_id_makes_one_conversation_of_different_openings_and_agents() -> None:
    first = conversation_key(a_call(opening="f00d"), a_task(run_id="r", task_id="t", agent="a"))
    other = conversation_key(a_call(opening=None), a_task(run_id="r", task_id="t", agent="b"))

    assert first == other is not None


def test_task_ids_count_within_their_run_and_type() -> None:
    keys = {
        conversation_key(a_call(), a_task(task_id="t", run_id="r")),
        conversation_key(a_call(), a_task(task_id="t", run_id="r2")),
        conversation_key(a_call(), a_task(task_id="t2", run_id="r")),
        conversation_key(a_call(), a_task(task_id="t", run_id="r", type="synthesis")),
        conversation_key(a_call(), a_task(task_id="t")),
    }

    assert len(keys) == 5


def test_a_call_without_opening_and_task_id_stands_alone() -> None:
    assert conversation_key(a_call(opening=None), a_task(run_id="r")) is None


@pytest.mark.parametrize(
    ("turns", "task_id", "later"), [(1, None, False), (2, None, True), (1, "t", True), (0, None, False)]
)
def test_a_call_continues_a_conversation_by_its_turns_or_its_task_id(
    turns: int, task_id: str | None, later: bool
) -> None:
    assert continues(a_call(turns=turns), a_task(task_id=task_id)) is later
