"""Which tier a conversation is on, for as long as its cache may be warm. In process; lost with it.

A lost key costs a decision made afresh, never a wrong entry.
"""

from typing import Final

CAPACITY: Final = 200_000
"""Conversations remembered at once; beyond it the one not used for longest is forgotten."""


class Conversations:
    """Tiers by conversation key, each until its time to live after the last use."""

    def __init__(self, *, capacity: int = CAPACITY) -> None:
        """Remember at most `capacity` conversations."""
        self._capacity = capacity
        self._tiers: dict[str, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._tiers)

    def tier(self, key: str, *, at_us: int) -> str | None:
        """Return the tier that a conversation has at a time (microseconds since 1970); None for a new one."""
        found = self._tiers.get(key)
        if found is None:
            return None
        if found[1] <= at_us:
            del self._tiers[key]
            return None
        return found[0]

    def keep(self, key: str, tier: str, *, until_us: int) -> None:
        """Remember the tier of a conversation until a time (microseconds since 1970)."""
        self._tiers.pop(key, None)
        if len(self._tiers) >= self._capacity:
            del self._tiers[next(iter(self._tiers))]
        self._tiers[key] = (tier, until_us)
