"""A body's contents, measured without decoding it: how many images, and whether it tells its prompt's size.

The bytes are searched for the words of the format. JSON cannot write a quoted word in another way but with escapes,
and where escapes could hide one, the most is assumed. A word found where it means something else makes the measure
too large, never too small. Text of a message is no such place: the quotes within it are escaped.
"""

import re
from typing import Final, TypeAlias

from tierwise.core.call import Call
from tierwise.core.estimate import CacheWrites, Contents
from tierwise.values import maker


def measure(raw: bytes, call: Call) -> Contents:
    """Measure a body.

    Args:
        raw: the body, a JSON object.
        call: what `read_request` made of it.
    """
    opaque = call.continues_thread or HIDDEN.search(raw) is not None
    served = _runs_at_provider(call)
    words = frozenset(_WORDS.findall(raw))
    connected = b"mcp_servers" in words
    return _make_contents(
        body_bytes=len(raw),
        attachments=_blocks(raw, b"image", words),
        open_ended=opaque or served or connected or _refers(raw, words),
        cache_writes="1h" if opaque else _cache_writes(words),
        grows=opaque or served or connected,
        kind="ascii" if raw.isascii() else "unicode",
    )


_Words: TypeAlias = frozenset[bytes]
"""Those of the format's words that a body has, quoted."""

_WORDS: Final = re.compile(rb'"(image|url|document|file_id|container|mcp_servers|cache_control|1h)"')
"""One search for all of them takes a fifth of the time of one for each."""

HIDDEN: Final = re.compile(rb"\\u00(?:31|5[fF]|6[1-9a-fA-F]|7[0-9aA])")
"""An escaped letter, underscore or 1: what the words below are made of. Encoders escape none of them."""

_CLIENT_RUN: Final = ("bash_", "computer_", "memory_", "text_editor_")
"""The provider's tools that the caller runs: what they return comes in the next body."""


def _runs_at_provider(call: Call) -> bool:
    return bool(call.tool_types) and any(not kind.startswith(_CLIENT_RUN) for kind in call.tool_types)


def _refers(raw: bytes, words: _Words) -> bool:
    """Whether it names a file or a container, or has sources by URL, or documents.

    A document's page is billed as text and as an image, and the body has neither.
    """
    named = b"file_id" in words or b"container" in words
    return named or _blocks(raw, b"url", words) > 0 or _blocks(raw, b"document", words) > 0


def _blocks(raw: bytes, kind: bytes, words: _Words) -> int:
    """How many objects have this type. Callers' tools have parameters of the same names, which are not counted."""
    if kind not in words:
        return 0
    return len(re.findall(rb'"type"\s*:\s*"%s"' % kind, raw))


def _cache_writes(words: _Words) -> CacheWrites:
    if b"cache_control" not in words:
        return "none"
    return "1h" if b"1h" in words else "5m"


_make_contents: Final = maker(Contents)
