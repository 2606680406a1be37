from textwrap import dedent

from hypothesis import given
from hypothesis import strategies as st

from tierwise.config.lines import dotted, key_lines, line_of


def lines_of(text: str) -> dict[str, int]:
    return {dotted(path): line for path, line in key_lines(dedent(text).removeprefix("\n")).items()}


def test_keys_and_tables_stand_on_their_own_lines() -> None:
    text = """
    mode = "route"

    [tiers.fast]
    model = "claude-haiku-5-5"
    """

    assert lines_of(text) == {"mode": 1, "tiers": 3, "tiers.fast": 3, "tiers.fast.model": 4}


def test_a_comment_is_not_a_key() -> None:
    text = """
    # a = 1
    b = 2 # c = 3
    # [d]
    """

    assert lines_of(text) == {"b": 2}


def test_a_dotted_key_stands_for_each_of_its_tables() -> None:
    text = """
    [task_types.x]
    quality . margin = 0.03
    quality.check = "json"
    """

    assert lines_of(text) == {
        "task_types": 1,
        "task_types.x": 1,
        "task_types.x.quality": 2,
        "task_types.x.quality.margin": 2,
        "task_types.x.quality.check": 3,
    }


def test_each_table_of_an_array_has_its_own_place_and_its_own_inner_tables() -> None:
    text = """
    [[match]]
    task_type = "a"
    [match.headers]
    x-team = "b"

    [[match]]
    headers.x-team = "c"
    """

    assert lines_of(text) == {
        "match": 1,
        "match[0]": 1,
        "match[0].task_type": 2,
        "match[0].headers": 3,
        "match[0].headers.x-team": 4,
        "match[1]": 6,
        "match[1].headers": 7,
        "match[1].headers.x-team": 7,
    }


def test_arrays_of_tables_nest() -> None:
    text = """
    [[a]]
    [[a.b]]
    [[a.b]]
    c = 1
    [[a]]
    [[a.b]]
    c = 2
    """

    found = lines_of(text)

    assert (found["a[0].b[1].c"], found["a[1].b[0].c"]) == (4, 7)


def test_quoted_keys_are_read_as_what_they_mean() -> None:
    text = """
    "a b" = 1
    'c.d' = 2
    "e\\u0041\\n\\"" = 3
    [tiers . "fast"]
    """

    assert lines_of(text) == {'"a b"': 1, '"c.d"': 2, '"eA\n""': 3, "tiers": 4, "tiers.fast": 4}


def test_strings_that_look_like_tables_are_stepped_over() -> None:
    text = '''
    a = """
    [b]
    c = 1 \\""" still inside
    """
    d = \'\'\'
    [e]
    \'\'\'
    f = "# [g]"
    h = '\\'
    i = """x"""""
    j = ""
    '''

    assert lines_of(text) == {"a": 1, "d": 5, "f": 8, "h": 9, "i": 10, "j": 11}


def test_values_over_several_lines_have_the_lines_of_their_parts() -> None:
    text = """
    match = [
      # the first
      { task_type = "a", headers = { x = "]" } },

      { task_type = "b" },
    ]
    day = 1979-05-27 07:32:00
    """

    assert lines_of(text) == {
        "match": 1,
        "match[0]": 3,
        "match[0].task_type": 3,
        "match[0].headers": 3,
        "match[0].headers.x": 3,
        "match[1]": 5,
        "match[1].task_type": 5,
        "day": 7,
    }


def test_windows_line_ends_count_once() -> None:
    assert lines_of("a = 1\r\n\r\n[b]\r\nc = 2\r\n") == {"a": 1, "b": 3, "b.c": 4}


def test_a_key_that_is_not_there_has_the_line_of_the_table_around_it() -> None:
    lines = key_lines("[tiers.fast]\n")

    assert line_of(("tiers", "fast", "model"), lines) == 1
    assert line_of(("upstream",), lines) is None


def test_what_is_found_before_the_text_breaks_off_is_kept() -> None:
    assert lines_of("a = 1\nb =\nc = 2\n") == {"a": 1, "b": 2}
    assert lines_of("a = 1\n[b c]\nd = 2\n") == {"a": 1, "b": 2}


def test_a_nest_without_end_ends_the_search() -> None:
    assert lines_of("a = 1\nb = " + "[" * 100_000)["a"] == 1


@given(st.text(alphabet="ab.=[]{}\"'#,\\ \n1", max_size=60))
def test_any_text_can_be_searched(text: str) -> None:
    last = text.count("\n") + 1

    assert all(1 <= line <= last for line in key_lines(text).values())
