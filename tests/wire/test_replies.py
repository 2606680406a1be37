import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.usage import Metered, Usage, UsageLine
from tierwise.wire.replies import ReplyFacts, error_body, read_count, read_reply

MODEL = "claude-haiku-5-5"
COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


PLAIN = {"input_tokens": 10, "output_tokens": 5}


def a_reply(usage: Any = PLAIN, **fields: Any) -> bytes:
    reply = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return json.dumps(reply | fields).encode()


def metered(usage: Any, **fields: Any) -> Metered | None:
    return read_reply(a_reply(usage, **fields), status=200).metered


def buckets(**usage: Any) -> Usage:
    found = metered(PLAIN | usage)
    assert found is not None
    return found.lines[0].usage


def test_a_whole_reply_tells_model_stop_reason_and_usage() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 4000,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 9},
        "service_tier": "standard",
        "speed": "standard",
        "inference_geo": "global",
        "not_known_yet": {"tokens": 7},
    }

    assert read_reply(a_reply(usage), status=200) == ReplyFacts(
        finished=True,
        served_model=MODEL,
        stop_reason="end_turn",
        metered=Metered(
            lines=(
                UsageLine(
                    model=MODEL,
                    usage=Usage(
                        input_tokens=10,
                        cache_write_5m_tokens=100,
                        cache_write_1h_tokens=200,
                        cache_read_tokens=4000,
                        output_tokens=50,
                        web_search_requests=2,
                    ),
                ),
            ),
            thinking_tokens=20,
        ),
    )


@pytest.mark.parametrize(
    ("usage", "five_minutes", "one_hour"),
    [
        ({}, 0, 0),
        ({"cache_creation_input_tokens": None, "cache_creation": None}, 0, 0),
        ({"cache_creation_input_tokens": 300}, 300, 0),
        ({"cache_creation_input_tokens": 300, "cache_creation": {}}, 300, 0),
        (
            {
                "cache_creation_input_tokens": 300,
                "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            },
            100,
            200,
        ),
        (
            {"cache_creation_input_tokens": 300, "cache_creation": {"ephemeral_1h_input_tokens": 200}},
            100,
            200,
        ),
        (
            {"cache_creation_input_tokens": 150, "cache_creation": {"ephemeral_1h_input_tokens": 200}},
            0,
            150,
        ),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}},
            100,
            200,
        ),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 100}}, 100, 0),
    ],
)
def test_the_total_of_cache_writes_counts_and_the_split_divides_it(
    usage: dict[str, Any], five_minutes: int, one_hour: int
) -> None:
    found = buckets(**usage)

    assert (found.cache_write_5m_tokens, found.cache_write_1h_tokens) == (five_minutes, one_hour)


@pytest.mark.parametrize(
    ("usage", "way"),
    [
        ({"speed": "fast"}, (True, False, False)),
        ({"inference_geo": "us"}, (False, True, False)),
        ({"service_tier": "batch"}, (False, False, True)),
        ({"speed": "standard", "inference_geo": "eu", "service_tier": "priority"}, (False, False, False)),
        ({"speed": None, "inference_geo": None, "service_tier": None}, (False, False, False)),
    ],
)
def test_a_line_says_how_it_was_served(usage: dict[str, Any], way: tuple[bool, bool, bool]) -> None:
    found = metered(PLAIN | usage)

    assert found is not None
    assert (found.lines[0].fast, found.lines[0].us_only, found.lines[0].batch) == way


def test_iterations_are_what_counts_each_at_its_own_model_and_the_reply_s_way_of_serving() -> None:
    usage = {
        "input_tokens": 999,
        "output_tokens": 999,
        "speed": "fast",
        "server_tool_use": {"web_search_requests": 3},
        "iterations": [
            {"type": "compaction", "input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 7},
            {
                "type": "advisor_message",
                "model": "claude-opus-5-5",
                "input_tokens": 20,
                "output_tokens": 2,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_1h_input_tokens": 5},
            },
            {"type": "message", "model": MODEL, "input_tokens": 3, "output_tokens": 1},
        ],
    }

    found = metered(usage)

    assert found == Metered(
        lines=(
            UsageLine(
                model=MODEL,
                fast=True,
                usage=Usage(input_tokens=100, output_tokens=10, cache_read_tokens=7, web_search_requests=3),
            ),
            UsageLine(
                model="claude-opus-5-5",
                fast=True,
                usage=Usage(input_tokens=20, output_tokens=2, cache_write_1h_tokens=5),
            ),
            UsageLine(model=MODEL, fast=True, usage=Usage(input_tokens=3, output_tokens=1)),
        )
    )


def test_no_iterations_are_the_same_as_none() -> None:
    assert metered(PLAIN | {"iterations": []}) == metered(PLAIN | {"iterations": None}) == metered(PLAIN)


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"input_tokens": 10},
        {"output_tokens": 5},
        {"input_tokens": None, "output_tokens": 5},
        PLAIN | {"iterations": [{"type": "message", "input_tokens": 10}]},
        PLAIN | {"iterations": [{"type": "message", "output_tokens": 5}]},
    ],
)
def test_a_usage_that_leaves_out_what_was_read_or_written_is_unknown_and_not_zero(
    usage: dict[str, Any],
) -> None:
    facts = read_reply(a_reply(usage), status=200)

    assert (facts.metered, facts.served_model, facts.finished) == (None, MODEL, True)


