"""The list of batches, a page at a time, with what is not the caller's left out.

A page is JSON with `data`, `has_more`, `first_id` and `last_id`:
https://platform.claude.com/docs/en/api/listing-message-batches
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    """One page."""

    fields: Mapping[str, Raw]
    batches: Mapping[str, Raw]
    """As they came, by their ids, in their order."""
    has_more: bool


class _Batch(msgspec.Struct):
    id: str


_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_data = msgspec.json.Decoder(list[Raw]).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_encode = msgspec.json.Encoder().encode

_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError)


def read_page(body: bytes) -> BatchPage | None:
    """Read a page; None where it cannot be read."""
    try:
        fields = _decode_fields(body)
        batches = {_decode_batch(each).id: each for each in _decode_data(fields["data"])}
    except _UNREADABLE:
        return None
    return BatchPage(fields=fields, batches=batches, has_more=fields.get("has_more") == _TRUE)


def page_of(page: BatchPage, own: Collection[str]) -> bytes:
    """Write a page that has those of its batches alone that are among `own`, and begins and ends with them."""
    kept = [batch_id for batch_id in page.batches if batch_id in own]
    ends = kept or [None]
    data = [page.batches[batch_id] for batch_id in kept]
    return _encode({**page.fields, "data": data, "first_id": ends[0], "last_id": ends[-1]})


_TRUE: Final = Raw(b"true")
