import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tierwise.sandbox.fleet import is_right, load
from tierwise.sandbox.server import Running

OPUS, HAIKU = "claude-opus-5-5", "claude-haiku-5-5"
TOOLS = [
    {"name": "web_search", "type": "web_search_20260318"},
    {
        "name": "look",
        "input_schema": {
            "type": "object",
            "properties": {
                "key": {"type": "string"},
                "count": {"type": "integer", "minimum": 3},
                "kind": {"enum": ["a", "b"]},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
        },
    },
    {"name": "other", "input_schema": {"type": "object"}},
]


def reply_to(sandbox: Running, content: Any, model: str = OPUS, **more: Any) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 4_000, "messages": [{"role": "user", "content": content}], **more}
    answer = sandbox.messages(body)
    assert answer.status == 200, answer.body
    return answer.json()


def text_of(reply: dict[str, Any]) -> str:
    return "".join(block["text"] for block in reply["content"] if block["type"] == "text")


def events_of(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in body.decode().strip().split("\n\n"):
        name, data = event.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def without_ids(reply: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in reply.items() if name != "id"}


def test_the_same_request_gets_the_same_reply_and_another_one_another(served: Running) -> None:
    assert without_ids(reply_to(served, "Hello")) == without_ids(reply_to(served, "Hello"))
    assert text_of(reply_to(served, "Hello")) != text_of(reply_to(served, "Goodbye"))


def test_order_and_concurrency_change_neither_replies_nor_the_bill(sandbox: Running) -> None:
    contents = [f"[[sandbox type=extraction task=run-1/t{place} seq=0]]" for place in range(60)]

    def ask(content: str) -> dict[str, Any]:
        return without_ids(reply_to(sandbox, content))

    in_order = [ask(content) for content in contents]
    bill = sandbox.billing()
    sandbox.reset()

    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(ask, reversed(contents)))

    assert at_once == in_order[::-1]
    assert sandbox.billing() == bill


def test_a_stream_tells_the_same_reply_in_the_documented_order(served: Running) -> None:
    whole = reply_to(
        served, "[[sandbox output_tokens=200 thinking_tokens=40]]", tools=TOOLS, tool_choice={"type": "none"}
    )
    body = {
        "model": OPUS,
        "max_tokens": 4_000,
        "stream": True,
        "tools": TOOLS,
        "tool_choice": {"type": "none"},
        "messages": [{"role": "user", "content": "[[sandbox output_tokens=200 thinking_tokens=40]]"}],
    }
    events = list(events_of(served.messages(body).body))

    names = [name for name, _ in events]
    assert names[:4] == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert [data["type"] for _, data in events] == names
    deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == text_of(whole)
    start, end = events[0][1]["message"], events[-2][1]
    assert (start["usage"]["output_tokens"], start["content"], start["stop_reason"]) == (1, [], None)
    assert end["usage"]["output_tokens"] == whole["usage"]["output_tokens"] == 240
    assert end["usage"]["output_tokens_details"] == {"thinking_tokens": 40}
    assert end["usage"]["input_tokens"] == start["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    assert end["delta"]["stop_reason"] == whole["stop_reason"] == "end_turn"


def test_a_stream_without_a_gap_has_few_events_however_long_it_is(served: Running) -> None:
    body = {"model": OPUS, "max_tokens": 30_000, "stream": True}
    content = "[[sandbox output_tokens=20000]]"

    answer = served.messages({**body, "messages": [{"role": "user", "content": content}]})

    assert len(list(events_of(answer.body))) == 20


def test_a_runaway_is_cut_at_its_cap(served: Running) -> None:
    reply = reply_to(served, "[[sandbox output_tokens=24000]]", max_tokens=512)

    assert (reply["stop_reason"], reply["usage"]["output_tokens"]) == ("max_tokens", 512)
    assert len(text_of(reply)) == 512 * 18 // 5


def test_a_larger_cap_continues_the_same_text(served: Running) -> None:
    short = reply_to(served, "[[sandbox output_tokens=900]]", max_tokens=300)
    long = reply_to(served, "[[sandbox output_tokens=900]]", max_tokens=1_000)

    assert long["stop_reason"] == "end_turn"
    assert text_of(long).startswith(text_of(short))


def test_thinking_counts_toward_the_cap_and_may_leave_no_text(served: Running) -> None:
    reply = reply_to(served, "[[sandbox output_tokens=100 thinking_tokens=300]]", max_tokens=50)

    assert [block["type"] for block in reply["content"]] == ["thinking"]
    assert reply["stop_reason"] == "max_tokens"
    assert reply["usage"]["output_tokens"] == 50
    assert reply["usage"]["output_tokens_details"] == {"thinking_tokens": 50}


def test_a_budget_bounds_the_thinking(served: Running) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1_024}

    reply = reply_to(served, "[[sandbox thinking_tokens=3000]]", "claude-haiku-4-5", thinking=thinking)

    assert reply["usage"]["output_tokens_details"] == {"thinking_tokens": 1_024}