@pytest.mark.parametrize("fields", [{"usage": None}, {"model": None}])
def test_a_reply_without_usage_or_model_has_an_unknown_usage(fields: dict[str, Any]) -> None:
    assert read_reply(a_reply(**fields), status=200).metered is None


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [-1, 2**40, 10**30])
def test_a_count_that_cannot_be_makes_the_usage_unknown(name: str, count: int) -> None:
    assert metered(PLAIN | {name: count}) is None


@pytest.mark.parametrize(
    "usage",
    [
        {"server_tool_use": {"web_search_requests": -1}},
        {"cache_creation": {"ephemeral_5m_input_tokens": -1}},
        {"cache_creation": {"ephemeral_1h_input_tokens": -1}},
        {"cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_1h_input_tokens": -1}},
        {"iterations": [{"input_tokens": -1, "output_tokens": 1}]},
    ],
)
def test_nor_can_a_part_of_it_be_below_zero(usage: dict[str, Any]) -> None:
    assert metered(PLAIN | usage) is None


@pytest.mark.parametrize("count", [-1, 2**40, None])
def test_an_impossible_count_of_thinking_is_left_out_alone(count: int | None) -> None:
    found = metered(PLAIN | {"output_tokens_details": {"thinking_tokens": count}})

    assert found is not None
    assert found.thinking_tokens is None


def test_counts_are_plausible_up_to_a_trillion_tokens() -> None:
    assert buckets(input_tokens=2**40 - 1).input_tokens == 2**40 - 1
    assert buckets(input_tokens=0, output_tokens=0) == Usage()


def test_a_searching_reply_without_searches_counts_none() -> None:
    assert buckets(server_tool_use={"web_search_requests": None}).web_search_requests == 0


@pytest.mark.parametrize(
    ("fields", "empty"),
    [
        ({"stop_reason": "refusal", "content": []}, True),
        ({"stop_reason": "refusal", "content": None}, True),
        ({"stop_reason": "refusal"}, False),
        ({"stop_reason": "end_turn", "content": []}, False),
    ],
)
def test_a_refusal_without_a_word_is_told_apart(fields: dict[str, Any], empty: bool) -> None:
    assert read_reply(a_reply(**fields), status=200).empty_refusal is empty


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (
            b'{"type":"error","error":{"type":"overloaded_error","message":"m"},"request_id":"r"}',
            529,
            "overloaded_error",
        ),
        (b'{"type":"error","error":{"type":"rate_limit_error"}}', 429, "rate_limit_error"),
        (b'{"type":"error","error":{"message":"m"}}', 500, "api_error"),
        (b'{"message":"no error object"}', 403, "api_error"),
        (b"<html>Bad Gateway</html>", 502, "api_error"),
        (b"", 504, "api_error"),
        # An error that a middleman sends with a good status is still one.
        (b'{"type":"error","error":{"type":"api_error"}}', 200, "api_error"),
    ],
)
def test_an_error_is_named_by_its_type(body: bytes, status: int, error: str) -> None:
    assert read_reply(body, status=status) == ReplyFacts(finished=True, error=error)


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"[]", b'{"usage":"many"}', b'{"model":"\xff"}', b"[" * 100_000]
)
def test_a_reply_that_cannot_be_read_has_no_facts(body: bytes) -> None:
    assert read_reply(body, status=200) == ReplyFacts(finished=True)


@given(st.binary(max_size=100), st.sampled_from((200, 400, 500)))
def test_whatever_the_provider_sends_is_read(body: bytes, status: int) -> None:
    facts = read_reply(body, status=status)

    assert facts.finished
    assert (facts.error is None) or status >= 400


def test_an_error_of_ours_has_the_providers_shape() -> None:
    assert json.loads(error_body("not_found_error", "There is no such path: “/x”.", request_id="c1")) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "There is no such path: “/x”."},
        "request_id": "c1",
    }


def test_an_error_of_ours_can_have_details() -> None:
    body = error_body(
        "invalid_request_error", "m", request_id="c1", details={"error_code": "thread_unsupported_request"}
    )

    assert json.loads(body)["error"] == {
        "type": "invalid_request_error",
        "message": "m",
        "details": {"error_code": "thread_unsupported_request"},
    }


def test_an_error_of_ours_is_read_as_one_of_the_providers() -> None:
    body = error_body("billing_error", "Spent.", request_id="c1")

    assert read_reply(body, status=429).error == "billing_error"


def test_a_count_of_tokens_is_read() -> None:
    assert read_count(b'{"input_tokens":2095,"context_management":{}}', status=200) == 2095


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"input_tokens":5}', 429),
        (b'{"type":"error","error":{"type":"rate_limit_error"}}', 200),
        (b'{"input_tokens":"many"}', 200),
        (b'{"input_tokens":-1}', 200),
        (b'{"input_tokens":1e99}', 200),
        (b"", 200),
        (b"\xff", 200),
        (b'{"input_tokens":5,"more":' + b"[" * 100_000, 200),
    ],
)
def test_a_reply_that_counts_nothing_readable_is_no_count(body: bytes, status: int) -> None:
    assert read_count(body, status=status) is None
