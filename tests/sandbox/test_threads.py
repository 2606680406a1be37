"""Threads: what a continuation brings, what it is answered with and billed, and what is refused."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anthropic
import pytest
from anthropic import beta_async_tool, beta_tool

from tierwise.sandbox.server import Answer, Running, running

OPUS = "claude-opus-5-5"
BETA = {"anthropic-beta": "message-threads-2026-08-12"}
ASKED = {"role": "user", "content": "Hello"}
MORE = {"role": "user", "content": "And then?"}
TOOLS = [{"name": "look", "input_schema": {"type": "object"}}]


@dataclass
class Clock:
    at: float = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def served(clock: Clock) -> Iterator[Running]:
    with running(seed=1, now=clock) as sandbox:
        yield sandbox


def create(sandbox: Running, **more: Any) -> Answer:
    body = {
        "model": OPUS,
        "max_tokens": 500,
        "messages": [ASKED],
        "thread": {"type": "create"},
        **more,
    }
    return sandbox.messages(body, BETA)


def go_on(
    sandbox: Running, previous: Answer | str, *, headers: dict[str, str] | None = None, **more: Any
) -> Answer:
    thread = {
        "type": "continue",
        "previous_message_id": previous if isinstance(previous, str) else previous.json()["id"],
    }
    body = {"model": OPUS, "max_tokens": 500, "messages": [MORE], "thread": thread, **more}
    return sandbox.messages(body, BETA | (headers or {}))


def code_of(answer: Answer) -> str:
    return answer.json()["error"]["details"]["error_code"]


def without_ids(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key != "id"}


def test_a_continuation_is_answered_and_billed_as_if_it_held_the_whole_conversation(sandbox: Running) -> None:
    first = create(sandbox, system="Be brief.")
    second = go_on(sandbox, first)
    whole = sandbox.messages(
        {
            "model": OPUS,
            "max_tokens": 500,
            "system": "Be brief.",
            "messages": [ASKED, {"role": "assistant", "content": first.json()["content"]}, MORE],
        }
    )

    assert (first.status, second.status) == (200, 200)
    assert without_ids(second.json()) == without_ids(whole.json())
    in_full, continued, _ = sandbox.calls()
    assert continued["nanos"] == in_full["nanos"]
    assert (continued["sent"]["turns"], in_full["sent"]["turns"]) == (1, 3)
    assert "system" not in continued["sent"]["fields"]


def test_a_thread_goes_on_and_on_from_its_latest_reply(sandbox: Running) -> None:
    answer = create(sandbox)
    prompts = [answer.json()["usage"]["input_tokens"]]
    for _ in range(3):
        answer = go_on(sandbox, answer)
        prompts.append(answer.json()["usage"]["input_tokens"])

    assert prompts == sorted(set(prompts))


def test_a_thread_keeps_its_tools_and_a_use_is_answered_on_it(sandbox: Running) -> None:
    first = create(sandbox, tools=TOOLS)
    (use,) = first.json()["content"]
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "found"}

    stray = go_on(sandbox, first)
    second = go_on(sandbox, first, messages=[{"role": "user", "content": [result]}])

    assert "without `tool_result` blocks" in stray.json()["error"]["message"]
    assert second.json()["stop_reason"] == "end_turn"


def test_thinking_on_a_thread_belongs_to_it(sandbox: Running) -> None:
    first = create(sandbox, messages=[{"role": "user", "content": "[[sandbox thinking_tokens=40]]"}])
    second = go_on(sandbox, first)

    assert [block["type"] for block in first.json()["content"]] == ["thinking", "text"]
    assert second.status == 200


def test_a_thread_that_changes_its_model_is_refused(sandbox: Running) -> None:
    refused = go_on(sandbox, create(sandbox), model="claude-haiku-5-5")

    assert (refused.status, code_of(refused)) == (400, "thread_fingerprint_mismatch")
    assert refused.json()["error"]["message"].endswith("model")


def test_the_same_model_by_another_name_is_the_same_model(sandbox: Running) -> None:
    first = create(sandbox, model="claude-haiku-4-5")

    assert go_on(sandbox, first, model="claude-haiku-4-5-20251001").status == 200


@pytest.mark.parametrize(("field", "value"), [("system", "Be brief."), ("tools", TOOLS)])
def test_a_continuation_may_not_repeat_what_the_thread_was_created_with(
    sandbox: Running, field: str, value: Any
) -> None:
    refused = go_on(sandbox, create(sandbox), **{field: value})

    assert (refused.status, refused.json()["error"]["type"]) == (400, "invalid_request_error")
    assert refused.json()["error"]["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("thinking", {"type": "adaptive"}),
        ("cache_control", {"type": "ephemeral"}),
        ("fallbacks", "default"),
        ("context_management", {"edits": []}),
    ],
)
def test_what_does_not_go_together_with_a_thread_is_named(sandbox: Running, field: str, value: Any) -> None:
    created, continued = create(sandbox, **{field: value}), go_on(sandbox, create(sandbox), **{field: value})

    for refused in (created, continued):
        details = refused.json()["error"]["details"]
        assert refused.status == 400
        assert details == {"error_code": "thread_unsupported_request", "unsupported": [field]}


def test_a_reply_that_nobody_gave_cannot_be_continued(sandbox: Running) -> None:
    refused = go_on(sandbox, "msg_nobody")

    assert (refused.status, refused.json()["error"]["type"]) == (404, "not_found_error")
    assert code_of(refused) == "thread_not_found"


def test_a_reply_outside_of_a_thread_cannot_be_continued(sandbox: Running) -> None:
    plain = sandbox.messages({"model": OPUS, "max_tokens": 500, "messages": [ASKED]})

    assert code_of(go_on(sandbox, plain)) == "thread_not_found"


def test_a_thread_is_forgotten_after_five_minutes(sandbox: Running, clock: Clock) -> None:
    first = create(sandbox)
    clock.at += 299
    second = go_on(sandbox, first)
    clock.at += 299
    third = go_on(sandbox, second)
    clock.at += 300
    late = go_on(sandbox, third)

    assert (second.status, third.status, late.status) == (200, 200, 404)
    assert code_of(late) == "thread_not_found"


def test_a_reply_is_continued_once(sandbox: Running) -> None:
    first = create(sandbox)
    go_on(sandbox, first)

    again = go_on(sandbox, first)

    assert (again.status, code_of(again)) == (400, "thread_already_continued")


def test_a_reply_is_not_continued_by_two_at_once(sandbox: Running) -> None:
    first = create(sandbox)
    slow = {"x-sandbox-fault": "slow-first:1"}
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(go_on, sandbox, first, headers=slow) for _ in range(2)]
        answered, refused = sorted((each.result() for each in asked), key=lambda answer: answer.status)

    assert answered.status == 200
    assert code_of(refused) == "thread_continue_in_flight"


def test_a_continuation_that_failed_may_be_tried_again(sandbox: Running) -> None:
    first = create(sandbox)
    overloaded = go_on(sandbox, first, headers={"x-sandbox-fault": "status:529"})
    refused = go_on(sandbox, first, headers={"x-sandbox-fault": "error-after:2"})

    assert (overloaded.status, refused.status) == (529, 529)
    assert go_on(sandbox, first).status == 200


def test_a_reply_that_broke_is_not_held(sandbox: Running) -> None:
    asked = {"role": "user", "content": "[[sandbox fault=error-after:4]]"}
    broken = create(sandbox, stream=True, messages=[asked])
    began = json.loads(broken.body.split(b"data: ")[1].split(b"\n")[0])

    assert b"event: error" in broken.body
    assert code_of(go_on(sandbox, began["message"]["id"])) == "thread_not_found"


def test_a_refused_turn_is_not_held(sandbox: Running) -> None:
    refused = create(sandbox, messages=[{"role": "user", "content": "[[sandbox fault=refusal]]"}])

    assert refused.json()["stop_reason"] == "refusal"
    assert code_of(go_on(sandbox, refused)) == "thread_not_found"


def test_a_turn_of_a_fallback_model_is_not_held(sandbox: Running) -> None:
    handed_over = create(
        sandbox, messages=[{"role": "user", "content": "[[sandbox iterations=fallback_message]]"}]
    )

    assert code_of(go_on(sandbox, handed_over)) == "thread_not_found"


def test_threads_need_their_flag(sandbox: Running) -> None:
    refused = sandbox.messages(
        {"model": OPUS, "max_tokens": 500, "messages": [ASKED], "thread": {"type": "create"}}
    )

    assert refused.json()["error"]["message"] == "thread: Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("thread", "message"),
    [
        ({"type": "fork"}, "thread: Input tag does not match any of 'create', 'continue'"),
        ("create", "thread: Input tag does not match any of 'create', 'continue'"),
        ({"type": "continue"}, "thread.continue.previous_message_id: Field required"),
    ],
)
def test_a_thread_of_another_form_is_refused(sandbox: Running, thread: Any, message: str) -> None:
    assert create(sandbox, thread=thread).json()["error"]["message"] == message


def test_the_prompt_of_a_thread_is_not_counted(sandbox: Running) -> None:
    body = {"model": OPUS, "messages": [ASKED], "thread": {"type": "create"}}
    headers = {"x-api-key": "any", "anthropic-version": "2023-06-01"} | BETA
    refused = sandbox.send("POST", "/v1/messages/count_tokens", json.dumps(body).encode(), headers)

    assert refused.status == 400


def test_cache_marks_of_what_is_held_are_spent_and_what_they_wrote_is_read(sandbox: Running) -> None:
    def long(word: str) -> list[dict[str, Any]]:
        mark = {"type": "ephemeral"}
        return [{"role": "user", "content": [{"type": "text", "text": word * 2_000, "cache_control": mark}]}]

    answer = create(sandbox, messages=long("a "))
    reads = [answer.json()["usage"]["cache_read_input_tokens"]]
    for word in ("b ", "c ", "d ", "e ", "f "):
        answer = go_on(sandbox, answer, messages=long(word))
        assert answer.status == 200, answer.body
        reads.append(answer.json()["usage"]["cache_read_input_tokens"])

    assert reads == sorted(set(reads))
    assert reads[0] == 0


def test_the_sdks_tool_runner_runs_on_a_thread(sandbox: Running) -> None:
    @beta_tool
    def look_up(key: str) -> str:
        """Look up a record.

        Args:
            key: the record's key
        """
        return f"found {key}"

    with anthropic.Anthropic(base_url=sandbox.base_url, api_key="any", max_retries=0) as client:
        runner = client.beta.messages.tool_runner(
            model=OPUS, max_tokens=500, tools=[look_up], messages=[{"role": "user", "content": "Look it up."}]
        )
        final = runner.until_done()

    continued, created = sandbox.calls()
    assert final.stop_reason == "end_turn"
    assert created["sent"]["thread"] == {"type": "create"}
    assert continued["sent"]["thread"]["type"] == "continue"
    assert (continued["sent"]["turns"], "tools" in continued["sent"]["fields"]) == (1, False)


def test_the_asynchronous_tool_runner_streams_on_a_thread(sandbox: Running) -> None:
    @beta_async_tool
    async def look_up(key: str) -> str:
        """Look up a record.

        Args:
            key: the record's key
        """
        return f"found {key}"

    async def run() -> str | None:
        async with anthropic.AsyncAnthropic(
            base_url=sandbox.base_url, api_key="any", max_retries=0
        ) as client:
            runner = client.beta.messages.tool_runner(
                model=OPUS,
                max_tokens=500,
                tools=[look_up],
                messages=[{"role": "user", "content": "Look it up."}],
                stream=True,
            )
            reason = None
            async for stream in runner:
                reason = (await stream.get_final_message()).stop_reason
            return reason

    assert asyncio.run(run()) == "end_turn"
    assert [call["sent"]["thread"]["type"] for call in sandbox.calls()] == ["continue", "create"]


def test_the_tool_runner_begins_a_new_thread_where_the_provider_has_lost_it(
    sandbox: Running, clock: Clock
) -> None:
    @beta_tool
    def look_up(key: str) -> str:
        """Look up a record.

        Args:
            key: the record's key
        """
        clock.at += 400
        return f"found {key}"

    with anthropic.Anthropic(base_url=sandbox.base_url, api_key="any", max_retries=0) as client:
        runner = client.beta.messages.tool_runner(
            model=OPUS, max_tokens=500, tools=[look_up], messages=[{"role": "user", "content": "Look it up."}]
        )
        final = runner.until_done()

    assert final.stop_reason == "end_turn"
    assert [call["sent"]["thread"]["type"] for call in sandbox.calls()] == ["create", "create"]
