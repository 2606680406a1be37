"""A play: what the prompt says that the replies are."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tierwise.sandbox.server import Running, running

TOOLS: Final = [{"name": name, "input_schema": {"type": "object"}} for name in ("Read", "Agent")]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


def play(*lines: dict[str, Any]) -> str:
    return f"Please. [[play {json.dumps(lines)}]]"


def use(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "input": fields}


def ask(sandbox: Running, messages: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    body = {"model": "claude-haiku-5-5", "max_tokens": 900, "messages": messages, "tools": TOOLS}
    return sandbox.messages({**body, **fields}).json()


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answered(messages: list[dict[str, Any]], reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The conversation after a reply, each of its uses answered."""
    results = [
        {"type": "tool_result", "tool_use_id": part["id"], "content": "seen"}
        for part in reply["content"]
        if part["type"] == "tool_use"
    ]
    return [*messages, {"role": "assistant", "content": reply["content"]}, user(results or "And?")]


def test_a_play_says_each_reply_of_its_conversation(sandbox: Running) -> None:
    lines = ({"text": "I look.", "use": [use("Read", path="a"), use("Read", path="b")]}, {"text": "Done."})
    messages = [user(play(*lines))]

    first = ask(sandbox, messages)
    second = ask(sandbox, messages := answered(messages, first))
    third = ask(sandbox, answered(messages, second), tool_choice={"type": "none"})

    text, *uses = [part for part in first["content"] if part["type"] != "thinking"]
    assert text["text"] == "I look."
    assert [(part["name"], part["input"]) for part in uses] == [
        ("Read", {"path": "a"}),
        ("Read", {"path": "b"}),
    ]
    assert len({part["id"] for part in uses}) == 2
    assert first["stop_reason"] == "tool_use"
    assert [part.get("text") for part in second["content"]][-1] == "Done."
    assert second["stop_reason"] == "end_turn"
    assert third["content"][-1]["text"].startswith("Sandbox reply")


def test_a_play_may_hand_another_one_on(sandbox: Running) -> None:
    inner = play({"text": "From within."})

    reply = ask(sandbox, [user(play({"use": [use("Agent", prompt=inner)]}))])

    (handed,) = (part["input"]["prompt"] for part in reply["content"] if part["type"] == "tool_use")
    assert ask(sandbox, [user(handed)])["content"][-1]["text"] == "From within."


def test_a_cap_cuts_a_play_as_it_cuts_any_reply(sandbox: Running) -> None:
    reply = ask(sandbox, [user(play({"use": [use("Read", path="a")]}))], max_tokens=3)

    assert reply["stop_reason"] == "max_tokens"
    assert reply["usage"]["output_tokens"] == 3
    assert not [part for part in reply["content"] if part["type"] == "tool_use"]


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("[[play {]]", "cannot be read"),
        ('[[play [{"say": "x"}]]]', "cannot be read"),
        ('[[play [{"text": "x"}] ]]', "ends with ]]"),
        (play({"use": [use("Write")]}), "does not offer"),
    ],
)
def test_a_play_that_cannot_be_played_is_refused(sandbox: Running, prompt: str, said: str) -> None:
    assert said in ask(sandbox, [user(prompt)])["error"]["message"]


DISPLAY: Final = {"thinking": {"type": "adaptive", "display": "updates"}, "model": "claude-opus-5-5"}


def test_thinking_is_shown_as_updates_only_to_those_who_ask_for_the_beta(sandbox: Running) -> None:
    body = {"max_tokens": 900, "messages": [user("Hello.")], **DISPLAY}

    assert sandbox.messages(body).status == 400
    assert sandbox.messages(body, {"anthropic-beta": "thinking-display-updates-2026-08-18"}).status == 200
