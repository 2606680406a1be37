"""The list of models in OpenAI's shape: the server's, with the policy's virtual names after it.

A list is JSON with `data`, whole in one reply: https://platform.openai.com/docs/api-reference/models/list
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from tierwise.wire.models import VirtualModel

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_data = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode


def openai_model(model: VirtualModel) -> bytes:
    """Write one virtual model in OpenAI's shape."""
    return _encode(_described(model))


def with_openai_models(listed: bytes, models: Sequence[VirtualModel]) -> bytes:
    """Append virtual models to the server's list; what cannot be read stays as it is."""
    try:
        fields = _decode_fields(listed)
        data = _decode_data(fields["data"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return listed
    if not models:
        return listed
    return _encode({**fields, "data": [*data, *(_described(model) for model in models)]})


_NO_DAY: Final = 0
"""Seconds since 1970 of a model's making: a task type has no such day."""


def _described(model: VirtualModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": _NO_DAY, "owned_by": "tierwise"}
