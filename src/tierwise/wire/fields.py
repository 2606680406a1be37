"""The fields of a body, each decoded only where it is asked for; all others stay the bytes that came."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from tierwise.errors import MalformedRequest

decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
decode_text = msgspec.json.Decoder(str).decode
decode_whole = msgspec.json.Decoder(int).decode

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything that the decoder raises for bytes that are not what they should be."""

TRUE: Final = Raw(b"true")
NULL: Final = Raw(b"null")


def required(fields: Mapping[str, Raw], name: str, decode: Any, kind: str) -> Any:
    """Decode a field that must be there.

    Raises:
        MalformedRequest: it is not, or is something else than `kind`.
    """
    raw = fields.get(name)
    if raw is None:
        raise MalformedRequest(why=f"{name}: Field required")
    try:
        return decode(raw)
    except UNREADABLE as error:
        raise MalformedRequest(why=f"{name}: Input should be {kind}") from error


def object_of(fields: Mapping[str, Raw], name: str) -> Mapping[str, Raw]:
    """The fields of an inner object, undecoded; none where the field is absent or is something else."""
    raw = fields.get(name)
    return _NO_FIELDS if raw is None else decoded(raw, decode_fields) or _NO_FIELDS


_NO_FIELDS: Final[Mapping[str, Raw]] = {}


def has_field(fields: Mapping[str, Raw], name: str) -> bool:
    """Whether a field is there; null says the same as leaving it out."""
    return name in fields and fields[name] != NULL


def text_of(raw: Raw | None) -> str | None:
    """A string; None where it is absent or is something else."""
    return None if raw is None else decoded(raw, decode_text)


def whole_of(raw: Raw | None) -> int | None:
    """A whole number; None where it is absent or is something else."""
    return None if raw is None else decoded(raw, decode_whole)


def decoded(raw: Raw | None, decode: Any) -> Any:
    """Decode a field; None where it is absent or is something else."""
    if raw is None:
        return None
    try:
        return decode(raw)
    except UNREADABLE:
        return None
