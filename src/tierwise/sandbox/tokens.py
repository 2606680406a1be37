"""How many tokens a text is: a fixed number of bytes a token, so that every count can be checked by hand.

The new tokenizer takes 3.6 bytes a token and the old one 1.3 times as many, 4.68; the sum of a prompt is
rounded up once. A prompt therefore never counts more than half its bytes, but for the small fixed parts:
`PROMPT_TOKENS` a prompt, `MESSAGE_TOKENS` a message, the provider's own tool prompt, and media.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from tierwise.sandbox.directive import stands_for_tokens
from tierwise.sandbox.models import Model
from tierwise.sandbox.shapes import Object, part_of, parts_of

PROMPT_TOKENS: Final = 4
MESSAGE_TOKENS: Final = 3
MEDIA_TOKENS: Final = 1_600

_NEW_BYTES: Final = (18, 5)
_OLD_BYTES: Final = (117, 25)


class Block(NamedTuple):
    """One piece of a prompt, in the order in which the model reads it: tools, system, messages."""

    size: int
    """Bytes of text."""
    tokens: int
    """Tokens that are not text."""
    marker: Object | None
    """The block's `cache_control`."""
    identity: str | bytes
    """What must be equal for two blocks to be the same to a prompt cache."""


def text_tokens(size: int, model: Model) -> int:
    """Tokens of a text of `size` bytes, rounded up."""
    over, under = _NEW_BYTES if model.new_tokenizer else _OLD_BYTES
    return -(-size * under // over)


def text_size(tokens: int, model: Model) -> int:
    """The bytes of the longest text that counts exactly `tokens`."""
    over, under = _NEW_BYTES if model.new_tokenizer else _OLD_BYTES
    return tokens * over // under


def prompt_tokens(blocks: list[Block], model: Model) -> int:
    """Tokens of these blocks together."""
    return text_tokens(sum(block.size for block in blocks), model) + sum(block.tokens for block in blocks)


def blocks(body: Object, model: Model, *, stands_for: int | None = None) -> list[Block]:
    """A valid request's prompt, piece by piece; its last piece counts `stands_for` tokens where that is given."""
    prompt = list(_blocks(body, model))
    if stands_for is not None:
        prompt[-1] = prompt[-1]._replace(size=_size_of(stands_for))
    return prompt


def _blocks(body: Object, model: Model) -> Iterator[Block]:
    tools = parts_of(body.get("tools"))
    if tools:
        forced = part_of(body, "tool_choice").get("type") in ("any", "tool")
        yield Block(0, model.tool_tokens[forced], None, "")
        yield from map(_tool, tools)
    system: Any = body.get("system")
    if isinstance(system, str):
        yield _text("system", system)
    for part in parts_of(system):
        yield _text("system", part["text"], part.get("cache_control"))
    yield Block(0, PROMPT_TOKENS, None, "")
    for message in body["messages"]:
        yield from _message(message)


def _tool(tool: dict[str, Any]) -> Block:
    seen = {key: value for key, value in tool.items() if key != "cache_control"}
    encoded = msgspec.json.encode(seen)
    return Block(len(encoded), 0, tool.get("cache_control"), encoded)


def _message(message: Object) -> Iterator[Block]:
    role: str = message["role"]
    content: Any = message["content"]
    if isinstance(content, str):
        yield _text(role, content, tokens=MESSAGE_TOKENS)
    for place, part in enumerate(parts_of(content)):
        yield _part(role, part, tokens=0 if place else MESSAGE_TOKENS)


def _part(role: str, part: dict[str, Any], *, tokens: int) -> Block:
    marker: Object | None = part.get("cache_control")
    kind = part["type"]
    if kind == "text":
        return _text(role, part["text"], marker, tokens=tokens)
    encoded = msgspec.json.encode({key: value for key, value in part.items() if key != "cache_control"})
    match kind:
        case "image" | "document":
            return Block(0, tokens + min(MEDIA_TOKENS, len(encoded) // 2), marker, encoded)
        case "thinking" | "redacted_thinking":
            return Block(_bytes(str(part.get("thinking", ""))), tokens, marker, encoded)
        case _:
            return Block(len(encoded), tokens, marker, encoded)


def _text(role: str, text: str, marker: Object | None = None, *, tokens: int = 0) -> Block:
    stands_for = stands_for_tokens(text)
    size = _bytes(text) if stands_for is None else _size_of(stands_for)
    return Block(size, tokens, marker, f"{role}\n{text}")


def _size_of(tokens: int) -> int:
    over, under = _NEW_BYTES
    return tokens * over // under


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
