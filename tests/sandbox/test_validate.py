import json
from typing import Any

import pytest

from tierwise.sandbox.server import Running

HELLO = [{"role": "user", "content": "Hello"}]
PLAIN = {"model": "claude-opus-4-6", "max_tokens": 2_000, "messages": HELLO}
LOOK: dict[str, Any] = {"name": "look", "input_schema": {"type": "object"}}
USE: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "found"}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
    (
        {"max_tokens": 128_001},
        "max_tokens: 128001 > 128000, which is the maximum allowed number of output tokens for claude-opus-4-6",
    ),
    ({"messages": None}, "messages: Field required"),
    ({"messages": "Hello"}, "messages: Input should be a valid list"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": ["Hello"]}, "messages.0: Input should be a valid dictionary"),
    ({"messages": [{"content": "a"}]}, "messages.0.role: Field required"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role: Input should be"),
    (
        {"messages": [{"role": "assistant", "content": "a"}, *HELLO]},
        'messages: first message must use the "user"',
    ),
    (
        {"messages": [{"role": "user", "content": ""}]},
        "messages.0: all messages must have non-empty content",
    ),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content: Input should be"),
    ({"messages": [{"role": "user", "content": [{}]}]}, "messages.0.content.0.type: Field required"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages.0.content.0.text.text: Field required",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        "messages.0.content.0: text content blocks must be non-empty",
    ),
    ({"messages": [{"role": "user", "content": [RESULT]}]}, "messages.0: unexpected `tool_use_id`"),
    (
        {"messages": [*HELLO, {"role": "assistant", "content": [USE]}, *HELLO]},
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
    ),
    ({"model": 3}, "model: Input should be a valid string"),
    ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    ({"system": 3}, "system: Input should be a valid string or list"),
    ({"system": [{"type": "image", "source": {}}]}, "system.0.type: Input should be 'text'"),
    ({"stop_sequences": [" "]}, "stop_sequences: each stop sequence must contain non-whitespace"),
    ({"temperature": 1.5}, "temperature: range: 0..1"),
    ({"top_p": -0.5}, "top_p: range: 0..1"),
    ({"temperature": 0.5, "thinking": {"type": "adaptive"}}, "temperature: may only be set to 1"),
    ({"top_k": 5, "thinking": {"type": "adaptive"}}, "top_k: must be unset"),
    ({"top_p": 0.5, "thinking": {"type": "adaptive"}}, "top_p: must be at least 0.95"),
    ({"thinking": {"type": "always"}}, "thinking: Input tag 'always'"),
    ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1023}},
        "thinking.enabled.budget_tokens: Input should be",
    ),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
        "max_tokens: must be greater than `thinking.budget_tokens`",
    ),
    (
        {"thinking": {"type": "adaptive", "budget_tokens": 1_024}},
        "thinking.adaptive.budget_tokens: Extra inputs are not permitted",
    ),
    ({"thinking": {"type": "adaptive", "display": "all"}}, "thinking.adaptive.display: Input should be"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be"),
    ({"output_config": {"format": {"type": "json"}}}, "output_config.format: Input should be"),
    ({"tools": [{"name": "look"}]}, "tools.0.custom.input_schema: Field required"),
    ({"tools": [LOOK, LOOK]}, "tools: Tool names must be unique."),
    ({"tool_choice": {"type": "auto"}}, "tool_choice: may only be specified while providing tools"),
    ({"tools": [LOOK], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice: Tool 'x' not found"),
    ({"tools": [LOOK], "tool_choice": {"type": "some"}}, "tool_choice: Input tag 'some'"),
    ({"inference_geo": "eu"}, "inference_geo: Input should be"),
    ({"service_tier": "priority"}, "service_tier: Input should be"),
    ({"speed": "slow"}, "speed: Input should be"),
    ({"metadata": "me"}, "metadata: Input should be a valid dictionary"),
    ({"fallbacks": "first"}, "fallbacks: Input should be a valid list or 'default'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_field_is_refused_by_its_name(served: Running, change: dict[str, Any], message: str) -> None:
    body = {name: value for name, value in {**PLAIN, **change}.items() if value is not None}

    answer = served.messages(body)

    assert answer.status == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(message)


def test_task_budgets_are_at_least_20_thousand(served: Running) -> None:
    budget = {"task_budget": {"type": "tokens", "total": 19_999}}

    answer = served.messages({**PLAIN, "model": "claude-opus-5-5", "output_config": budget})

    assert answer.json()["error"]["message"].startswith("output_config.task_budget.total")


def test_a_prefill_stands_beside_no_thinking_and_ends_without_a_blank(served: Running) -> None:
    prefilled = {
        **PLAIN,
        "model": "claude-haiku-4-5",
        "messages": [*HELLO, {"role": "assistant", "content": "So "}],
    }
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1_024}}

    assert "trailing whitespace" in served.messages(prefilled).json()["error"]["message"]
    assert "prefilled" in served.messages({**prefilled, **thinking}).json()["error"]["message"]


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(served: Running) -> None:
    content = "[[sandbox prompt_tokens=260000]]"  # 200,000 tokens of the old tokenizer

    answer = served.messages(
        {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    )

    assert answer.status == 400
    assert answer.json()["error"]["message"] == "prompt is too long: 200007 tokens > 200000 maximum"


def test_a_field_of_a_later_api_is_let_through(served: Running) -> None:
    assert served.messages({**PLAIN, "later": {"any": 1}}).status == 200


def test_a_count_refuses_what_a_call_refuses_and_server_tools_and_asks_for_no_cap(served: Running) -> None:
    def counted(**change: Any) -> int:
        body = {"model": "claude-opus-5-5", "messages": HELLO, **change}
        headers = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
        return served.send("POST", "/v1/messages/count_tokens", json.dumps(body).encode(), headers).status

    assert counted() == 200
    assert counted(temperature=0.5) == 400
    assert counted(tools=[LOOK], tool_choice={"type": "any"}) == 400
    assert counted(tools=[{"type": "web_search_20260318", "name": "web_search"}]) == 400


def test_replayed_thinking_belongs_to_its_conversation(served: Running) -> None:
    asked = {"role": "user", "content": "[[sandbox thinking_tokens=50]]"}
    first = served.messages({"model": "claude-opus-5-5", "max_tokens": 500, "messages": [asked]}).json()

    def replayed(model: str, system: str | None, opening: dict[str, Any] = asked) -> int:
        messages = [opening, {"role": "assistant", "content": first["content"]}, *HELLO]
        body = {"model": model, "max_tokens": 500, "messages": messages, "system": system}
        return served.messages({key: value for key, value in body.items() if value is not None}).status

    assert replayed("claude-opus-5-5", None) == 200
    assert replayed("claude-opus-5-5", "Be brief.") == 400
    assert replayed("claude-opus-5-5", None, {"role": "user", "content": "Something else"}) == 400
    assert replayed("claude-fable-5-2", "Be brief.") == 400  # it reads the thinking of Opus 5.5
    assert replayed("claude-haiku-5-5", "Be brief.") == 200  # it does not, and drops it
    assert replayed("claude-opus-5", "Be brief.") == 200  # it does not check


def test_a_cache_mark_does_not_unbind_replayed_thinking(served: Running) -> None:
    asked = {"type": "text", "text": "[[sandbox thinking_tokens=50]]"}
    body: dict[str, Any] = {"model": "claude-opus-5-5", "max_tokens": 500}
    first = served.messages({**body, "messages": [{"role": "user", "content": [asked]}]}).json()
    marked = {**asked, "cache_control": {"type": "ephemeral"}}

    messages = [
        {"role": "user", "content": [marked]},
        {"role": "assistant", "content": first["content"]},
        *HELLO,
    ]

    assert (
        served.messages({**body, "messages": messages, "cache_control": {"type": "ephemeral"}}).status == 200
    )


def test_a_signature_that_nobody_made_is_refused_by_a_model_that_checks(served: Running) -> None:
    block = {"type": "thinking", "thinking": "", "signature": "AAAA"}
    messages = [*HELLO, {"role": "assistant", "content": [block, {"type": "text", "text": "a"}]}, *HELLO]

    answer = served.messages({"model": "claude-opus-5-5", "max_tokens": 500, "messages": messages})

    assert answer.status == 400
    assert "signature" in answer.json()["error"]["message"]
