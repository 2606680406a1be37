import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.config import Book, parse_book
from tierwise.config.keys import TABLES
from tierwise.config.starter import starter_policy
from tierwise.errors import PolicyError

LINES = starter_policy().splitlines()
KEYS = sorted({name for table in TABLES for name in (*table.known, *table.planned)})
VALUES = st.sampled_from(
    [
        *sorted({key.example for table in TABLES for key in table.keys}),
        *(
            "{}",
            "[]",
            "[[]]",
            "[{}]",
            "nan",
            "-1",
            "1e400",
            "2026-01-01",
            "07:32:00",
            "''",
            '"\\u0000"',
            "true",
        ),
    ]
)
TABLE_LINES = st.sampled_from(
    [
        "[tiers]",
        "[tiers.x]",
        "[[tiers]]",
        "[task_types.x]",
        "[task_types.extraction.budget]",
        "[[match]]",
        "[match.headers]",
        "[[budgets]]",
        "[[prices]]",
    ]
)
NEW_LINES = st.one_of(
    st.text(max_size=20), st.builds("{} = {}".format, st.sampled_from(KEYS), VALUES), TABLE_LINES
)


def outcome(text: str) -> Book | PolicyError:
    try:
        return parse_book(text, file="tierwise.toml")
    except PolicyError as error:
        return error


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    result = outcome(text)

    assert isinstance(result, PolicyError)
    assert result.problems
    assert str(result)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), st.booleans(), NEW_LINES), min_size=1, max_size=4))
def test_any_edit_of_the_starter_is_a_policy_or_a_policy_error(edits: list[tuple[int, bool, str]]) -> None:
    lines = list(LINES)
    for at, replace, line in edits:
        lines[at : at + replace] = [line]
    text = "\n".join(lines)

    result = outcome(text)

    last = text.count("\n") + 1
    problems = result.warnings if isinstance(result, Book) else result.problems
    assert all(problem.line is None or 1 <= problem.line <= last for problem in problems)
    assert isinstance(result, Book) or result.problems


@settings(max_examples=150)
@given(st.sampled_from(KEYS), VALUES, st.integers(0, len(LINES)))
def test_a_problem_of_an_added_line_is_told_on_that_line_or_not_at_all(key: str, value: str, at: int) -> None:
    line = f"{key} = {value}"
    text = "\n".join([*LINES[:at], line, *LINES[at:]])
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return

    result = outcome(text)

    if isinstance(result, PolicyError):
        assert at + 1 in {problem.line for problem in result.problems}
