"""JSON values by their shape, for checkers of types and of requests."""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

Object = Mapping[str, Any]
"""A JSON object."""

_EMPTY: Final[Object] = {}


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a decoded JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a decoded JSON value is a list."""
    return isinstance(value, list)


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a decoded JSON value is a whole number; a boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def part_of(body: Object, field: str) -> Object:
    """The object in a field; an empty one when the field is absent or null."""
    return body.get(field) or _EMPTY


def parts_of(content: Any) -> list[dict[str, Any]]:
    """The blocks of a message's content; none when it is plain text."""
    return content if is_list(content) else []
