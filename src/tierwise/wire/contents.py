"""A body's contents, measured without decoding it: how many images, and whether it tells its prompt's size.

The bytes are searched for the words of the format. JSON cannot write a quoted word in another way but with escapes,
and where escapes could hide one, the most is assumed. A word found where it means something else makes the measure
too large, never too small. Text of a message is no such place: the quotes within it are escaped.
"""

import re
from typing import Final

from tierwise.core.call import Call
from tierwise.core.estimate import CacheWrites, Contents


def measure(raw: bytes, call: Call) -> Contents:
    """Measure a body.

    Args:
        raw: the body, a JSON object.
        call: what `read_request` made of it.
    """
    opaque = call.continues_thread or _HIDDEN.search(raw) is not None
    served = _runs_at_provider(call)
    return Contents(
        body_bytes=len(raw),
        attachments=_blocks(raw, b"image"),
        open_ended=opaque or served or _refers(raw),
        cache_writes="1h" if opaque else _cache_writes(raw),
        grows=opaque or served or b'"mcp_servers"' in raw,
        kind="ascii" if raw.isascii() else "unicode",
    )


_HIDDEN: Final = re.compile(rb"\\u00(?:31|5[fF]|6[1-9a-fA-F]|7[0-9aA])")
"""An escaped letter, underscore or 1: what the words below are made of. Encoders escape none of them."""

_CLIENT_RUN: Final = ("bash_", "computer_", "memory_", "text_editor_")
"""The provider's tools that the caller runs: what they return comes in the next body."""

_REFERENCES: Final = (b'"file_id"', b'"mcp_servers"', b'"container"')
_REFERRING_BLOCKS: Final = (b"url", b"document")
"""Sources by URL, and documents: a page is billed as text and as an image, and the body has neither."""


def _runs_at_provider(call: Call) -> bool:
    return any(not kind.startswith(_CLIENT_RUN) for kind in call.tool_types)


def _refers(raw: bytes) -> bool:
    return any(word in raw for word in _REFERENCES) or any(_blocks(raw, kind) for kind in _REFERRING_BLOCKS)


def _blocks(raw: bytes, kind: bytes) -> int:
    """How many objects have this type. Callers' tools have parameters of the same names, which are not counted."""
    if b'"%s"' % kind not in raw:
        return 0
    return len(re.findall(rb'"type"\s*:\s*"%s"' % kind, raw))


def _cache_writes(raw: bytes) -> CacheWrites:
    if b'"cache_control"' not in raw:
        return "none"
    return "1h" if b'"1h"' in raw else "5m"
