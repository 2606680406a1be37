"""Messages requests: the bytes of a body to a `Call`, and a `Call`'s changes back into the body.

Only what routing needs is decoded. Every other field stays the bytes that the caller sent, so that fields that
are not known yet survive a rewrite.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any, Final, cast

import msgspec
from msgspec import Raw

from tierwise.core.call import Call
from tierwise.core.changes import REMOVED, Change
from tierwise.errors import MalformedRequest
from tierwise.values import maker, value
from tierwise.wire.fields import (
    TRUE,
    UNREADABLE,
    decode_fields,
    decode_text,
    decoded,
    has_field,
    object_of,
    required,
    text_of,
    whole_of,
)

_LARGEST_CAP: Final = 2**31 - 1
"""More than any model takes: a `max_tokens` beyond it is refused here, for the ledger counts in 64 bits."""

SAMPLING: Final = ("temperature", "top_p", "top_k")


@value
class Body:
    """A request's body: as it came, and its top-level fields, undecoded."""

    raw: bytes
    fields: Mapping[str, Raw]


class _Message(msgspec.Struct):
    role: str
    content: Raw = Raw(b"null")


_decode_messages = msgspec.json.Decoder(list[_Message]).decode
_decode_cap = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=-_LARGEST_CAP, le=_LARGEST_CAP)]).decode
_decode_number = msgspec.json.Decoder(int | float).decode
_encode = msgspec.json.Encoder().encode


def read_request(raw: bytes, headers: Mapping[str, str], *, counting: bool = False) -> tuple[Call, Body]:
    """Read a Messages request.

    Args:
        raw: the body.
        headers: request headers by lower-case name, credentials left out.
        counting: whether it is a `count_tokens` request, which has no `max_tokens`.

    Raises:
        MalformedRequest: it is not a JSON object, or lacks `model`, `max_tokens` or `messages`, or one of them has
            another type. Other fields may hold anything: what is not understood passes untouched.
    """
    try:
        fields = decode_fields(raw)
    except UNREADABLE as error:
        raise MalformedRequest(why=f"The body is not a JSON object: {error}") from error
    messages: list[_Message] = required(
        fields, "messages", _decode_messages, "a list of messages, each with a role"
    )
    thinking = object_of(fields, "thinking")
    output = object_of(fields, "output_config")
    metadata = object_of(fields, "metadata")
    on_thread = has_field(fields, "thread")
    begins_thread = on_thread and text_of(object_of(fields, "thread").get("type")) == "create"
    call = _make_call(
        requested_model=required(fields, "model", decode_text, "a string"),
        max_tokens=_LARGEST_CAP
        if counting
        else required(fields, "max_tokens", _decode_cap, "a whole number"),
        stream=fields.get("stream") == TRUE,
        body_bytes=len(raw),
        api_version=headers.get("anthropic-version"),
        betas=_betas(headers.get("anthropic-beta")),
        headers=headers,
        metadata_user_id=text_of(metadata.get("user_id")),
        thinking=text_of(thinking.get("type")),
        thinking_budget=whole_of(thinking.get("budget_tokens")),
        effort=text_of(output.get("effort")),
        task_budget=has_field(output, "task_budget"),
        sampling={
            name: decoded(fields[name], _decode_number) for name in SAMPLING if has_field(fields, name)
        },
        prefill=bool(messages) and _is_prefill(messages[-1]),
        turns=len(messages),
        system_turns="system" in [message.role for message in messages],
        tool_choice=text_of(object_of(fields, "tool_choice").get("type")),
        tool_types=_tool_types(fields.get("tools")),
        speed=text_of(fields.get("speed")),
        inference_geo=text_of(fields.get("inference_geo")),
        compaction=_compacts(fields),
        fallbacks=has_field(fields, "fallbacks"),
        thread=on_thread,
        begins_thread=begins_thread,
        opening=fingerprint(messages[0].role, bytes(messages[0].content))
        if messages and begins_thread is on_thread
        else None,
    )
    return call, Body(raw=raw, fields=fields)


