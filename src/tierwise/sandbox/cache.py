"""The prompt cache: what a request reads from it, what it writes, and for how long.

A `cache_control` marker ends a prefix of the prompt (tools, system, messages). The longest prefix that an
earlier request with the same model wrote, and that has not expired, is read; what follows up to the last
marker is written, at the price of the next marker's time to live. A prefix shorter than the model's minimum
is neither. As the provider does, a marker looks back over at most 20 blocks for what an earlier one wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from tierwise.sandbox.errors import invalid
from tierwise.sandbox.models import Model
from tierwise.sandbox.tokens import Block, text_tokens

TTL_SECONDS: Final[Mapping[str, int]] = {"5m": 300, "1h": 3600}
MAX_MARKERS: Final = 4
LOOKBACK_BLOCKS: Final = 20
_SWEEP_ABOVE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How the cache divides a prompt's tokens."""

    fresh: int
    read: int = 0
    write_5m: int = 0
    write_1h: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prefix:
    key: bytes
    tokens: int
    ttl: str | None
    """Its marker's time to live; None where no marker stands."""


class Cache:
    """What was written and until when. One event loop owns it."""

    def __init__(self) -> None:
        self._until: dict[bytes, tuple[float, int]] = {}

    def split(
        self, prompt: list[Block], model: Model, *, length: int, auto: Mapping[str, Any] | None, at: float
    ) -> Split:
        """Divide a prompt of `length` tokens and remember what it wrote.

        `at` is in seconds; `auto` is the top-level marker, which ends a prefix at the prompt's end.
        Raises ApiError (400) for more than four markers or a wrong time to live.
        """
        if auto is None and not any(block.marker for block in prompt):
            return Split(fresh=length)
        prefixes = _prefixes(_with_auto(prompt, auto), model)
        _check_markers(prefixes)
        return self._divide(prefixes, model, at)

    def clear(self) -> None:
        """Forget every prefix."""
        self._until.clear()

    def _divide(self, prefixes: list[_Prefix], model: Model, at: float) -> Split:
        marked = [
            place
            for place, prefix in enumerate(prefixes)
            if prefix.ttl and prefix.tokens >= model.min_cacheable_tokens
        ]
        read = self._longest_read(prefixes, marked, at)
        written = {"5m": 0, "1h": 0}
        done = read
        for place in marked:
            prefix = prefixes[place]
            ttl = prefix.ttl or "5m"
            written[ttl] += max(0, prefix.tokens - done)
            done = max(done, prefix.tokens)
            self._write(prefix.key, TTL_SECONDS[ttl], at)
        return Split(
            fresh=prefixes[-1].tokens - done, read=read, write_5m=written["5m"], write_1h=written["1h"]
        )

    def _longest_read(self, prefixes: list[_Prefix], marked: list[int], at: float) -> int:
        for place in reversed(marked):
            for prefix in reversed(prefixes[max(0, place - LOOKBACK_BLOCKS) : place + 1]):
                until, ttl = self._until.get(prefix.key, (0.0, 0))
                if until > at:
                    self._until[prefix.key] = (at + ttl, ttl)  # a read keeps the prefix alive, free of charge
                    return prefix.tokens
        return 0

    def _write(self, key: bytes, ttl: int, at: float) -> None:
        if len(self._until) > _SWEEP_ABOVE:
            self._until = {key: value for key, value in self._until.items() if value[0] > at}
        until, _ = self._until.get(key, (0.0, 0))
        if until <= at:
            self._until[key] = (at + ttl, ttl)


def _with_auto(prompt: list[Block], auto: Mapping[str, Any] | None) -> list[Block]:
    if auto is None or prompt[-1].marker is not None:
        return prompt
    return [*prompt[:-1], prompt[-1]._replace(marker=auto)]


def _prefixes(prompt: list[Block], model: Model) -> list[_Prefix]:
    digest = blake2b(model.id.encode(), digest_size=16)
    size = tokens = 0
    prefixes: list[_Prefix] = []
    for block in prompt:
        size += block.size
        tokens += block.tokens
        identity = block.identity.encode() if isinstance(block.identity, str) else block.identity
        digest.update(b"%d:" % len(identity) + identity)
        marker = block.marker
        prefixes.append(
            _Prefix(
                key=digest.digest(),
                tokens=text_tokens(size, model) + tokens,
                ttl=None if marker is None else marker.get("ttl") or "5m",
            )
        )
    return prefixes


def _check_markers(prefixes: list[_Prefix]) -> None:
    lives = [prefix.ttl for prefix in prefixes if prefix.ttl is not None]
    if len(lives) > MAX_MARKERS:
        raise invalid(
            f"A maximum of {MAX_MARKERS} blocks with cache_control may be provided. Found {len(lives)}."
        )
    wrong = next((ttl for ttl in lives if ttl not in TTL_SECONDS), None)
    if wrong is not None:
        raise invalid(f"cache_control.ephemeral.ttl: Input should be '5m' or '1h', not {wrong!r}")
    if "5m" in lives and "1h" in lives[lives.index("5m") :]:
        raise invalid("cache_control: a ttl='1h' block must not come after a ttl='5m' block")
