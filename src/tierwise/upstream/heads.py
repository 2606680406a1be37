"""A request's head as bytes: what could end a line early, or say twice how long the body is, is never written."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from tierwise.upstream.port import Outgoing


class Base:
    """What each head to one address begins with."""

    __slots__ = ("host_line", "prefix")

    def __init__(self, url: str) -> None:
        """Take an address of the provider's: `https://host`, `http://host:port/path`."""
        parts = urlsplit(url)
        self.prefix = _targeted(parts.path.rstrip("/"))
        self.host_line = b" HTTP/1.1\r\nHost: " + _valued(parts.netloc.rpartition("@")[2].encode("idna"))


def head_of(request: Outgoing, base: Base) -> bytes:
    """Write a request's line and headers, with the blank line after them.

    The client alone says whom a request is for and how long its body is.

    Raises:
        ValueError: the method, the target, a name or a value has a character that may not stand there; or a header
            is one of `OURS_TO_SAY`.
    """
    lines = [_method(request.method), base.prefix, _targeted(request.target), base.host_line]
    for name, value in request.headers:
        lines += (_line_begin(name), value)
    _valued(b"".join([value for _, value in request.headers]))
    if request.body or request.method in _HAVE_BODIES:
        lines.append(b"\r\nContent-Length: %d" % len(request.body))
    lines.append(b"\r\n\r\n")
    return b"".join(lines)


OURS_TO_SAY: Final = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"expect",
        b"trailer",
        b"te",
    )
)
"""Headers that make the framing of a request, or of the connection: a caller's may contradict it."""

_HAVE_BODIES: Final = frozenset(("POST", "PUT", "PATCH"))
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""https://www.rfc-editor.org/rfc/rfc9110#name-tokens"""
_NOT_IN_VALUES: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_TARGETS: Final = re.compile(rb"[\x00-\x20\x7f#]")


@lru_cache(maxsize=64)
def _method(name: str) -> bytes:
    return _token(name.encode("latin-1")) + b" "


@lru_cache(maxsize=1024)
def _line_begin(name: bytes) -> bytes:
    if name.lower() in OURS_TO_SAY:
        raise ValueError(f"the header {name!r} is the client's own to say")
    return b"\r\n" + _token(name) + b": "


@lru_cache(maxsize=1024)
def _token(name: bytes) -> bytes:
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no token")
    return name


@lru_cache(maxsize=256)
def _targeted(target: str) -> bytes:
    written = target.encode("latin-1")
    if _NOT_IN_TARGETS.search(written):
        raise ValueError(f"the target {target!r} cannot be written")
    return written


def _valued(value: bytes) -> bytes:
    if _NOT_IN_VALUES.search(value):
        raise ValueError("a header's value has a control character")
    return value
