"""What the sandbox answers OpenAI's clients: Chat Completions and Responses, whole or as the events of a stream.

A text is words, a token each, and a prompt has a token for every four bytes. Shapes are those of
https://platform.openai.com/docs/api-reference; what a client does not need is left out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from tierwise.sandbox import directive
from tierwise.sandbox.errors import invalid
from tierwise.sandbox.openai_bill import Tokens
from tierwise.sandbox.openai_models import find
from tierwise.sandbox.shapes import Object, is_whole, part_of, parts_of

MADE_AT: Final = 1_760_000_000
"""When every reply was made, in seconds since the epoch."""

DEFAULT_WORDS: Final = 24
MOST_WORDS: Final = 100_000


class Frame(NamedTuple):
    """One event of a stream."""

    data: bytes
    tokens: int
    """Output tokens that have been sent once it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply, before it is written down."""

    id: str
    kind: str
    """`chat` or `responses`."""
    body: Object
    model: str
    """The snapshot that serves."""
    pieces: tuple[str, ...]
    """The text, token by token; of several choices, of each."""
    cut: bool
    """Whether the cap cut it."""
    tokens: Tokens

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


def compose(body: Object, *, kind: str, request_id: str, text: str, cached: int) -> Answer:
    """Draw the reply to a request. Raises ApiError where it cannot be answered."""
    served = find(str(body.get("model")))
    asked = directive.find(text, body)
    wanted = _pieces(body, kind, directive.number(asked, "output_tokens"))
    cap = _cap(body, kind)
    room = MOST_WORDS if cap is None else cap
    meant = directive.number(asked, "thinking_tokens") or 0
    thinking = min(meant, room)
    pieces = wanted[: room - thinking]
    choices = body.get("n") or 1
    prompt = prompt_tokens(body, kind)
    return Answer(
        id=request_id,
        kind=kind,
        body=body,
        model=served.snapshot,
        pieces=tuple(pieces),
        cut=thinking < meant or len(pieces) < len(wanted),
        tokens=Tokens(
            prompt=prompt,
            cached=min(cached, prompt),
            output=choices * (len(pieces) + thinking),
            reasoning=choices * thinking,
        ),
    )


def last_text(body: Object, kind: str) -> str:
    """The text of the last user turn. Raises ApiError (400) for a body without a prompt."""
    prompt: Any = body.get("messages" if kind == "chat" else "input")
    if kind == "responses" and isinstance(prompt, str):
        return prompt
    turns = [turn for turn in parts_of(prompt) if turn.get("role") == "user"]
    if not turns:
        raise invalid("Missing required parameter: a prompt with a user's turn.")
    content: Any = turns[-1].get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in parts_of(content))


def prompt_tokens(body: Object, kind: str) -> int:
    """Tokens of a prompt: of all that the model reads."""
    read = ("messages", "tools") if kind == "chat" else ("input", "instructions", "tools")
    return -(-len(msgspec.json.encode([body.get(name) for name in read])) // 4)


def _cap(body: Object, kind: str) -> int | None:
    names = ("max_completion_tokens", "max_tokens") if kind == "chat" else ("max_output_tokens",)
    cap = next((body[name] for name in names if body.get(name) is not None), None)
    if cap is not None and (not is_whole(cap) or cap < 1):
        raise invalid(f"Invalid value: {cap!r}. Expected a positive integer.")
    return cap


def _pieces(body: Object, kind: str, words: int | None) -> list[str]:
    wanted = part_of(body, "response_format") if kind == "chat" else part_of(part_of(body, "text"), "format")
    if wanted.get("type") == "json_schema":
        schema = part_of(wanted, "json_schema").get("schema") if kind == "chat" else wanted.get("schema")
        return [msgspec.json.encode(_example(schema or {})).decode()]
    return [f"word{place} " for place in range(DEFAULT_WORDS if words is None else words)]


def _example(schema: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            return {name: _example(each) for name, each in schema.get("properties", {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return "Acme"


def whole(answer: Answer, *, usage: bool = True, later: bool = False) -> bytes:
    """The JSON body of a reply; `later` adds a field of a later API."""
    added: dict[str, Any] = dict(LATER) if later else {}
    if answer.kind == "responses":
        return msgspec.json.encode(_response(answer, usage=usage) | added)
    choices = [
        {"index": index, "message": _said(answer), "finish_reason": _finish(answer), "logprobs": None}
        for index in range(answer.body.get("n") or 1)
    ]
    fields = {**_envelope(answer, "chat.completion"), "choices": choices, **added}
    return msgspec.json.encode(fields | ({"usage": _chat_usage(answer)} if usage else {}))


LATER: Final[Mapping[str, Any]] = {"sandbox_later": {"kept": True}}
"""A field that no API has yet."""


def frames(answer: Answer, *, usage: bool = True, later: bool = False) -> Iterator[Frame]:
    """The events of a stream; `later` puts a comment and a chunk, or an event, of a later API before them."""
    if answer.kind == "chat":
        if later:
            nothing: list[Any] = []
            fields = {**_envelope(answer, "chat.completion.chunk"), "choices": nothing, **LATER}
            yield Frame(b": later\n\ndata: " + msgspec.json.encode(fields) + b"\n\n", 0)
        yield from _chat_frames(answer, usage=usage)
    else:
        if later:
            yield _event({"type": "response.sandbox_later", **LATER}, 0)
        yield from _response_frames(answer, usage=usage, first=int(later))


def error_frame(answer: Answer, message: str) -> bytes:
    """An error in the middle of a stream."""
    if answer.kind == "chat":
        return b"data: " + error_body(500, message) + b"\n\n"
    return _event({"type": "error", "code": "server_error", "message": message, "param": None}, 999).data


def error_body(status: int, message: str, code: str | None = None) -> bytes:
    """An error as OpenAI writes it."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


