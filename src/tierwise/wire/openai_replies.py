"""Chat Completions and Responses replies: usage, ending and errors, out of a JSON body.

Both count a prompt as a whole, what was read from the cache and written to it included (`prompt_tokens`,
`input_tokens`), and all that was generated, reasoning included (`completion_tokens`, `output_tokens`). `Usage` has
disjoint buckets, so its input is the prompt less the two: tokens read are `cache_read_tokens`, tokens written
`cache_write_5m_tokens`, or `cache_write_1h_tokens` where the reply says that they are kept for twelve hours.
https://platform.openai.com/docs/api-reference

A service tier other than the default has prices of its own: `priority` is priced as fast mode, `flex` as a batch.
Audio tokens have prices of their own too, which no price book here has: what such a call consumed is then not known.

Endings are told in the ledger's words: `length` is `max_tokens`, `stop` is `end_turn`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tierwise.usage import Metered, Usage, UsageLine
from tierwise.wire.replies import ReplyFacts


class _Written(msgspec.Struct):
    ttl_12h_tokens: int | None = None


class PromptDetails(msgspec.Struct):
    """What a prompt's tokens are."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_tokens_details: _Written | None = None
    audio_tokens: int | None = None


class ReplyDetails(msgspec.Struct):
    """What a reply's tokens are."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class ChatUsage(msgspec.Struct):
    """`usage` of Chat Completions."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: ReplyDetails | None = None


class ResponseUsage(msgspec.Struct):
    """`usage` of Responses."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: ReplyDetails | None = None


class Error(msgspec.Struct):
    """`error`: in place of a reply, or within one that failed."""

    type: str | None = None
    code: str | int | None = None

    @property
    def name(self) -> str:
        """The finest word that it has."""
        return str(self.code or self.type or _UNNAMED)


_UNNAMED: Final = "api_error"


class Choice(msgspec.Struct):
    """One of `choices`."""

    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    model: str | None = None
    service_tier: str | None = None
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Error | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class Response(msgspec.Struct):
    """A response: a whole reply, or what a stream's events hold."""

    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    usage: ResponseUsage | None = None
    error: Error | None = None


_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_response = msgspec.json.Decoder(Response).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_chat_reply(body: bytes, *, status: int) -> ReplyFacts:
    """Read a JSON reply of Chat Completions. One that cannot be read has no facts but its status."""
    reply: _Chat | None = _decoded(body, _decode_chat)
    if reply is None or status >= 400 or (reply.error is not None and not reply.choices):
        return _failed(status, None if reply is None else reply.error)
    return ReplyFacts(
        finished=True,
        served_model=reply.model,
        stop_reason=chat_ending([choice.finish_reason for choice in reply.choices or ()]),
        metered=chat_metered(reply.usage, reply.model, reply.service_tier),
    )


def read_response_reply(body: bytes, *, status: int) -> ReplyFacts:
    """Read a JSON reply of Responses. One that cannot be read has no facts but its status."""
    reply: Response | None = _decoded(body, _decode_response)
    if reply is None or status >= 400:
        return _failed(status, None if reply is None else reply.error)
    return response_facts(reply)


def response_facts(reply: Response) -> ReplyFacts:
    """Return what a response that has ended tells."""
    failed = reply.error.name if reply.error else _UNNAMED if reply.status in _NO_REPLY else None
    reason = reply.incomplete_details.reason if reply.incomplete_details else None
    return ReplyFacts(
        finished=reply.status not in _NOT_ENDED,
        served_model=reply.model,
        stop_reason=None if failed else _ENDINGS.get(reason or "stop", reason),
        metered=response_metered(reply),
        error=failed,
    )


_NO_REPLY: Final = frozenset({"failed", "cancelled"})
_NOT_ENDED: Final = frozenset({"queued", "in_progress"})

_ENDINGS: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "max_output_tokens": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def chat_ending(reasons: list[str | None]) -> str | None:
    """Tell how a reply ended, in the ledger's words; of several choices, that one was cut goes before all else."""
    told = [_ENDINGS.get(reason, reason) for reason in reasons if reason is not None]
    return "max_tokens" if "max_tokens" in told else told[0] if told else None


def chat_metered(usage: ChatUsage | None, model: str | None, service_tier: str | None) -> Metered | None:
    """Turn the usage of Chat Completions into a priced line; None where it does not say what was read and written."""
    if usage is None:
        return None
    counts = (usage.prompt_tokens, usage.completion_tokens)
    details = (usage.prompt_tokens_details, usage.completion_tokens_details)
    return _metered(counts, details, model, service_tier)


def response_metered(reply: Response) -> Metered | None:
    """Turn the usage of a response into a priced line; None where it does not say what was read and written."""
    usage = reply.usage
    if usage is None:
        return None
    counts = (usage.input_tokens, usage.output_tokens)
    details = (usage.input_tokens_details, usage.output_tokens_details)
    return _metered(counts, details, reply.model, reply.service_tier)


_LARGEST_COUNT: Final = 2**40
"""More than any reply consumes: a count beyond it, or below zero, is not one."""


def _metered(
    counts: tuple[int | None, int | None],
    details: tuple[PromptDetails | None, ReplyDetails | None],
    model: str | None,
    service_tier: str | None,
) -> Metered | None:
    prompt, output = counts
    read, written = details[0] or PromptDetails(), details[1] or ReplyDetails()
    if model is None or prompt is None or output is None or read.audio_tokens or written.audio_tokens:
        return None
    usage = _buckets(prompt, output, read)
    plausible = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_5m_tokens, output)
    if not all(0 <= count < _LARGEST_COUNT for count in plausible):
        return None
    line = UsageLine(model=model, usage=usage, fast=service_tier == "priority", batch=service_tier == "flex")
    return Metered(lines=(line,), thinking_tokens=written.reasoning_tokens)


def _buckets(prompt: int, output: int, details: PromptDetails) -> Usage:
    cached, stored = details.cached_tokens or 0, details.cache_write_tokens or 0
    split = details.cache_write_tokens_details
    long_kept = min(stored, max(0, (split.ttl_12h_tokens or 0) if split else 0))
    return Usage(
        input_tokens=prompt - cached - stored,
        cache_read_tokens=cached,
        cache_write_5m_tokens=stored - long_kept,
        cache_write_1h_tokens=long_kept,
        output_tokens=output,
    )


def _failed(status: int, error: Error | None) -> ReplyFacts:
    if error is not None:
        return ReplyFacts(finished=True, error=error.name)
    return ReplyFacts(finished=True, error=None if status < 400 else _UNNAMED)


def _decoded(body: bytes, decode: Any) -> Any:
    try:
        return decode(body)
    except _UNREADABLE:
        return None
