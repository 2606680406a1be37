"""The list of models: the provider's, with the policy's virtual names after it.

A page is JSON with `data`, `has_more`, `first_id` and `last_id`: https://platform.claude.com/docs/en/api/models-list
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualModel:
    """A task type as a model that can be named."""

    id: str
    display_name: str


_NO_DAY: Final = "1970-01-01T00:00:00Z"
"""What the provider writes where a model's day of release is not known."""

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_data = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


def virtual_model(model: VirtualModel) -> bytes:
    """Write one virtual model in the provider's shape."""
    return _encode(_described(model))


def virtual_page(models: Sequence[VirtualModel]) -> bytes:
    """Write a page, the last one, that has virtual models alone."""
    ids = [model.id for model in models] or [None]
    data = [_described(model) for model in models]
    return _encode({"data": data, "has_more": False, "first_id": ids[0], "last_id": ids[-1]})


def with_virtual_models(page: bytes, models: Sequence[VirtualModel]) -> bytes:
    """Append virtual models to the provider's last page; another page, and what cannot be read, stays as it is."""
    try:
        fields = _decode_fields(page)
        data = _decode_data(fields["data"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return page
    if not models or fields.get("has_more") != _FALSE:
        return page
    first = fields.get("first_id") if data else models[0].id
    listed = [*data, *(_described(model) for model in models)]
    return _encode({**fields, "data": listed, "first_id": first, "last_id": models[-1].id})


_FALSE: Final = Raw(b"false")


def _described(model: VirtualModel) -> dict[str, str]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name,
        "created_at": _NO_DAY,
        "lifecycle": "active",
    }
