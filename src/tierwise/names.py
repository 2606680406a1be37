"""Names: which known one somebody meant, who wrote another or only its beginning."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None where nothing is close.

    Case counts for nothing, and dashes, underscores and spaces are the same.
    """
    return _nearest(name, tuple(known))


def begun(beginning: str, known: Iterable[str]) -> list[str]:
    """Return the known names that a beginning may stand for: the one that it is, else all that begin with it."""
    names = dict.fromkeys(known)
    return [beginning] if beginning in names else [name for name in names if name.startswith(beginning)]


@lru_cache(maxsize=1024)
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    by_plain = {_plain(candidate): candidate for candidate in known}
    matches = get_close_matches(_plain(name), by_plain, n=1, cutoff=0.6)
    return by_plain[matches[0]] if matches else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")
