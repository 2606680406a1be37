"""Chat Completions and Responses requests: the bytes of a body to a `Call`, and what they tell of its prompt's size.

Only what routing needs is decoded. What would cost money that no usage tells of is refused here: tools that are billed
by the call, audio, and responses that are made in the background.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from tierwise.core.call import UNCAPPED, Call
from tierwise.core.estimate import Contents
from tierwise.core.openai_extras import is_billed_apart
from tierwise.errors import MalformedRequest, UnsupportedRequest
from tierwise.wire.contents import HIDDEN
from tierwise.wire.fields import (
    TRUE,
    UNREADABLE,
    decode_fields,
    decode_text,
    decode_whole,
    decoded,
    has_field,
    object_of,
    required,
    text_of,
)
from tierwise.wire.requests import Body, fingerprint


class _Item(msgspec.Struct):
    type: str | None = None
    role: str | None = None
    content: Raw = Raw(b"null")
    encrypted_content: str | None = None


class _Tool(msgspec.Struct):
    type: str = ""


_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_tools = msgspec.json.Decoder(list[_Tool]).decode
_decode_number = msgspec.json.Decoder(int | float | bool).decode
_decode_words = msgspec.json.Decoder(list[str]).decode


def read_chat(raw: bytes, headers: Mapping[str, str]) -> tuple[Call, Body]:
    """Read a Chat Completions request.

    Args:
        raw: the body.
        headers: request headers by lower-case name, credentials left out.

    Raises:
        MalformedRequest: it is not a JSON object, or lacks `model` or `messages`, or a cap or `n` is no whole number.
        UnsupportedRequest: it may cost money that no usage tells of.
    """
    fields = _fields(raw)
    messages: list[_Item] = required(fields, "messages", _decode_items, "a list of messages")
    if has_field(fields, "web_search_options"):
        raise _billed_apart("web_search_options")
    if has_field(fields, "audio") or "audio" in (decoded(fields.get("modalities"), _decode_words) or ()):
        raise UnsupportedRequest(why="Tierwise does not price audio: send the call to the provider itself.")
    stream = fields.get("stream") == TRUE
    spelled = next((name for name in _CHAT_CAPS if has_field(fields, name)), None)
    call = Call(
        requested_model=required(fields, "model", decode_text, "a string"),
        max_tokens=UNCAPPED if spelled is None else _count(fields, spelled),
        cap_path=(spelled or _CHAT_CAPS[0],),
        stream=stream,
        usage_told=not stream or object_of(fields, "stream_options").get("include_usage") == TRUE,
        samples=_count(fields, "n") if has_field(fields, "n") else 1,
        effort=text_of(fields.get("reasoning_effort")),
        effort_path=("reasoning_effort",),
        turns=_turns(messages),
        opening=_opening(messages),
        sampling=_sampling(fields, _CHAT_SAMPLING),
        **_common(raw, headers, fields),
    )
    return call, Body(raw=raw, fields=fields)


_RESPONSE_SAMPLING: Final = ("temperature", "top_p", "top_logprobs")
_CHAT_SAMPLING: Final = (
    *_RESPONSE_SAMPLING, "presence_penalty", "frequency_penalty", "logprobs", "logit_bias", "stop",
)  # fmt: skip
_CHAT_CAPS: Final = ("max_completion_tokens", "max_tokens")


def read_response(raw: bytes, headers: Mapping[str, str]) -> tuple[Call, Body]:
    """Read a Responses request; arguments and exceptions are those of `read_chat`.

    One that goes on from what the provider holds (`previous_response_id`, `conversation`, `prompt`, an item named by
    its id) is a thread: its prompt is not in the body.
    """
    fields = _fields(raw)
    if fields.get("background") == TRUE:
        raise UnsupportedRequest(
            why="background: Tierwise sees no usage of a response that is made in the background, so that its cost "
            "would be missing in the ledger. Leave `background` out, and use `stream` where it takes long."
        )
    items: list[_Item] = decoded(fields.get("input"), _decode_items) or []
    held = any(has_field(fields, name) for name in _HELD)
    conversation = fields.get("conversation") if has_field(fields, "conversation") else None
    call = Call(
        requested_model=required(fields, "model", decode_text, "a string"),
        max_tokens=_count(fields, "max_output_tokens")
        if has_field(fields, "max_output_tokens")
        else UNCAPPED,
        cap_path=("max_output_tokens",),
        stream=fields.get("stream") == TRUE,
        effort=text_of(object_of(fields, "reasoning").get("effort")),
        effort_path=("reasoning", "effort"),
        turns=_turns(items) + held,
        opening=_opening(items, fields.get("input")) if not held else _conversation(conversation),
        stored_prompt=has_field(fields, "prompt"),
        thread=held or any(map(_is_reference, items)),
        compaction=has_field(fields, "context_management"),
        sampling=_sampling(fields, _RESPONSE_SAMPLING),
        reasoning=has_field(fields, "reasoning"),
        **_common(raw, headers, fields),
    )
    return call, Body(raw=raw, fields=fields)


_HELD: Final = ("previous_response_id", "conversation", "prompt")


def measure(raw: bytes, call: Call) -> Contents:
    """Measure a body of either kind, without decoding it; what is not text counts as open-ended.

    Servers write to their caches unasked, so that a prompt may fall in every bucket. No prompt is counted before a
    call: few servers can.
    """
    opaque = call.thread or bool(call.tool_types) or HIDDEN.search(raw) is not None
    return Contents(
        body_bytes=len(raw),
        attachments=0,
        open_ended=opaque or _NO_TEXT.search(raw) is not None,
        cache_writes="1h",
        grows=True,
        kind="ascii" if raw.isascii() else "unicode",
    )


_NO_TEXT: Final = re.compile(
    rb'"type"\s*:\s*"(?:image_url|input_image|input_audio|file|input_file|computer_call_output|item_reference)"'
)


def _fields(raw: bytes) -> dict[str, Raw]:
    try:
        return decode_fields(raw)
    except UNREADABLE as error:
        raise MalformedRequest(why=f"The body is not a JSON object: {error}") from error


def _count(fields: Mapping[str, Raw], name: str) -> int:
    count: int = required(fields, name, decode_whole, "a whole number")
    if 0 <= count < UNCAPPED:
        return count
    raise MalformedRequest(why=f"{name}: Input should be a whole number that a model can reach")


def _sampling(fields: Mapping[str, Raw], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: decoded(fields[name], _decode_number) for name in names if has_field(fields, name)}


def _common(raw: bytes, headers: Mapping[str, str], fields: Mapping[str, Raw]) -> dict[str, Any]:
    tools: list[_Tool] = decoded(fields.get("tools"), _decode_tools) or []
    return {
        "tool_types": _tool_types(tools),
        "functions": any(tool.type == "function" for tool in tools),
        "family": "openai",
        "body_bytes": len(raw),
        "headers": headers,
        "metadata_user_id": text_of(fields.get("safety_identifier")) or text_of(fields.get("user")),
        "speed": "fast" if text_of(fields.get("service_tier")) == "priority" else None,
    }


_INSTRUCTIONS: Final = frozenset({"system", "developer"})


def _turns(items: list[_Item]) -> int:
    """How many there are, instructions left out: they stand before the first turn."""
    return sum(item.role not in _INSTRUCTIONS for item in items) or 1


def _opening(items: list[_Item], text: Raw | None = None) -> str | None:
    first = next((item for item in items if item.role == "user"), None)
    if first is not None:
        return fingerprint("user", bytes(first.content))
    return fingerprint("user", bytes(text)) if text is not None and not items else None


def _conversation(conversation: Raw | None) -> str | None:
    return None if conversation is None else fingerprint("conversation", bytes(conversation))


def _is_reference(item: _Item) -> bool:
    """Whether an item stands for one that the provider holds: named by its id alone, or reasoning without its text."""
    if item.type is None:
        return item.role is None
    return item.type == "item_reference" or (item.type == "reasoning" and item.encrypted_content is None)


_OWN_TOOLS: Final = frozenset({"function", "custom", "local_shell", "apply_patch"})
"""Tools that the caller runs: what they return comes in the next body."""


def _tool_types(tools: list[_Tool]) -> tuple[str, ...]:
    """Types of the tools that the provider runs, or asks others to."""
    types = [tool.type for tool in tools if tool.type not in _OWN_TOOLS]
    for kind in types:
        if is_billed_apart(kind):
            raise _billed_apart(kind)
    return tuple(dict.fromkeys(types))


def _billed_apart(what: str) -> UnsupportedRequest:
    return UnsupportedRequest(
        why=f"{what}: the provider bills it beside the tokens, and no usage tells of it, so that the cost would be "
        "missing in the ledger. Leave it out, or send the call to the provider itself."
    )
