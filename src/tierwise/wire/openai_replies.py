"""Chat Completions and Responses replies: usage, ending and errors, out of a JSON body.

Both count a prompt as a whole, what was read from the cache and written to it included (`prompt_tokens`,
`input_tokens`), and all that was generated, reasoning included (`completion_tokens`, `output_tokens`). `Usage` has
disjoint buckets, so its input is the prompt less the two: tokens read are `cache_read_tokens`, tokens written
`cache_write_5m_tokens`, or `cache_write_1h_tokens` where the reply says that they are kept for twelve hours.
https://platform.openai.com/docs/api-reference

A service tier other than the default has prices of its own: `priority` is priced as fast mode, `flex` as a batch.
Audio tokens have prices of their own too, which no price book here has: what such a call consumed is then not known.

What the server bills beside the tokens no usage tells. Where an item of the output, or a tool that the response says
it had, is of such a kind, or the model searches unasked, the counts are marked: their cost is not known.

Endings are told in the ledger's words: `length` is `max_tokens`, `stop` is `end_turn`. An error is an object, or with
some servers a text.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from tierwise.core.openai_extras import is_billed_apart, searches_unasked
from tierwise.usage import Metered, Usage, UsageLine
from tierwise.wire.fields import NULL, UNREADABLE
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


class _Error(msgspec.Struct):
    type: str | None = None
    code: str | int | None = None


def error_name(error: Raw) -> str | None:
    """The finest word that an error has, in place of a reply or within one that failed; None where there is none."""
    if error == NULL:
        return None
    told: _Error | None = _decoded(bytes(error), _decode_error)
    return str((told and (told.code or told.type)) or UNNAMED)


UNNAMED: Final = "api_error"
"""An error that has no word of its own."""


class Choice(msgspec.Struct):
    """One of `choices`."""

    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    model: str | None = None
    service_tier: str | None = None
    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Raw = NULL


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class Response(msgspec.Struct):
    """A response: a whole reply, or what a stream's events hold."""

    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None
    usage: ResponseUsage | None = None
    error: Raw = NULL
    output: Raw = NULL
    tools: Raw = NULL


class _Typed(msgspec.Struct):
    type: str | None = None


_decode_error = msgspec.json.Decoder(_Error).decode
_decode_types = msgspec.json.Decoder(list[_Typed]).decode
_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_response = msgspec.json.Decoder(Response).decode


def read_chat_reply(body: bytes, *, status: int) -> ReplyFacts:
    """Read a JSON reply of Chat Completions. One that cannot be read has no facts but its status."""
    reply: _Chat | None = _decoded(body, _decode_chat)
    error = None if reply is None else error_name(reply.error)
    if reply is None or status >= 400 or (error is not None and not reply.choices):
        return _failed(status, error)
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
        return _failed(status, None if reply is None else error_name(reply.error))
    return response_facts(reply)


def response_facts(reply: Response) -> ReplyFacts:
    """Return what a response that has ended tells."""
    failed = error_name(reply.error) or (UNNAMED if reply.status in _NO_REPLY else None)
    reason = reply.incomplete_details.reason if reply.incomplete_details else None
    if reason is None and not _CALLERS.isdisjoint(_types(reply.output) or ()):
        reason = "tool_calls"
    return ReplyFacts(
        finished=reply.status not in _NOT_ENDED,
        served_model=reply.model,
        stop_reason=None if failed else _ENDINGS.get(reason or "stop", reason),
        metered=response_metered(reply),
        error=failed,
    )


_CALLERS: Final = frozenset(
    {"function_call", "custom_tool_call", "local_shell_call", "apply_patch_call", "computer_call"}
)
"""Items by which a response calls what its caller runs."""

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
    return _metered(counts, details, reply.model, reply.service_tier, apart=_is_billed_apart(reply))


def _is_billed_apart(reply: Response) -> bool:
    """Whether a response had, or could have used, what is billed beside its tokens; so where that cannot be read."""
    for told in (reply.output, reply.tools):
        types = _types(told)
        if types is None or any(map(is_billed_apart, types)):
            return True
    return False


def _types(told: Raw) -> list[str] | None:
    """The types of items or tools; None where they cannot be read."""
    typed: list[_Typed] | None = [] if told == NULL else _decoded(bytes(told), _decode_types)
    return None if typed is None else [each.type for each in typed if each.type is not None]


_LARGEST_COUNT: Final = 2**40
"""More than any reply consumes: a count beyond it, or below zero, is not one."""


def _metered(
    counts: tuple[int | None, int | None],
    details: tuple[PromptDetails | None, ReplyDetails | None],
    model: str | None,
    service_tier: str | None,
    *,
    apart: bool = False,
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
    return Metered(
        lines=(line,),
        thinking_tokens=written.reasoning_tokens,
        billed_apart=apart or searches_unasked(model),
    )


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


def _failed(status: int, error: str | None) -> ReplyFacts:
    return ReplyFacts(finished=True, error=error or (None if status < 400 else UNNAMED))


def _decoded(body: bytes, decode: Any) -> Any:
    try:
        return decode(body)
    except UNREADABLE:
        return None
