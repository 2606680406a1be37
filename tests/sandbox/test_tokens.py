import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.sandbox.models import Model, find
from tierwise.sandbox.server import Running
from tierwise.sandbox.tokens import (
    MESSAGE_TOKENS,
    PROMPT_TOKENS,
    blocks,
    prompt_tokens,
    text_size,
    text_tokens,
)


def model(name: str) -> Model:
    found = find(name)
    assert found is not None
    return found


NEW, OLD = model("claude-opus-5-5"), model("claude-opus-4-6")


def count(body: dict[str, Any], of: Model = NEW) -> int:
    return prompt_tokens(blocks(body, of), of)


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def test_a_token_is_3_6_bytes_and_a_prompt_is_rounded_up_once() -> None:
    assert count(user("x" * 36)) == 10 + MESSAGE_TOKENS + PROMPT_TOKENS
    assert count(user("x" * 37)) == 11 + MESSAGE_TOKENS + PROMPT_TOKENS


def test_the_old_tokenizer_counts_1_3_times_fewer_tokens() -> None:
    assert text_tokens(46_800, OLD) == 10_000
    assert text_tokens(46_800, NEW) == 13_000


def test_letters_beyond_ascii_count_their_bytes() -> None:
    assert count(user("ä" * 18)) == count(user("x" * 36))


def test_a_plain_text_counts_like_the_one_block_it_stands_for() -> None:
    blocked = {**user([{"type": "text", "text": "Hello"}]), "system": [{"type": "text", "text": "Be brief."}]}

    assert count(blocked) == count({**user("Hello"), "system": "Be brief."})


@pytest.mark.parametrize(
    ("name", "choice", "overhead"),
    [
        ("claude-opus-5", "auto", 286),
        ("claude-opus-5", "any", 406),
        ("claude-opus-4-8", "none", 290),
        ("claude-opus-4-7", "tool", 804),
        ("claude-haiku-4-5", "auto", 496),
        ("claude-sonnet-5", "auto", 354),
    ],
)
def test_tools_add_the_providers_own_prompt(name: str, choice: str, overhead: int) -> None:
    tool = {"name": "look", "input_schema": {"type": "object"}}
    body = {**user("x" * 36), "tools": [tool], "tool_choice": {"type": choice, "name": "look"}}
    encoded = len(json.dumps(tool, separators=(",", ":")))

    expected = text_tokens(36 + encoded, model(name)) + overhead + MESSAGE_TOKENS + PROMPT_TOKENS
    assert count(body, model(name)) == expected


def test_a_cache_mark_does_not_change_a_count() -> None:
    plain = {"type": "text", "text": "Hello"}

    assert count(user([{**plain, "cache_control": {"type": "ephemeral"}}])) == count(user([plain]))


def test_a_directive_stands_for_the_tokens_of_its_text() -> None:
    body = user(
        [{"type": "text", "text": "[[sandbox prompt_tokens=50000]]"}, {"type": "text", "text": "x" * 36}]
    )

    assert count(body) == 50_000 + 10 + MESSAGE_TOKENS + PROMPT_TOKENS
    assert count(body, OLD) == text_tokens(180_000 + 36, OLD) + MESSAGE_TOKENS + PROMPT_TOKENS


def test_an_image_counts_no_more_than_its_fixed_tokens() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}}

    assert count(user([image])) == 1_600 + MESSAGE_TOKENS + PROMPT_TOKENS


@given(st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=8), st.sampled_from([NEW, OLD]))
@settings(max_examples=60, deadline=None)
def test_a_prompt_never_counts_more_than_half_its_bytes_but_for_the_fixed_parts(
    texts: list[str], of: Model
) -> None:
    body = {"messages": [{"role": "user", "content": text} for text in texts]}
    size = sum(len(text.encode()) for text in texts)

    assert count(body, of) <= size / 2 + 1 + MESSAGE_TOKENS * len(texts) + PROMPT_TOKENS


@given(st.integers(min_value=0, max_value=200_000), st.sampled_from([NEW, OLD]))
@settings(max_examples=100, deadline=None)
def test_a_text_of_so_many_tokens_counts_so_many(tokens: int, of: Model) -> None:
    assert text_tokens(text_size(tokens, of), of) == tokens


def test_the_count_endpoint_says_what_a_call_is_billed_for(sandbox: Running) -> None:
    tool: dict[str, Any] = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
    body: dict[str, Any] = {
        "model": "claude-sonnet-5",
        "system": "Be brief.",
        "tools": [tool],
        **user("Hello, what is there?"),
    }
    headers = {"x-api-key": "any", "anthropic-version": "2023-06-01"}

    counted = sandbox.send("POST", "/v1/messages/count_tokens", json.dumps(body).encode(), headers).json()
    usage = sandbox.messages({**body, "max_tokens": 500}).json()["usage"]

    assert counted == {"input_tokens": usage["input_tokens"]}
