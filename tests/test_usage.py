from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from tierwise.usage import Metered, Usage, UsageLine

USAGES = st.builds(Usage, **{field.name: st.integers(0, 10**9) for field in fields(Usage)})


def line(usage: Usage) -> UsageLine:
    return UsageLine(model="m", usage=usage)


def test_the_prompt_is_everything_that_was_read_cached_or_not() -> None:
    usage = Usage(
        input_tokens=1,
        cache_write_5m_tokens=20,
        cache_write_1h_tokens=300,
        cache_read_tokens=4000,
        output_tokens=50_000,
        web_search_requests=9,
    )

    assert usage.prompt_tokens == 4321


@given(USAGES)
def test_the_total_of_one_line_is_its_usage(usage: Usage) -> None:
    assert Metered(lines=(line(usage),)).total == usage


@given(st.lists(USAGES, max_size=4))
def test_the_total_of_several_lines_adds_up_every_bucket(usages: list[Usage]) -> None:
    total = Metered(lines=tuple(map(line, usages))).total

    for field in fields(Usage):
        assert getattr(total, field.name) == sum(getattr(usage, field.name) for usage in usages)
