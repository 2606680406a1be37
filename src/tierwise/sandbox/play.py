"""A conversation whose replies its prompt writes down, for clients that act on what they read.

`[[play [{"use": [{"name": "Read", "input": {"path": "a.txt"}}]}, {"text": "Done."}]]]` in the text of a user's
turn says what the replies from there on are: the first use of a tool, then a text; after the last of them,
replies are drawn as ever. The first turn with a play counts, so that a play may hand another one on, as the
prompt of a subagent within the input of a tool.
"""

from collections.abc import Mapping, Sequence
from json import JSONDecodeError, JSONDecoder
from typing import Any, Final

import msgspec

from tierwise.sandbox.errors import invalid
from tierwise.sandbox.shapes import Object, parts_of

OPENING: Final = "[[play "


class Use(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One use of a tool."""

    name: str
    input: dict[str, Any]


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One reply: a text, uses of tools, or the one before the other."""

    text: str = ""
    use: tuple[Use, ...] = ()


def line_of(body: Object) -> Line | None:
    """The reply that is written down for this request; None for a request without a play, or after its end.

    Raises ApiError (400) for a play that cannot be read, and for a tool that the request does not offer.
    """
    messages: Sequence[Mapping[str, Any]] = body["messages"]
    for place, message in enumerate(messages):
        text = _text(message)
        if OPENING in text:
            said = sum(later["role"] == "assistant" for later in messages[place:])
            lines = _lines(text)
            return _offered(lines[said], body) if said < len(lines) else None
    return None


def _text(message: Mapping[str, Any]) -> str:
    if message["role"] != "user":
        return ""
    content: Any = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in parts_of(content) if part["type"] == "text")


def _lines(text: str) -> tuple[Line, ...]:
    try:
        value, end = JSONDecoder().raw_decode(text, text.index(OPENING) + len(OPENING))
        if not text.startswith("]]", end):
            raise invalid("sandbox: a play ends with ]]")
        return msgspec.convert(value, tuple[Line, ...])
    except (JSONDecodeError, msgspec.ValidationError) as error:
        raise invalid(f"sandbox: a play that cannot be read: {error}") from error


def _offered(line: Line, body: Object) -> Line:
    names = {tool.get("name") for tool in parts_of(body.get("tools"))}
    missing = next((use.name for use in line.use if use.name not in names), None)
    if missing is not None:
        raise invalid(f"sandbox: the play uses the tool {missing!r}, which the request does not offer")
    return line
