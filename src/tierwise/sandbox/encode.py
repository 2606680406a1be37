"""A reply as bytes: one JSON message, or the events of a stream.

A stream's events are frames that know how many output tokens have been sent with them, so that a stream that
breaks anywhere can be billed for what was sent.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from tierwise.sandbox.bill import Usage
from tierwise.sandbox.charges import Told
from tierwise.sandbox.replies import Piece, Reply

_ENCODE: Final = msgspec.json.Encoder().encode
MAX_DELTAS: Final = 14
"""A block comes in at most so many deltas."""
_TOKENS_PER_DELTA: Final = 8


class Frame(NamedTuple):
    """One event of a stream."""

    data: bytes
    tokens: int
    """Output tokens sent so far, this event included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What surrounds a reply's content."""

    message_id: str
    told: Told
    no_usage: bool = False
    unknown_fields: bool = False


def message(reply: Reply, envelope: Envelope) -> bytes:
    """The whole reply as one JSON message."""
    content = contents(reply)
    if envelope.told.fallback is not None:
        content.insert(0, dict(envelope.told.fallback))
    fields = _head(envelope, content, reply.stop_reason)
    fields["stop_sequence"] = reply.stop_sequence
    fields["stop_details"] = reply.stop_details
    if not envelope.no_usage:
        fields["usage"] = _usage(envelope, envelope.told.usage.output_tokens, whole=True)
    return _ENCODE(fields)


def contents(reply: Reply) -> list[dict[str, Any]]:
    """The content blocks of a reply."""
    return [_content(piece) for piece in reply.pieces]


def frames(reply: Reply, envelope: Envelope) -> list[Frame]:
    """The reply as the events of a stream, in order."""
    return list(_frames(reply, envelope))


def error_event(body: bytes) -> bytes:
    """An error that arrives in a stream that began well."""
    return b"event: error\ndata: " + body + b"\n\n"


def _frames(reply: Reply, envelope: Envelope) -> Iterator[Frame]:
    begun = min(1, reply.output_tokens)
    head = _head(envelope, [], None)
    if not envelope.no_usage:
        head["usage"] = _usage(envelope, begun, whole=False)
    yield Frame(_event("message_start", {"type": "message_start", "message": head}), begun)
    sent = 0
    index = 0
    if envelope.told.fallback is not None:
        yield Frame(_start(index, envelope.told.fallback), begun)
        yield Frame(_stop(index), begun)
        index += 1
    pinged = False
    for piece in reply.pieces:
        yield Frame(_start(index, _empty(piece)), max(begun, sent))
        if not pinged:
            yield Frame(_PING, max(begun, sent))
            pinged = True
        for data, tokens in _deltas(piece, index):
            yield Frame(data, max(begun, sent + tokens))
        sent += piece.tokens
        yield Frame(_stop(index), max(begun, sent))
        index += 1
    if envelope.unknown_fields:
        yield Frame(_event("sandbox_later", {"type": "sandbox_later", "note": "of a later API"}), sent)
    yield Frame(_message_delta(reply, envelope), reply.output_tokens)
    yield Frame(_MESSAGE_STOP, reply.output_tokens)


def _head(envelope: Envelope, content: list[dict[str, Any]], stop_reason: str | None) -> dict[str, Any]:
    head: dict[str, Any] = {
        "id": envelope.message_id,
        "type": "message",
        "role": "assistant",
        "model": envelope.told.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }
    if envelope.unknown_fields:
        head["sandbox_later"] = {"kept": True}
    return head


def _usage(envelope: Envelope, output_tokens: int, *, whole: bool) -> dict[str, Any]:
    usage = envelope.told.usage
    fields: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {"thinking_tokens": min(usage.thinking_tokens, output_tokens)},
        "server_tool_use": _searches(usage),
        "service_tier": envelope.told.service_tier,
        "speed": envelope.told.speed,
        "inference_geo": envelope.told.geo,
    }
    if whole and envelope.told.iterations is not None:
        fields["iterations"] = envelope.told.iterations
    if envelope.unknown_fields:
        fields["sandbox_later_tokens"] = 7
    return fields


def _searches(usage: Usage) -> dict[str, int] | None:
    if not usage.web_searches:
        return None
    return {"web_search_requests": usage.web_searches, "web_fetch_requests": 0}


def _message_delta(reply: Reply, envelope: Envelope) -> bytes:
    fields: dict[str, Any] = {
        "type": "message_delta",
        "delta": {
            "stop_reason": reply.stop_reason,
            "stop_sequence": reply.stop_sequence,
            "stop_details": reply.stop_details,
        },
    }
    if not envelope.no_usage:
        fields["usage"] = _usage_so_far(envelope)
    return _event("message_delta", fields)


def _usage_so_far(envelope: Envelope) -> dict[str, Any]:
    usage = envelope.told.usage
    fields: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.thinking_tokens},
    }
    if usage.web_searches:
        fields["server_tool_use"] = _searches(usage)
    if envelope.told.iterations is not None:
        fields["iterations"] = envelope.told.iterations
    if envelope.unknown_fields:
        fields["sandbox_later_tokens"] = 7
    return fields


def _content(piece: Piece) -> dict[str, Any]:
    match piece.kind:
        case "text":
            return {"type": "text", "text": piece.text}
        case "thinking":
            return {"type": "thinking", "thinking": piece.text, "signature": piece.signature}
        case "tool_use":
            return {
                "type": "tool_use",
                "id": piece.id,
                "name": piece.name,
                "input": msgspec.Raw(piece.text.encode()),
            }


def _empty(piece: Piece) -> dict[str, Any]:
    match piece.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_use":
            return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}


def _deltas(piece: Piece, index: int) -> Iterator[tuple[bytes, int]]:
    """A block's deltas, each with the tokens of the block sent by then."""
    kind, key = _DELTA_KINDS[piece.kind]
    opening = (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":' % index
    )
    count = min(MAX_DELTAS, max(1, piece.tokens // _TOKENS_PER_DELTA)) if piece.text else 0
    size = -(-len(piece.text) // count) if count else 0
    for step in range(count):
        text = piece.text[step * size : (step + 1) * size]
        tokens = piece.tokens if step == count - 1 else piece.tokens * (step + 1) // count
        yield opening + b'"%s","%s":%s}}\n\n' % (kind, key, _ENCODE(text)), tokens
    if piece.kind == "thinking":
        yield opening + b'"signature_delta","signature":%s}}\n\n' % _ENCODE(piece.signature), piece.tokens


_DELTA_KINDS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}


def _start(index: int, block: Mapping[str, Any]) -> bytes:
    return _event(
        "content_block_start", {"type": "content_block_start", "index": index, "content_block": block}
    )


def _stop(index: int) -> bytes:
    return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index


def _event(name: str, fields: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _ENCODE(fields))


_PING: Final = _event("ping", {"type": "ping"})
_MESSAGE_STOP: Final = _event("message_stop", {"type": "message_stop"})
