"""Grading: which of two answers is better, by the cheapest means that can tell."""

import pytest

from tierwise.audit.grading import Answer, Grade, Passed, checkable, grade, holds, unfenced
from tierwise.core.checks import TextKind, TextRule


@pytest.mark.parametrize(
    ("dear", "cheap"),
    [
        ("Forty-two.", " Forty-two.\n"),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
    ],
)
def test_answers_that_say_the_same_are_as_good_as_each_other(dear: str, cheap: str) -> None:
    assert grade(dear=Answer(text=dear), cheap=Answer(text=cheap)) == Grade(difference=0, how="equal")


@pytest.mark.parametrize(("dear", "cheap"), [("42", "43"), ('{"a": 1}', '{"a": true}'), ("{", "}")])
def test_answers_that_differ_are_undecided_without_a_check(dear: str, cheap: str) -> None:
    assert grade(dear=Answer(text=dear), cheap=Answer(text=cheap)).difference is None


def test_the_same_calls_of_tools_are_equal_and_others_differ() -> None:
    one = Answer(tool_uses=(("look_up", {"key": "a", "limit": 1}),))
    same = Answer(tool_uses=(("look_up", {"limit": 1, "key": "a"}),))
    other = Answer(tool_uses=(("look_up", {"key": "b", "limit": 1}),))

    assert grade(dear=one, cheap=same) == Grade(difference=0, how="equal")
    assert grade(dear=one, cheap=other).difference is None


def test_a_check_is_of_whole_answers_that_call_no_tools() -> None:
    calling, cut = Answer(tool_uses=(("look_up", {}),)), Answer(failure="cut")

    assert checkable(Answer(text="42"), Answer(text=""))
    assert not checkable(calling, Answer(text="42"))
    assert not checkable(Answer(text="42"), cut)


@pytest.mark.parametrize(
    ("dear", "cheap", "difference"),
    [(True, False, -1), (False, True, 1), (True, True, 0), (False, False, 0)],
)
def test_the_answer_that_passes_is_the_better_one(dear: bool, cheap: bool, difference: int) -> None:
    found = grade(dear=Answer(text="a"), cheap=Answer(text="b"), passed=Passed(dear=dear, cheap=cheap))

    assert found == Grade(difference=difference, how="check")


@pytest.mark.parametrize("passed", [Passed(dear=None, cheap=True), Passed(dear=False, cheap=None)])
def test_where_the_check_cannot_tell_only_equal_answers_are_graded(passed: Passed) -> None:
    same = grade(dear=Answer(text="a"), cheap=Answer(text=" a"), passed=passed)
    other = grade(dear=Answer(text="a"), cheap=Answer(text="b"), passed=passed)

    assert same == Grade(difference=0, how="equal")
    assert other == Grade(difference=None, how="unchecked")


def test_the_tier_that_failed_did_worse_whatever_a_check_says() -> None:
    good, failed = Answer(text="wrong"), Answer(failure="refusal")

    assert grade(dear=good, cheap=failed) == Grade(difference=-1, how="failure")
    assert grade(dear=failed, cheap=good) == Grade(difference=1, how="failure")
    assert grade(dear=failed, cheap=failed) == Grade(difference=0, how="failure")


@pytest.mark.parametrize(
    ("kind", "argument", "text", "passes"),
    [
        ("json", "", '{"a": 1}', True),
        ("json", "", "not JSON", False),
        ("json", "a,b", '{"a": 1, "b": null}', True),
        ("json", "a,b", '{"a": 1}', False),
        ("json", "a", "[1]", False),
        ("exact", "forty two", " forty  two ", True),
        ("exact", "forty two", "Forty two", False),
        ("regex", r"^\d+$", "42", True),
        ("regex", r"^\d+$", "42!", False),
    ],
)
def test_a_rule_says_what_a_good_answer_is(kind: TextKind, argument: str, text: str, passes: bool) -> None:
    assert holds(TextRule(kind=kind, argument=argument), text) is passes


def test_what_is_nested_too_deeply_to_be_read_is_no_json_and_equals_nothing_else() -> None:
    deep = "[" * 100_000

    assert not holds(TextRule(kind="json"), deep)
    assert grade(dear=Answer(text=deep), cheap=Answer(text=f"{deep}[")).how == "differs"
    for depth in range(800, 1000):
        empty, full = "[" * depth + "]" * depth, "[" * depth + "1" + "]" * depth
        assert grade(dear=Answer(text=empty), cheap=Answer(text=full)).how == "differs"


def test_the_fence_around_code_is_no_part_of_it() -> None:
    assert unfenced('```json\n{"a":\n 1}\n```\n') == '{"a":\n 1}'
    assert unfenced(" plain ") == " plain "
