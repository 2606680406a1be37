"""What a reply says, out of its bytes: for calls that the audit compares, and for no others.

A stream's content is put together from its events. Thinking is left out: it is not part of the answer.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The content of one finished reply."""

    text: str
    """All text blocks, one after the other."""
    tool_uses: tuple[tuple[str, Any], ...]
    """Name and input of each tool use, in order."""


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    name: str = ""
    input: Any = None


class _Message(msgspec.Struct):
    content: list[_Block]


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    content_block: _Block | None = None
    delta: _Delta | None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_event = msgspec.json.Decoder(_Event).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_content(body: bytes, *, stream: bool) -> Content | None:
    """Read a whole reply; None where it is not one, or cannot be read.

    Args:
        body: all bytes of the reply's body.
        stream: whether they are a stream of events.
    """
    try:
        message = _gathered(body) if stream else _decode_message(body)
    except _UNREADABLE:
        return None
    if message is None:
        return None
    return Content(
        text="".join(block.text for block in message.content if block.type == "text"),
        tool_uses=tuple(
            (block.name, block.input) for block in message.content if block.type.endswith("tool_use")
        ),
    )


@dataclass(slots=True)
class _Growing:
    """A block whose deltas arrive."""

    block: _Block
    text: list[str] = field(default_factory=list[str])
    json: list[str] = field(default_factory=list[str])

    def take(self, delta: _Delta) -> None:
        match delta.type:
            case "text_delta":
                self.text.append(delta.text)
            case "input_json_delta":
                self.json.append(delta.partial_json)
            case _:
                pass

    def whole(self) -> _Block:
        written = "".join(self.json)
        return _Block(
            type=self.block.type,
            text=self.block.text + "".join(self.text),
            name=self.block.name,
            input=msgspec.json.decode(written) if written else self.block.input,
        )


def _gathered(body: bytes) -> _Message | None:
    """The message that a stream's events make; None where it did not come to its end."""
    blocks: dict[int, _Growing] = {}
    stopped = False
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        event = _decode_event(line[5:])
        if event.type == "content_block_start" and event.content_block is not None:
            blocks[event.index] = _Growing(event.content_block)
        elif event.type == "content_block_delta" and event.delta is not None and event.index in blocks:
            blocks[event.index].take(event.delta)
        elif event.type == "message_delta" and event.delta is not None:
            stopped |= event.delta.stop_reason is not None
    return _Message(content=[blocks[place].whole() for place in sorted(blocks)]) if stopped else None
