"""Replies as Responses writes them: whole, or as the events of a stream.

Shapes are those of https://platform.openai.com/docs/api-reference/responses; what a client does not need is left out.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from tierwise.sandbox.openai_replies import MADE_AT, Answer, Frame
from tierwise.sandbox.openai_tools import Called
from tierwise.sandbox.shapes import part_of, parts_of

SEARCHING_PROMPT: Final = "pmpt_search"
"""A stored prompt that brings a tool of the provider's: web search."""


def response(answer: Answer, *, usage: bool = True, begun: bool = False) -> dict[str, Any]:
    """A response: whole, or as it has `begun`; `usage` tells it."""
    tokens, body = answer.tokens, answer.body
    counts = {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.prompt + tokens.output,
    }
    status = "in_progress" if begun else "incomplete" if answer.cut else "completed"
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": MADE_AT,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "model": answer.model,
        "output": [] if begun else _items(answer),
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "temperature": 1.0,
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": _tools(answer),
        "top_p": 1.0,
        "service_tier": "default",
        "usage": counts if usage and not begun else None,
    }


def response_frames(answer: Answer, *, usage: bool, first: int = 0) -> Iterator[Frame]:
    """The events of a stream, numbered from `first` on."""
    begun = response(answer, begun=True)
    ended = "response.incomplete" if answer.cut else "response.completed"
    sent = answer.tokens.reasoning
    events = chain(
        [
            ({"type": "response.created", "response": begun}, 0),
            ({"type": "response.in_progress", "response": begun}, 0),
        ],
        _item_events(answer),
        [({"type": ended, "response": response(answer, usage=usage)}, 0)],
    )
    for number, (event, tokens) in enumerate(events, start=first):
        sent += tokens
        yield Frame(event_bytes(event, number), 0 if number < first + 2 else sent)


def event_bytes(event: dict[str, Any], number: int) -> bytes:
    """One event, with its number in the stream."""
    data = msgspec.json.encode({**event, "sequence_number": number})
    return b"event: " + event["type"].encode() + b"\ndata: " + data + b"\n\n"


def _tools(answer: Answer) -> list[dict[str, Any]]:
    """The tools that a response says it had: the body's, and those that a stored prompt brings."""
    stored = part_of(answer.body, "prompt").get("id") == SEARCHING_PROMPT
    brought = [{"type": "web_search", "search_context_size": "medium"}] if stored else []
    return [*parts_of(answer.body.get("tools")), *brought]


def _items(answer: Answer) -> list[dict[str, Any]]:
    searches = [_search(answer, place) for place in range(answer.searches)]
    if answer.calls:
        cut = [False] * (len(answer.calls) - 1) + [answer.cut]
        return [*searches, *map(_function_call, answer.calls, cut)]
    return [*searches, _message(answer)]


def _search(answer: Answer, place: int) -> dict[str, Any]:
    action = {"type": "search", "query": "word", "queries": ["word"]}
    return {
        "id": f"ws_{answer.id}_{place}",
        "type": "web_search_call",
        "status": "completed",
        "action": action,
    }


def _function_call(call: Called, cut: bool, *, begun: bool = False) -> dict[str, Any]:  # noqa: FBT001 — mapped over
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": "in_progress" if begun else "incomplete" if cut else "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": "" if begun else call.arguments,
    }


def _message(answer: Answer, *, begun: bool = False) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "status": "in_progress" if begun else "incomplete" if answer.cut else "completed",
        "role": "assistant",
        "content": [] if begun else [_part(answer.text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


_Events = Iterator[tuple[dict[str, Any], int]]
"""Events, and how many tokens each adds."""


def _item_events(answer: Answer) -> _Events:
    calls = {f"fc_{call.id}": call for call in answer.calls}
    for place, item in enumerate(_items(answer)):
        call = calls.get(item["id"])
        if item["type"] == "web_search_call":
            inner, begun = _search_events(item, place), {**item, "status": "in_progress"}
        elif call is not None:
            inner, begun = _call_events(call, item, place), _function_call(call, cut=False, begun=True)
        else:
            inner, begun = _text_events(answer, item, place), _message(answer, begun=True)
        yield {"type": "response.output_item.added", "output_index": place, "item": begun}, 0
        yield from inner
        yield {"type": "response.output_item.done", "output_index": place, "item": item}, 0


def _search_events(item: dict[str, Any], place: int) -> _Events:
    at = {"item_id": item["id"], "output_index": place}
    for step in ("in_progress", "searching", "completed"):
        yield {"type": f"response.web_search_call.{step}", **at}, 0


def _call_events(call: Called, item: dict[str, Any], place: int) -> _Events:
    at = {"item_id": item["id"], "output_index": place}
    for piece in call.pieces:
        yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}, 1
    yield {"type": "response.function_call_arguments.done", **at, "arguments": call.arguments}, 0


def _text_events(answer: Answer, item: dict[str, Any], place: int) -> _Events:
    at = {"item_id": item["id"], "output_index": place, "content_index": 0}
    yield {"type": "response.content_part.added", **at, "part": _part("")}, 0
    for piece in answer.pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}, 1
    yield {"type": "response.output_text.done", **at, "text": answer.text, "logprobs": []}, 0
    yield {"type": "response.content_part.done", **at, "part": _part(answer.text)}, 0
