"""Message Batches: the requests in a body, the id in a reply, and the results line by line.

An item that is not changed stays the bytes that came. Results come as JSON lines in any order, each with the
`custom_id` of its request: https://platform.claude.com/docs/en/api/creating-message-batches
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from msgspec import Raw

from tierwise.errors import MalformedRequest
from tierwise.wire.replies import ReplyFacts, read_reply


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """One request of a batch."""

    custom_id: str
    """The caller's own id of it."""
    params: bytes
    """The body of a Messages request."""
    raw: Raw
    """The item as it came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBody:
    """A batch's body: as it came, and its parts."""

    raw: bytes
    fields: Mapping[str, Raw]
    items: Sequence[BatchItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """What became of one request."""

    custom_id: str
    kind: str
    """succeeded, errored, canceled, expired, or one not known yet."""
    facts: ReplyFacts
    """Of a succeeded one, what its message tells, served at batch rates; of another, the error."""


class _Item(msgspec.Struct):
    custom_id: str
    params: Raw


class _Error(msgspec.Struct):
    type: str = "api_error"
    error: "_Error | None" = None


class _Result(msgspec.Struct):
    type: str
    message: Raw = Raw(b"null")
    error: _Error | None = None


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


class _Created(msgspec.Struct):
    id: str


class _Progress(msgspec.Struct):
    processing_status: str = ""


_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_items = msgspec.json.Decoder(list[Raw]).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_created = msgspec.json.Decoder(_Created).decode
_decode_progress = msgspec.json.Decoder(_Progress).decode
_encode = msgspec.json.Encoder().encode

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_batch(raw: bytes) -> BatchBody:
    """Read the body that creates a batch.

    Raises:
        MalformedRequest: it is not a JSON object with a list of requests, each with a `custom_id` and `params`.
    """
    try:
        fields = _decode_fields(raw)
    except _UNREADABLE as error:
        raise MalformedRequest(why=f"The body is not a JSON object: {error}") from error
    if "requests" not in fields:
        raise MalformedRequest(why="requests: Field required")
    try:
        items = _decode_items(fields["requests"])
    except _UNREADABLE as error:
        raise MalformedRequest(why="requests: Input should be a list") from error
    return BatchBody(
        raw=raw, fields=fields, items=[_read_item(item, place) for place, item in enumerate(items)]
    )


def rewritten(body: BatchBody, params: Sequence[bytes]) -> bytes:
    """Return a batch's body with other `params`, in the items' order; without any change, the bytes that came."""
    changed = [new != item.params for item, new in zip(body.items, params, strict=True)]
    if not any(changed):
        return body.raw
    items = [
        _with_params(item.raw, new) if differs else item.raw
        for item, new, differs in zip(body.items, params, changed, strict=True)
    ]
    return _encode({**body.fields, "requests": items})


def batch_of(requests: Mapping[str, bytes]) -> bytes:
    """Make the body that creates a batch, of `params` by their `custom_id`."""
    items = [{"custom_id": custom_id, "params": Raw(params)} for custom_id, params in requests.items()]
    return _encode({"requests": items})


def created_id(body: bytes) -> str | None:
    """Return the provider's id of a batch that it took; None where its reply cannot be read."""
    try:
        return _decode_created(body).id
    except _UNREADABLE:
        return None


def has_ended(body: bytes) -> bool:
    """Tell whether the provider is through with the batch that it describes, so that its results can be fetched."""
    try:
        return _decode_progress(body).processing_status == "ended"
    except _UNREADABLE:
        return False


def message_of(line: bytes) -> tuple[str, bytes] | None:
    """Return the `custom_id` and the message that a line of results holds; None where it holds none."""
    try:
        read = _decode_line(line)
    except _UNREADABLE:
        return None
    return (read.custom_id, bytes(read.result.message)) if read.result.type == "succeeded" else None


def read_result(line: bytes) -> ItemResult | None:
    """Read a line of results; None where it cannot be read."""
    try:
        read = _decode_line(line)
    except _UNREADABLE:
        return None
    result = read.result
    return ItemResult(custom_id=read.custom_id, kind=result.type, facts=_facts(result))


class Lines:
    """Lines out of chunks, wherever those are cut."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the lines that it ends."""
        *ended, rest = chunk.split(b"\n")
        if ended:
            ended[0] = b"".join((*self._rest, ended[0]))
            self._rest.clear()
        self._rest.append(rest)
        return [line for line in ended if line.strip()]

    def end(self) -> list[bytes]:
        """Return the line that nothing ended, if there is one."""
        rest = b"".join(self._rest)
        self._rest.clear()
        return [rest] if rest.strip() else []


def at_this_address(body: bytes) -> bytes:
    """Turn each `results_url` into a path: the SDKs fetch results from there, and a whole address is the provider's."""
    return _RESULTS_URL.sub(rb"\1\2", body)


_RESULTS_URL: Final = re.compile(rb'("results_url"\s*:\s*")https?://[^/"]+(/v1/messages/batches/[^"]*")')


def _read_item(raw: Raw, place: int) -> BatchItem:
    try:
        item = _decode_item(raw)
    except _UNREADABLE as error:
        raise MalformedRequest(why=f"requests.{place}: {error}") from error
    return BatchItem(custom_id=item.custom_id, params=bytes(item.params), raw=raw)


def _with_params(item: Raw, params: bytes) -> dict[str, Any]:
    return {**_decode_fields(item), "params": Raw(params)}


def _facts(result: _Result) -> ReplyFacts:
    if result.type == "succeeded":
        return _at_batch_rates(read_reply(bytes(result.message), status=200))
    error = result.error
    if error is None:
        return ReplyFacts(finished=False, error=result.type)
    return ReplyFacts(finished=False, error=(error.error or error).type)


def _at_batch_rates(facts: ReplyFacts) -> ReplyFacts:
    """Whatever tier the usage names: what a batch serves is billed as one."""
    if facts.metered is None:
        return facts
    lines = tuple(replace(line, batch=True) for line in facts.metered.lines)
    return replace(facts, metered=replace(facts.metered, lines=lines))
