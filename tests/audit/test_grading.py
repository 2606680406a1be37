"""Grading: which of two answers is better, by the cheapest means that can tell."""

import pytest

from tierwise.audit.grading import Answer, Check, Grade, grade, read_check


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


def test_a_check_is_not_asked_of_answers_that_call_tools() -> None:
    check = Check(kind="exact", argument="42")
    calling = Answer(tool_uses=(("look_up", {}),))

    assert grade(dear=calling, cheap=Answer(text="42"), check=check).how == "differs"


@pytest.mark.parametrize(
    ("dear", "cheap", "difference"),
    [("right", "wrong", -1), ("wrong", "right", 1), ("right", "right too", 0), ("wrong", "no", 0)],
)
def test_a_check_is_asked_of_both_answers(dear: str, cheap: str, difference: int) -> None:
    check = Check(kind="regex", argument="^right")

    found = grade(dear=Answer(text=dear), cheap=Answer(text=cheap), check=check)

    assert found == Grade(difference=difference, how="check")


def test_the_tier_that_failed_did_worse_whatever_a_check_says_of_the_other() -> None:
    good, failed = Answer(text="wrong"), Answer(failure="refusal")
    check = Check(kind="exact", argument="right")

    assert grade(dear=good, cheap=failed, check=check) == Grade(difference=-1, how="failure")
    assert grade(dear=failed, cheap=good, check=check) == Grade(difference=1, how="failure")
    assert grade(dear=failed, cheap=failed, check=check) == Grade(difference=0, how="failure")


@pytest.mark.parametrize(
    ("written", "text", "passes"),
    [
        ("json", '{"a": 1}', True),
        ("json", "not JSON", False),
        ("json:a,b", '{"a": 1, "b": null}', True),
        ("json:a,b", '{"a": 1}', False),
        ("json:a", "[1]", False),
        ("exact:forty two", " forty  two ", True),
        ("exact:forty two", "Forty two", False),
        (r"regex:^\d+$", "42", True),
        (r"regex:^\d+$", "42!", False),
    ],
)
def test_a_check_says_what_a_good_answer_is(written: str, text: str, passes: bool) -> None:
    check = read_check(written)

    assert isinstance(check, Check)
    assert check.passes(Answer(text=text)) is passes


@pytest.mark.parametrize("written", ["regex:(", "regex:", "exact:", "jsn", "json-schema:a.json", ""])
def test_what_is_no_check_is_told(written: str) -> None:
    assert isinstance(read_check(written), str)


def test_another_check_has_another_version() -> None:
    assert Check(kind="json").version != Check(kind="json", argument="a").version
