"""Messages replies: usage, stop reason and errors, out of a JSON body.

`usage` has disjoint buckets on this wire: `input_tokens` is what the cache did not cover. `iterations[]`, where it
is there, says the same for each part, with that part's model, and includes what the top level leaves out
(compaction): then it is what counts. https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tierwise.usage import Metered, Usage, UsageLine
from tierwise.values import maker, value


@value
class ReplyFacts:
    """What the ledger needs to know of a reply."""

    finished: bool
    """Whether the usage is final."""
    served_model: str | None = None
    stop_reason: str | None = None
    metered: Metered | None = None
    """None where the reply does not say, or says it in a form that cannot be read."""
    empty_refusal: bool = False
    """Whether the model refused before its first word: what it bills then depends on the refusal's category."""
    error: str | None = None
    """The error's type, where the reply is one."""


class CacheCreation(msgspec.Struct):
    """`usage.cache_creation`: the tokens written, by time to live."""

    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: int | None = None


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class Iteration(msgspec.Struct):
    """One of `usage.iterations`."""

    model: str | None = None
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """`usage`, as the provider writes it; None where a field is absent."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    iterations: list[Iteration] | None = None


class _ErrorDetail(msgspec.Struct):
    type: str = "api_error"


class _Reply(msgspec.Struct):
    type: str = ""
    model: str | None = None
    stop_reason: str | None = None
    usage: WireUsage | None = None
    content: list[msgspec.Raw] | None = None
    error: _ErrorDetail | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class _Count(msgspec.Struct):
    input_tokens: int


_decode_count = msgspec.json.Decoder(_Count).decode


def read_count(body: bytes, *, status: int) -> int | None:
    """Return the tokens that `count_tokens` counted; None where the reply is an error, or says nothing readable."""
    if status != 200:
        return None
    try:
        tokens = _decode_count(body).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return tokens if _is_count(tokens) else None


def read_reply(body: bytes, *, status: int) -> ReplyFacts:
    """Read a JSON reply. One that cannot be read has no facts but its status: unknown is unknown."""
    try:
        reply = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ReplyFacts(finished=True, error=None if status < 400 else "api_error")
    if status >= 400 or reply.type == "error":
        return ReplyFacts(finished=True, error=reply.error.type if reply.error else "api_error")
    return _make_reply_facts(
        finished=True,
        served_model=reply.model,
        stop_reason=reply.stop_reason,
        metered=metered(reply.usage, reply.model),
        empty_refusal=reply.stop_reason == "refusal" and not reply.content,
    )


def metered(usage: WireUsage | None, model: str | None) -> Metered | None:
    """Turn the provider's usage into priced lines; None where a part does not say what it read and wrote."""
    if usage is None or model is None:
        return None
    searches = usage.server_tool_use.web_search_requests if usage.server_tool_use else None
    parts: Sequence[WireUsage | Iteration] = usage.iterations or (usage,)
    lines: list[UsageLine] = []
    for part in parts:
        if part.input_tokens is None or part.output_tokens is None:
            return None
        buckets = _buckets(part, searches=0 if lines else searches or 0)
        if not _plausible(buckets):
            return None
        line = _make_usage_line(
            model=part.model or model if isinstance(part, Iteration) else model,
            usage=buckets,
            fast=usage.speed == "fast",
            us_only=usage.inference_geo == "us",
            batch=usage.service_tier == "batch",
        )
        lines.append(line)
    thinking = usage.output_tokens_details.thinking_tokens if usage.output_tokens_details else None
    return _make_metered(lines=tuple(lines), thinking_tokens=thinking if _is_count(thinking) else None)


def _buckets(part: WireUsage | Iteration, *, searches: int) -> Usage:
    """Split cache writes by their time to live: what the split does not name was written for five minutes."""
    split = part.cache_creation
    one_hour = (split.ephemeral_1h_input_tokens or 0) if split else 0
    five_minutes = (split.ephemeral_5m_input_tokens or 0) if split else 0
    written = part.cache_creation_input_tokens
    if written is not None:
        one_hour = min(one_hour, written)
        five_minutes = written - one_hour
    return _make_usage(
        input_tokens=part.input_tokens or 0,
        cache_write_5m_tokens=five_minutes,
        cache_write_1h_tokens=one_hour,
        cache_read_tokens=part.cache_read_input_tokens or 0,
        output_tokens=part.output_tokens or 0,
        web_search_requests=searches,
    )


_LARGEST_COUNT: Final = 2**40
"""More than any reply consumes: a count beyond it, or below zero, is not one."""


def _plausible(usage: Usage) -> bool:
    return (
        0 <= usage.input_tokens < _LARGEST_COUNT
        and 0 <= usage.cache_write_5m_tokens < _LARGEST_COUNT
        and 0 <= usage.cache_write_1h_tokens < _LARGEST_COUNT
        and 0 <= usage.cache_read_tokens < _LARGEST_COUNT
        and 0 <= usage.output_tokens < _LARGEST_COUNT
        and 0 <= usage.web_search_requests < _LARGEST_COUNT
    )


def _is_count(count: int | None) -> bool:
    return count is not None and 0 <= count < _LARGEST_COUNT


def error_body(kind: str, message: str, *, request_id: str, details: dict[str, Any] | None = None) -> bytes:
    """Write an error of ours in the provider's shape."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if details:
        error["details"] = details
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


_make_reply_facts: Final = maker(ReplyFacts)
_make_usage_line: Final = maker(UsageLine)
_make_usage: Final = maker(Usage)
_make_metered: Final = maker(Metered)
