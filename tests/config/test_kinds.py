from datetime import UTC, date, datetime, time

import pytest

from tierwise.config.kinds import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (12, "12"),
        (0.5, "0.5"),
        (float("nan"), "nan"),
        (10**18, "a huge number"),
        ("a", '"a"'),
        ("é\n", '"é\\n"'),
        ({}, "a table"),
        ([], "a list"),
        (date(2026, 12, 1), "a date"),
        (datetime(2026, 12, 1, tzinfo=UTC), "a date with a time"),
        (time(7, 32), "a time"),
    ],
)
def test_a_value_is_shown_in_few_words(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_text_is_shown_by_its_beginning() -> None:
    assert shown("x" * 1000) == f'"{"x" * 57}…"'


def test_no_part_of_a_secret_is_shown_wherever_the_text_is_cut() -> None:
    for before in range(70):
        assert "sk-ant" not in shown("." * before + "sk-ant-secretsecret")