def test_effort_scales_the_thinking_of_a_task(served: Running) -> None:
    content = "[[sandbox type=synthesis task=run-1/t1]]"

    def thought(effort: str) -> int:
        reply = reply_to(served, content, output_config={"effort": effort}, max_tokens=100_000)
        return reply["usage"]["output_tokens_details"]["thinking_tokens"]

    assert thought("low") == round(thought("high") * 0.4)
    assert thought("max") == thought("high") * 4


def test_thinking_is_shown_or_omitted_and_signed_either_way(served: Running) -> None:
    shown, omitted = (
        reply_to(served, "[[sandbox thinking_tokens=40]]", thinking={"type": "adaptive", "display": display})[
            "content"
        ][0]
        for display in ("summarized", "omitted")
    )

    assert shown["thinking"]
    assert omitted["thinking"] == ""
    assert shown["signature"]
    assert omitted["signature"]


def test_a_stop_sequence_ends_the_text_before_it(served: Running) -> None:
    reply = reply_to(served, "[[sandbox output_tokens=500]]", stop_sequences=["differ", "zebra"])

    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "differ")
    assert text_of(reply).endswith("where they ")
    assert reply["usage"]["output_tokens"] < 500


def test_tools_are_used_once_and_then_answered_in_text(served: Running) -> None:
    first = reply_to(served, "Look it up.", tools=TOOLS)
    (use,) = first["content"]
    messages = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "found"}]},
    ]
    second = reply_to(served, "", tools=TOOLS, messages=messages)

    assert (first["stop_reason"], use["name"]) == ("tool_use", "look")
    assert use["input"] == {"key": "sandbox", "count": 3, "kind": "a", "tags": ["sandbox"]}
    assert (second["stop_reason"], second["content"][0]["type"]) == ("end_turn", "text")


def test_a_named_tool_is_the_one_that_is_used(served: Running) -> None:
    choice = {"type": "tool", "name": "other"}

    reply = reply_to(served, "Hello", HAIKU, tools=TOOLS, tool_choice=choice)

    assert reply["content"][0]["name"] == "other"


def test_a_directive_says_whether_tools_are_used(served: Running) -> None:
    assert reply_to(served, "[[sandbox reply=text]]", tools=TOOLS)["stop_reason"] == "end_turn"
    assert reply_to(served, "[[sandbox reply=tool_use]]", tools=TOOLS)["stop_reason"] == "tool_use"