def rewrite(body: Body, changes: tuple[Change, ...]) -> bytes:
    """Apply changes to a body. Without any, the bytes are those that came; fields not named keep theirs."""
    if not changes:
        return body.raw
    fields: dict[str, Any] = dict(body.fields)
    for change in changes:
        match change.path:
            case (name,):
                _put(fields, name, change.after)
            case (name, inner):
                nested = _inner_fields(fields.get(name))
                if nested or change.after is not REMOVED:
                    _put(nested, inner, change.after)
                    _put(fields, name, nested or REMOVED)
            case path:
                raise AssertionError(path)
    return _encode(fields)


_COUNTED: Final = frozenset(
    (
        "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "context_management",
        "mcp_servers", "speed", "cache_control",
    )
)  # fmt: skip
"""What `count_tokens` takes of a body: https://platform.claude.com/docs/en/api/messages-count-tokens"""


def counting_body(body: Body, changes: tuple[Change, ...]) -> bytes:
    """Return the body that has a call's prompt counted: as the call would be sent, without what makes no prompt."""
    fields = {name: raw for name, raw in body.fields.items() if name in _COUNTED}
    within = tuple(change for change in changes if change.path[0] in _COUNTED)
    return _encode(fields) if not within else rewrite(Body(raw=b"", fields=fields), within)


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    if value is REMOVED:
        fields.pop(name, None)
    else:
        fields[name] = value


def _inner_fields(value: Any) -> dict[str, Any]:
    """Copy the fields of an inner object: as the caller sent it, or as an earlier change made it."""
    if isinstance(value, dict):
        return dict(cast("dict[str, Any]", value))
    return decoded(value, decode_fields) or {}


@lru_cache(maxsize=64)
def _betas(header: str | None) -> tuple[str, ...]:
    return tuple(flag.strip() for flag in header.split(",") if flag.strip()) if header else ()


class _Tool(msgspec.Struct):
    type: str | None = None


_decode_tools = msgspec.json.Decoder(list[_Tool]).decode


def _tool_types(raw: Raw | None) -> tuple[str, ...]:
    """Types of the provider's own tools; a caller's tool has none, or `custom`."""
    tools: list[_Tool] = decoded(raw, _decode_tools) or []
    types = [tool.type for tool in tools if tool.type and tool.type != "custom"]
    return tuple(dict.fromkeys(types))


def _is_prefill(last: _Message) -> bool:
    """Whether the last message begins an answer. One with a tool of the provider's is a paused turn, sent back."""
    return last.role == "assistant" and b'"server_tool_use"' not in bytes(last.content)


def _compacts(fields: Mapping[str, Raw]) -> bool:
    management = fields.get("context_management")
    return has_field(fields, "compaction") or (management is not None and b'"compact_' in bytes(management))


_FINGERPRINT_SPAN: Final = 2048


def fingerprint(role: str, content: bytes) -> str:
    """Name a conversation by its first message: its length and both ends, cache marks left out.

    Clients move the cache mark along as a conversation grows; all else of the first message stays.
    """
    if b'"cache_control"' in content:
        content = _without_cache_marks(content)
    ends = content
    if len(content) > 2 * _FINGERPRINT_SPAN:
        ends = content[:_FINGERPRINT_SPAN] + content[-_FINGERPRINT_SPAN:]
    return sha256(b"%s %d %s" % (role.encode(), len(content), ends)).hexdigest()[:16]


_CACHE_MARK: Final = re.compile(rb'"cache_control"\s*:\s*(\{[^{}]*\}|null)(?:\s*,\s*)?')


def _without_cache_marks(content: bytes) -> bytes:
    """Cut out the cache marks, each with the comma before it, or the one after it where it comes first."""
    kept: list[bytes] = []
    at = 0
    for mark in _CACHE_MARK.finditer(content):
        before = mark.start()
        while content[before - 1 : before].isspace():
            before -= 1
        if content[before - 1 : before] == b",":
            start, end = before - 1, mark.end(1)
        else:
            start, end = mark.span()
        kept.append(content[at:start])
        at = end
    kept.append(content[at:])
    return b"".join(kept)


_make_call: Final = maker(Call)
