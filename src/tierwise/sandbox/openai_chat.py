"""Replies as Chat Completions writes them: whole, or as the chunks of a stream.

Shapes are those of https://platform.openai.com/docs/api-reference/chat; what a client does not need is left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tierwise.sandbox.openai_replies import MADE_AT, Answer, Frame
from tierwise.sandbox.openai_tools import Called
from tierwise.sandbox.shapes import part_of

LATER: Final[Mapping[str, Any]] = {"sandbox_later": {"kept": True}}
"""A field that no API has yet."""


def chat_completion(answer: Answer, *, usage: bool) -> dict[str, Any]:
    """A whole reply; `usage` tells it."""
    choices = [
        {
            "index": index,
            "message": _message(answer, index),
            "finish_reason": _finish(answer),
            "logprobs": None,
        }
        for index in range(_choices(answer))
    ]
    told = {"usage": _usage(answer)} if usage else {}
    return {**_envelope(answer, "chat.completion"), "choices": choices, **told}


def chat_frames(answer: Answer, *, usage: bool) -> Iterator[Frame]:
    """The chunks of a stream, of one choice after the other; `usage` tells it, where it is asked for."""
    told = usage and part_of(answer.body, "stream_options").get("include_usage") is True
    sent = answer.tokens.reasoning

    def chunk(choices: list[dict[str, Any]], counts: Any = None) -> Frame:
        fields = {**_envelope(answer, "chat.completion.chunk"), "choices": choices}
        if told:
            fields["usage"] = counts
        return Frame(b"data: " + msgspec.json.encode(fields) + b"\n\n", sent)

    for index in range(_choices(answer)):
        yield chunk(
            [_choice(index, {"role": "assistant", "content": None if answer.calls else "", "refusal": None})]
        )
        for delta, tokens in _deltas(answer, index):
            sent += tokens
            yield chunk([_choice(index, delta)])
        yield chunk([_choice(index, {}, _finish(answer))])
    if told:
        yield chunk([], _usage(answer))
    yield Frame(b"data: [DONE]\n\n", sent)


def later_chunk(answer: Answer) -> Frame:
    """A comment, and a chunk that no client knows yet."""
    nothing: list[Any] = []
    fields = {**_envelope(answer, "chat.completion.chunk"), "choices": nothing, **LATER}
    return Frame(b": later\n\ndata: " + msgspec.json.encode(fields) + b"\n\n", 0)


def _choices(answer: Answer) -> int:
    return answer.body.get("n") or 1


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": kind,
        "created": MADE_AT,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _message(answer: Answer, index: int) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
    if not answer.calls:
        return said
    calls = [_call(call, index, call.arguments) for call in answer.calls]
    return {**said, "content": None, "tool_calls": calls}


def _call(call: Called, index: int, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"{call.id}_{index}", "type": "function", "function": function}


def _finish(answer: Answer) -> str:
    return "length" if answer.cut else "tool_calls" if answer.calls else "stop"


def _deltas(answer: Answer, index: int) -> Iterator[tuple[dict[str, Any], int]]:
    """What one choice's chunks add, and how many tokens of it."""
    for piece in answer.pieces:
        yield {"content": piece}, 1
    for place, call in enumerate(answer.calls):
        yield {"tool_calls": [{"index": place, **_call(call, index, "")}]}, 0
        for piece in call.pieces:
            yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}, 1


def _choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }
