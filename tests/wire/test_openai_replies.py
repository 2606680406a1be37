import json
from typing import Any

import pytest

from tierwise.usage import Usage
from tierwise.wire.openai_replies import read_chat_reply, read_response_reply
from tierwise.wire.replies import ReplyFacts

USAGE: Any = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "prompt_tokens_details": {"cached_tokens": 600, "cache_write_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 50},
}


def chat(*, finish: str = "stop", **fields: Any) -> ReplyFacts:
    body = {"model": "gpt-5", "choices": [{"finish_reason": finish}], "usage": USAGE, **fields}
    return read_chat_reply(json.dumps(body).encode(), status=200)


def response(**fields: Any) -> ReplyFacts:
    usage = {
        "input_tokens": 1000,
        "output_tokens": 200,
        "input_tokens_details": {"cached_tokens": 600},
        "output_tokens_details": {"reasoning_tokens": 50},
    }
    body = {"model": "gpt-5", "status": "completed", "usage": usage, **fields}
    return read_response_reply(json.dumps(body).encode(), status=200)


def test_usage_is_told_in_disjoint_buckets() -> None:
    facts = chat()

    assert facts.metered is not None
    assert facts.metered.total == Usage(
        input_tokens=300, cache_read_tokens=600, cache_write_5m_tokens=100, output_tokens=200
    )
    assert (facts.metered.thinking_tokens, facts.served_model, facts.finished) == (50, "gpt-5", True)


def test_what_is_written_for_twelve_hours_has_a_bucket_of_its_own() -> None:
    details = {"cache_write_tokens": 100, "cache_write_tokens_details": {"ttl_12h_tokens": 70}}
    facts = chat(usage={**USAGE, "prompt_tokens_details": details})

    assert facts.metered is not None
    assert (facts.metered.total.cache_write_5m_tokens, facts.metered.total.cache_write_1h_tokens) == (30, 70)


@pytest.mark.parametrize(
    ("finish", "told"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("later", "later"),
    ],
)
def test_an_ending_is_told_in_the_ledgers_words(finish: str, told: str) -> None:
    assert chat(finish=finish).stop_reason == told


def test_of_several_choices_one_that_was_cut_decides() -> None:
    choices = [{"finish_reason": "stop"}, {"finish_reason": "length"}]

    assert chat(choices=choices).stop_reason == "max_tokens"
    assert chat(choices=[]).stop_reason is None


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 2**50, "completion_tokens": 1},
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}},
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"audio_tokens": 2}},
        {"prompt_tokens": 5, "completion_tokens": 1, "completion_tokens_details": {"audio_tokens": 2}},
    ],
)
def test_usage_that_cannot_be_priced_is_unknown(usage: Any) -> None:
    assert chat(usage=usage).metered is None


@pytest.mark.parametrize(
    ("tier", "fast", "batch"),
    [
        ("default", False, False),
        ("priority", True, False),
        ("flex", False, True),
        ("on_demand", False, False),
    ],
)
def test_a_service_tier_decides_the_price(tier: str, fast: bool, batch: bool) -> None:
    for facts in (chat(service_tier=tier), response(service_tier=tier)):
        assert facts.metered is not None
        assert (facts.metered.lines[0].fast, facts.metered.lines[0].batch) == (fast, batch)


def test_a_response_is_read_as_a_chat_is() -> None:
    facts = response()

    assert facts.metered is not None
    assert facts.metered.total == Usage(input_tokens=400, cache_read_tokens=600, output_tokens=200)
    assert (facts.stop_reason, facts.error, facts.finished) == ("end_turn", None, True)


@pytest.mark.parametrize(
    ("reason", "told"),
    [("max_output_tokens", "max_tokens"), ("content_filter", "refusal"), ("other", "other")],
)
def test_a_response_that_is_incomplete_says_why(reason: str, told: str) -> None:
    assert response(status="incomplete", incomplete_details={"reason": reason}).stop_reason == told


def test_a_response_that_failed_is_an_error_and_one_that_goes_on_has_not_ended() -> None:
    failed = response(status="failed", error={"code": "server_error", "message": "No."}, usage=None)

    assert (failed.error, failed.metered, failed.stop_reason) == ("server_error", None, None)
    assert response(status="cancelled", usage=None).error == "api_error"
    assert response(status="in_progress", usage=None).finished is False


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 200, None),
        (b"{", 500, "api_error"),
        (
            b'{"error":{"message":"No.","type":"invalid_request_error","code":null}}',
            400,
            "invalid_request_error",
        ),
        (
            b'{"error":{"message":"No.","type":"requests","code":"rate_limit_exceeded"}}',
            429,
            "rate_limit_exceeded",
        ),
        (b'{"error":{"message":"No."}}', 400, "api_error"),
        (b'{"error":{"message":"No.","code":404}}', 404, "404"),
    ],
)
def test_an_error_is_named_as_finely_as_it_can_be(body: bytes, status: int, error: str | None) -> None:
    for read in (read_chat_reply, read_response_reply):
        facts = read(body, status=status)
        assert (facts.finished, facts.error, facts.metered) == (True, error, None)


def test_an_error_with_a_good_status_is_an_error() -> None:
    assert chat(error={"message": "No."}, choices=None).error == "api_error"


@pytest.mark.parametrize("error", ["overloaded", 5, ["x"], {"code": {}}, {}])
def test_an_error_of_any_shape_is_one(error: Any) -> None:
    body = json.dumps({"error": error}).encode()

    for read in (read_chat_reply, read_response_reply):
        assert (read(body, status=200).error, read(body, status=500).error) == ("api_error", "api_error")


APART: Any = [{"type": "reasoning"}, {"type": "web_search_call"}]


@pytest.mark.parametrize(
    "fields",
    [
        {"output": APART},
        *({"output": [{"type": f"{kind}_call"}]} for kind in ("file_search", "code_interpreter", "shell")),
        {"output": [{"type": "image_generation_call"}]},
        {"tools": [{"type": "function"}, {"type": "web_search_preview_2025_03_11"}]},
        {"output": 5},
        {"model": "gpt-4o-search-preview-2025-03-11"},
        {"model": "o4-mini-deep-research"},
    ],
)
def test_what_is_billed_beside_the_tokens_is_marked(fields: Any) -> None:
    facts = response(**fields)

    assert facts.metered is not None
    assert facts.metered.billed_apart


@pytest.mark.parametrize(
    "fields",
    [
        {
            "output": [
                {"type": "message"},
                {"type": "function_call"},
                {"type": "mcp_call"},
                {},
                {"type": None},
            ]
        },
        {"tools": [{"type": "function"}, {"type": "mcp"}, {"type": "local_shell"}], "output": None},
        {"model": "my-deep-researcher"},
    ],
)
def test_what_tokens_alone_are_billed_for_is_not(fields: Any) -> None:
    facts = response(**fields)

    assert facts.metered is not None
    assert not facts.metered.billed_apart


def test_a_response_that_calls_what_its_caller_runs_ends_as_a_chat_does_that_calls() -> None:
    called = [{"type": "function_call"}]

    assert response(output=called).stop_reason == chat(finish="tool_calls").stop_reason == "tool_use"
    assert (
        response(output=called, incomplete_details={"reason": "max_output_tokens"}).stop_reason
        == "max_tokens"
    )
