"""The catalogue: sizes and names of models, floors for thinking, conversion between tokenizers."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.catalog import MODELS, Line, Model, converted, find, nearest_effort, thinking_floor, thinks
from tierwise.core.policy import EFFORTS, Effort

models = st.sampled_from(list(MODELS.values()))


def model(name: str) -> Model:
    found = find(name)
    assert found is not None
    return found


def test_every_model_is_found_by_its_id_and_its_aliases() -> None:
    for known in MODELS.values():
        assert [find(name) for name in (known.id, *known.aliases)] == [known] * (1 + len(known.aliases))


@pytest.mark.parametrize(
    ("dated", "model_id"),
    [
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
    ],
)
def test_only_the_four_point_five_models_have_dated_ids(dated: str, model_id: str) -> None:
    assert model(dated).id == model_id
    assert all(known.aliases == () for known in MODELS.values() if "4-5" not in known.id)


def test_a_name_that_is_not_in_the_catalogue_is_not_found() -> None:
    assert find("task/extraction") is None
    assert find("claude-opus-4-1") is None


def test_every_line_has_a_model() -> None:
    assert {known.line for known in MODELS.values()} == set(get_args(Line))


@pytest.mark.parametrize(
    ("name", "context", "output", "cacheable", "tokenizer"),
    [
        ("claude-haiku-4-5", 200_000, 64_000, 4096, "old"),
        ("claude-haiku-5-5", 1_000_000, 128_000, 512, "new"),
        ("claude-sonnet-4-5", 200_000, 64_000, 1024, "old"),
        ("claude-sonnet-4-6", 1_000_000, 128_000, 1024, "old"),
        ("claude-sonnet-5", 1_000_000, 128_000, 1024, "new"),
        ("claude-sonnet-5-5", 1_000_000, 128_000, 512, "new"),
        ("claude-opus-4-5", 200_000, 64_000, 4096, "old"),
        ("claude-opus-4-6", 1_000_000, 128_000, 4096, "old"),
        ("claude-opus-4-7", 1_000_000, 128_000, 2048, "new"),
        ("claude-opus-4-8", 1_000_000, 128_000, 1024, "new"),
        ("claude-opus-5", 1_000_000, 128_000, 512, "new"),
        ("claude-opus-5-5", 1_000_000, 128_000, 512, "new"),
        ("claude-fable-5-2", 1_000_000, 128_000, 512, "new"),
        ("claude-mythos-5", 1_000_000, 128_000, 512, "new"),
    ],
)
def test_a_model_has_the_sizes_that_its_page_gives(
    name: str, context: int, output: int, cacheable: int, tokenizer: str
) -> None:
    known = model(name)

    assert (known.context_tokens, known.max_output_tokens) == (context, output)
    assert (known.min_cacheable_tokens, known.tokenizer) == (cacheable, tokenizer)


@pytest.mark.parametrize(
    ("name", "omitted", "off", "adaptive"),
    [
        ("claude-haiku-4-5", False, False, True),
        ("claude-opus-4-8", False, False, True),
        ("claude-haiku-5-5", True, False, True),
        ("claude-opus-5", True, False, True),
        ("claude-sonnet-5-5", True, False, True),
        ("claude-opus-5-5", True, True, True),
        ("claude-fable-5", True, True, True),
    ],
)
def test_whether_a_call_thinks_depends_on_the_model(
    name: str, omitted: bool, off: bool, adaptive: bool
) -> None:
    known = model(name)

    assert [thinks(known, word) for word in ("keep", "off", "adaptive")] == [omitted, off, adaptive]
    assert thinks(known, "disabled") == thinks(known, "between_tools") == off
    assert thinks(known, "enabled")


@pytest.mark.parametrize(
    ("effort", "floor"), [("low", 1024), ("medium", 2048), ("high", 4096), ("xhigh", 8192), ("max", 16384)]
)
def test_more_effort_needs_more_room_to_think(effort: str, floor: int) -> None:
    assert thinking_floor(model("claude-opus-5-5"), effort=effort, thinking="adaptive") == floor


def test_a_call_that_does_not_think_needs_no_room_to_think() -> None:
    assert thinking_floor(model("claude-haiku-5-5"), effort="max", thinking="off") == 0
    assert thinking_floor(model("claude-opus-4-8"), effort="max", thinking="keep") == 0


def test_a_model_that_always_thinks_has_a_floor_even_with_thinking_off() -> None:
    assert thinking_floor(model("claude-fable-5-2"), effort="low", thinking="off") == 1024


def test_without_an_effort_the_floor_is_that_of_the_models_default() -> None:
    assert thinking_floor(model("claude-opus-5-5"), effort=None, thinking="keep") == 2048
    assert thinking_floor(model("claude-sonnet-5-5"), effort=None, thinking="keep") == 4096


def test_the_floor_of_a_lowered_effort_is_that_of_the_effort_that_is_sent() -> None:
    assert thinking_floor(model("claude-opus-4-6"), effort="xhigh", thinking="adaptive") == 4096


def test_a_model_without_effort_needs_room_for_the_smallest_budget_and_an_answer() -> None:
    assert thinking_floor(model("claude-haiku-4-5"), effort="max", thinking="adaptive") == 2048


@pytest.mark.parametrize(
    ("name", "asked", "taken"),
    [
        ("claude-opus-5", "xhigh", "xhigh"),
        ("claude-sonnet-4-6", "xhigh", "high"),
        ("claude-sonnet-4-6", "max", "max"),
        ("claude-opus-4-5", "max", "high"),
        ("claude-haiku-4-5", "low", None),
        ("claude-opus-5", "ultra", "ultra"),
    ],
)
def test_an_effort_that_a_model_lacks_becomes_the_next_lower_one(
    name: str, asked: str, taken: str | None
) -> None:
    assert nearest_effort(model(name), asked) == taken


@given(known=models, effort=st.sampled_from(EFFORTS))
def test_a_taken_effort_is_never_above_the_one_asked(known: Model, effort: Effort) -> None:
    taken = nearest_effort(known, effort)

    assert taken in {None, *EFFORTS[: EFFORTS.index(effort) + 1]}


def test_a_text_has_thirteen_tokens_on_the_new_tokenizer_for_ten_on_the_old() -> None:
    old, new = model("claude-haiku-4-5"), model("claude-haiku-5-5")

    assert converted(1000, source=old, target=new) == 1300
    assert converted(1300, source=new, target=old) == 1000


def test_a_converted_count_is_rounded_half_up() -> None:
    old, new = model("claude-opus-4-6"), model("claude-opus-4-7")

    assert [converted(tokens, source=old, target=new) for tokens in (1, 2, 5)] == [1, 3, 7]
    assert [converted(tokens, source=new, target=old) for tokens in (1, 2, 5)] == [1, 2, 4]


@given(tokens=st.integers(0, 10**7), source=models, target=models)
def test_a_count_survives_the_way_there_and_back_within_a_token(
    tokens: int, source: Model, target: Model
) -> None:
    back = converted(converted(tokens, source=source, target=target), source=target, target=source)

    assert abs(back - tokens) <= 1