_ERROR_TYPES: Final[Mapping[int, str]] = {401: "invalid_request_error", 429: "requests"}


def _envelope(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{answer.id}",
        "object": kind,
        "created": MADE_AT,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _said(answer: Answer) -> dict[str, Any]:
    return {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}


def _finish(answer: Answer) -> str:
    return "length" if answer.cut else "stop"


def _chat_usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }


def _chat_frames(answer: Answer, *, usage: bool) -> Iterator[Frame]:
    told = usage and part_of(answer.body, "stream_options").get("include_usage") is True
    sent = answer.tokens.reasoning

    def chunk(choices: list[dict[str, Any]], counts: Any = None) -> Frame:
        fields = {**_envelope(answer, "chat.completion.chunk"), "choices": choices}
        if told:
            fields["usage"] = counts
        return Frame(b"data: " + msgspec.json.encode(fields) + b"\n\n", sent)

    for index in range(answer.body.get("n") or 1):
        yield chunk([_choice(index, {"role": "assistant", "content": "", "refusal": None})])
        for piece in answer.pieces:
            sent += 1
            yield chunk([_choice(index, {"content": piece})])
        yield chunk([_choice(index, {}, _finish(answer))])
    if told:
        yield chunk([], _chat_usage(answer))
    yield Frame(b"data: [DONE]\n\n", sent)


def _choice(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def _response(answer: Answer, *, usage: bool = True, begun: bool = False) -> dict[str, Any]:
    tokens = answer.tokens
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
        "instructions": answer.body.get("instructions"),
        "metadata": {},
        "model": answer.model,
        "output": [] if begun else [_item(answer)],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "service_tier": "default",
        "usage": counts if usage and not begun else None,
    }


def _item(answer: Answer, *, begun: bool = False) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "status": "in_progress" if begun else "incomplete" if answer.cut else "completed",
        "role": "assistant",
        "content": [] if begun else [_part(answer.text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_frames(answer: Answer, *, usage: bool, first: int = 0) -> Iterator[Frame]:
    place = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}
    ended = "response.incomplete" if answer.cut else "response.completed"
    before = answer.tokens.reasoning
    events: list[tuple[dict[str, Any], int]] = [
        ({"type": "response.created", "response": _response(answer, begun=True)}, 0),
        ({"type": "response.in_progress", "response": _response(answer, begun=True)}, 0),
        (
            {"type": "response.output_item.added", "output_index": 0, "item": _item(answer, begun=True)},
            before,
        ),
        ({"type": "response.content_part.added", **place, "part": _part("")}, before),
    ]
    for number, piece in enumerate(answer.pieces, start=1):
        delta: dict[str, Any] = {
            "type": "response.output_text.delta",
            **place,
            "delta": piece,
            "logprobs": [],
        }
        events.append((delta, before + number))
    all_sent = answer.tokens.output
    events += [
        ({"type": "response.output_text.done", **place, "text": answer.text, "logprobs": []}, all_sent),
        ({"type": "response.content_part.done", **place, "part": _part(answer.text)}, all_sent),
        ({"type": "response.output_item.done", "output_index": 0, "item": _item(answer)}, all_sent),
        ({"type": ended, "response": _response(answer, usage=usage)}, all_sent),
    ]
    for number, (event, tokens) in enumerate(events, start=first):
        yield Frame(_event(event, number).data, tokens)


def _event(event: dict[str, Any], number: int) -> Frame:
    data = msgspec.json.encode({**event, "sequence_number": number})
    return Frame(b"event: " + event["type"].encode() + b"\ndata: " + data + b"\n\n", 0)
