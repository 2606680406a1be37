import json
from typing import Any

import pytest

from tierwise.core.call import UNCAPPED, Call
from tierwise.core.estimate import Contents
from tierwise.errors import MalformedRequest, UnsupportedRequest
from tierwise.wire.openai_requests import measure, read_chat, read_response

USER: Any = {"role": "user", "content": "Which firm signed?"}


def chat(**fields: Any) -> Call:
    raw = json.dumps({"model": "gpt-5", "messages": [USER], **fields}).encode()
    return read_chat(raw, {"x": "y"})[0]


def response(**fields: Any) -> Call:
    raw = json.dumps({"model": "gpt-5", "input": "Which firm signed?", **fields}).encode()
    return read_response(raw, {})[0]


def contents(*, responses: bool = False, **fields: Any) -> Contents:
    prompt = {"input": "Hi"} if responses else {"messages": [USER]}
    raw = json.dumps({"model": "gpt-5", **prompt, **fields}).encode()
    read = read_response if responses else read_chat
    return measure(raw, read(raw, {})[0])


def test_a_chat_is_read_for_what_routing_needs() -> None:
    call = chat(
        max_completion_tokens=50,
        stream=True,
        stream_options={"include_usage": True},
        n=3,
        reasoning_effort="low",
        user="ada",
        service_tier="priority",
    )

    assert (call.family, call.requested_model, call.headers) == ("openai", "gpt-5", {"x": "y"})
    assert (call.max_tokens, call.cap_path) == (50, ("max_completion_tokens",))
    assert (call.stream, call.usage_told, call.samples) == (True, True, 3)
    assert (call.effort, call.effort_path) == ("low", ("reasoning_effort",))
    assert (call.metadata_user_id, call.speed) == ("ada", "fast")


@pytest.mark.parametrize(
    ("fields", "cap", "path"),
    [
        ({}, UNCAPPED, "max_completion_tokens"),
        ({"max_tokens": None}, UNCAPPED, "max_completion_tokens"),
        ({"max_tokens": 9}, 9, "max_tokens"),
        ({"max_completion_tokens": 8}, 8, "max_completion_tokens"),
    ],
)
def test_a_cap_is_read_where_the_caller_spells_it(fields: dict[str, Any], cap: int, path: str) -> None:
    call = chat(**fields)

    assert (call.max_tokens, call.cap_path) == (cap, (path,))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, True),
        ({"stream": False}, True),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
    ],
)
def test_a_stream_tells_its_usage_only_where_it_is_asked_to(fields: dict[str, Any], told: bool) -> None:
    assert chat(**fields).usage_told is told


def test_instructions_are_no_turns_and_do_not_open_a_conversation() -> None:
    system = {"role": "system", "content": "Be brief."}
    first = chat(messages=[system, USER])
    later = chat(messages=[USER, {"role": "assistant", "content": "Acme."}, USER])

    assert (first.turns, later.turns) == (1, 3)
    assert first.opening == later.opening is not None
    assert chat(messages=[system]).opening is None


def test_a_response_is_read_for_what_routing_needs() -> None:
    call = response(
        max_output_tokens=50, stream=True, reasoning={"effort": "low"}, safety_identifier="ada", user="bob"
    )

    assert (call.max_tokens, call.cap_path) == (50, ("max_output_tokens",))
    assert (call.stream, call.usage_told) == (True, True)
    assert (call.effort, call.effort_path) == ("low", ("reasoning", "effort"))
    assert (call.turns, call.thread, call.metadata_user_id) == (1, False, "ada")
    assert call.opening is not None
    assert response().max_tokens == UNCAPPED


@pytest.mark.parametrize("held", ["previous_response_id", "conversation", "prompt"])
def test_a_response_that_goes_on_from_what_the_provider_holds_is_a_thread(held: str) -> None:
    call = response(**{held: "id_1"})

    assert (call.thread, call.turns) == (True, 2)
    assert (call.opening is not None) == (held == "conversation")
    assert response(**{held: None}).thread is False


@pytest.mark.parametrize(
    ("item", "thread"),
    [
        (USER, False),
        ({"id": "msg_1"}, True),
        ({"type": "item_reference", "id": "msg_1"}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, True),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}, False),
        ({"type": "function_call_output", "call_id": "c", "output": "7"}, False),
    ],
)
def test_an_item_that_stands_for_one_at_the_provider_makes_a_thread(
    item: dict[str, Any], thread: bool
) -> None:
    assert response(input=[USER, item]).thread is thread


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"messages": "Hi"},
        {"messages": [1]},
        {"max_tokens": "9"},
        {"max_tokens": -1},
        {"max_tokens": 2**31 - 1},
        {"n": 1.5},
        {"n": 2**70},
    ],
)
def test_a_chat_that_cannot_be_read_is_malformed(fields: dict[str, Any]) -> None:
    with pytest.raises(MalformedRequest):
        chat(**fields)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"model":"gpt-5"}', b'{"messages":[]}'])
def test_what_is_no_chat_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_chat(raw, {})


@pytest.mark.parametrize(
    "kind", ["web_search_preview", "file_search", "code_interpreter", "image_generation"]
)
def test_a_tool_that_is_billed_apart_is_not_supported(kind: str) -> None:
    with pytest.raises(UnsupportedRequest, match=kind):
        response(tools=[{"type": "function", "name": "f"}, {"type": kind}])


@pytest.mark.parametrize(
    "fields", [{"web_search_options": {}}, {"audio": {"voice": "ash"}}, {"modalities": ["text", "audio"]}]
)
def test_a_chat_that_is_billed_apart_is_not_supported(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedRequest):
        chat(**fields)
    assert chat(modalities=["text"]).max_tokens == UNCAPPED


def test_a_response_in_the_background_is_not_supported() -> None:
    with pytest.raises(UnsupportedRequest, match="background"):
        response(background=True)
    assert response(background=False).thread is False


def test_tools_that_the_provider_runs_are_named_and_callers_own_are_not() -> None:
    tools = [{"type": "function", "name": "f"}, {"type": "mcp"}, {"type": "mcp"}, {"type": "custom"}]

    assert response(tools=tools).tool_types == ("mcp",)


def test_a_plain_prompt_tells_its_size_and_is_not_counted() -> None:
    found = contents()

    assert (found.open_ended, found.grows, found.kind, found.cache_writes) == (False, True, "ascii", "1h")
    assert contents(user="Zoë").kind == "ascii"  # escaped


@pytest.mark.parametrize(
    ("responses", "fields"),
    [
        (
            False,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        ),
        (False, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}),
        (True, {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}),
        (True, {"previous_response_id": "resp_1"}),
        (True, {"tools": [{"type": "mcp"}]}),
    ],
)
def test_what_is_not_in_the_body_leaves_its_size_open(responses: bool, fields: dict[str, Any]) -> None:
    assert contents(responses=responses, **fields).open_ended


def test_a_word_that_may_be_hidden_leaves_the_size_open() -> None:
    raw = rb'{"model":"gpt-5","messages":[{"role":"user","content":[{"type":"im\u0061ge_url"}]}],"user":"Z\xc3\xab"}'
    raw = raw.replace(rb"\xc3\xab", "ë".encode())
    found = measure(raw, read_chat(raw, {})[0])

    assert (found.open_ended, found.kind) == (True, "unicode")
