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
    opaque = call.continues_thread or HIDDEN.search(raw) is not None
    served = _runs_at_provider(call)
    connected = b'"mcp_servers"' in raw
    return Contents(
        body_bytes=len(raw),
        attachments=_blocks(raw, b"image"),
        open_ended=opaque or served or connected or _refers(raw),
        cache_writes="1h" if opaque else _cache_writes(raw),
        grows=opaque or served or connected,
        kind="ascii" if raw.isascii() else "unicode",
    )


HIDDEN: Final = re.compile(rb"\\u00(?:31|5[fF]|6[1-9a-fA-F]|7[0-9aA])")
"""An escaped letter, underscore or 1: what the words below are made of. Encoders escape none of them."""

_CLIENT_RUN: Final = ("bash_", "computer_", "memory_", "text_editor_")
"""The provider's tools that the caller runs: what they return comes in the next body."""


def _runs_at_provider(call: Call) -> bool:
    return bool(call.tool_types) and any(not kind.startswith(_CLIENT_RUN) for kind in call.tool_types)


def _refers(raw: bytes) -> bool:
    """Whether it names a file or a container, or has sources by URL, or documents.

    A document's page is billed as text and as an image, and the body has neither.
    """
    named = b'"file_id"' in raw or b'"container"' in raw
    return named or _blocks(raw, b"url") > 0 or _blocks(raw, b"document") > 0


def _blocks(raw: bytes, kind: bytes) -> int:
    """How many objects have this type. Callers' tools have parameters of the same names, which are not counted."""
    if b'"%s"' % kind not in raw:
        return 0
    return len(re.findall(rb'"type"\s*:\s*"%s"' % kind, raw))


def _cache_writes(raw: bytes) -> CacheWrites:
    if b'"cache_control"' not in raw:
        return "none"
    return "1h" if b'"1h"' in raw else "5m"
