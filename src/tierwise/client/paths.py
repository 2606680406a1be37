"""What a request is, by its path: a call, a count of tokens, one that is refused, or nothing of ours."""

from enum import Enum

from tierwise.engine.doors import CHAT_COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES, why_refused


class Kind(Enum):
    """What is done with a request."""

    CALL = "call"
    """It is decided, fitted, budgeted and recorded."""
    COUNT = "count"
    """It passes, a virtual model name replaced."""
    REFUSED = "refused"
    """It would cost money that no entry tells of."""
    OTHER = "other"
    """It passes untouched."""


def kind_of(method: str, path: str) -> Kind:
    """Sort a request; an address before the provider's path, and a query after it, make no difference."""
    path = provider_path(path)
    if method.upper() == "POST" and path == MESSAGES:
        return Kind.CALL
    if method.upper() == "POST" and path == COUNT_TOKENS:
        return Kind.COUNT
    return Kind.OTHER if why_refused(path, in_process=True) is None else Kind.REFUSED


def provider_path(path: str) -> str:
    """The provider's own path: a proxy's address may have more before it."""
    path = path.partition("?")[0]
    for openais in (CHAT_COMPLETIONS, RESPONSES):  # whose servers have addresses without a version too
        if path.endswith(openais.removeprefix("/v1")):
            return openais
    start = path.rfind("/v1/")
    return path if start < 0 else path[start:]