def test_a_format_gives_json_that_fits_it(served: Running) -> None:
    schema = {
        "type": "object",
        "properties": {
            "total": {"type": "number"},
            "paid": {"type": "boolean"},
            "answer": {"type": "string"},
        },
    }
    form = {"format": {"type": "json_schema", "schema": schema}}

    plain = reply_to(served, "Hello", output_config=form)
    tasked = reply_to(served, "[[sandbox type=extraction task=run-1/t9]]", output_config=form)

    assert json.loads(text_of(plain)) == {"total": 1, "paid": True, "answer": "sandbox"}
    assert list(json.loads(text_of(tasked))) == ["answer", "total", "paid"]
    assert is_right(text_of(tasked), 1, "extraction", "run-1/t9")


def test_a_format_that_is_cut_is_no_json(served: Running) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "number"}}}

    reply = reply_to(
        served,
        "[[sandbox output_tokens=900]]",
        max_tokens=400,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )

    assert reply["stop_reason"] == "max_tokens"
    assert not text_of(reply).endswith("}")


def test_a_task_is_answered_by_its_type_and_its_true_need(served: Running) -> None:
    tasks = [f"run-1/t{place}" for place in range(250)]

    def right(model: str) -> float:
        texts = [
            text_of(
                reply_to(
                    served, f"[[sandbox type=architecture-coding task={task}]]", model, max_tokens=100_000
                )
            )
            for task in tasks
        ]
        return sum(map(is_right, texts, [1] * 250, ["architecture-coding"] * 250, tasks)) / 250

    task_type = load().types["architecture-coding"]
    assert abs(right(OPUS) - task_type.success_frontier) < 0.08  # four standard errors
    assert abs(right(HAIKU) - task_type.success_fast) < 0.12


def test_the_length_of_a_task_is_drawn_around_its_median(served: Running) -> None:
    lengths = sorted(
        reply_to(
            served, f"[[sandbox type=translation task=run-2/t{place}]]", HAIKU, thinking={"type": "disabled"}
        )["usage"]["output_tokens"]
        for place in range(150)
    )

    assert 430 < lengths[75] < 630  # its median is 520


def test_the_context_window_ends_a_reply_that_would_leave_it_and_that_is_no_cap(sandbox: Running) -> None:
    content = "[[sandbox prompt_tokens=259900 output_tokens=500]]"  # 199,923 of the old tokenizer

    reply = reply_to(sandbox, content, "claude-haiku-4-5")

    assert reply["stop_reason"] == "model_context_window_exceeded"
    assert reply["usage"]["input_tokens"] + reply["usage"]["output_tokens"] == 200_000
    assert sandbox.billing()["truncated"]["calls"] == 0


def test_a_directive_may_stand_in_the_metadata(served: Running) -> None:
    for value in ({"prompt_tokens": 500, "output_tokens": 77}, "prompt_tokens=500 output_tokens=77"):
        user_id = json.dumps({"device_id": "d", "sandbox": value})
        usage = reply_to(served, "Hello", metadata={"user_id": user_id})["usage"]

        assert (usage["input_tokens"], usage["output_tokens"]) == (507, 77)


def test_a_directive_in_the_prompt_goes_before_one_in_the_metadata(served: Running) -> None:
    user_id = json.dumps({"sandbox": "output_tokens=77"})

    usage = reply_to(served, "[[sandbox output_tokens=88]]", metadata={"user_id": user_id})["usage"]

    assert usage["output_tokens"] == 88


def test_a_user_id_that_is_no_json_is_no_directive(served: Running) -> None:
    reply_to(served, "Hello", metadata={"user_id": 'the "sandbox" user'})


def test_a_wrong_directive_is_refused(served: Running) -> None:
    for words in (
        "type=knitting",
        "output_tokens=many",
        "colour=red",
        "loud",
        "outcome=1",
        "reply=song",
        "iterations=x",
    ):
        body = {
            "model": OPUS,
            "max_tokens": 9,
            "messages": [{"role": "user", "content": f"[[sandbox {words}]]"}],
        }
        answer = served.messages({**body, "tools": TOOLS})

        assert answer.status == 400
        assert answer.json()["error"]["message"].startswith("sandbox: ")
