"""Sampling: which tasks become pairs, settled by a hash before anything is known of them.

Tasks of one conversation or repository resemble each other, and twenty pairs of one session are not twenty pieces of
evidence: taken as such they turn an error of 5 % into one of 36 %. So the cluster key is hashed, not the task, and a
cluster gives one pair a day at most. Its tasks share the day's draw, so that the pair is the first of them that may be
shadowed: the evidence is about clusters' first tasks of a day.

Draws for different purposes are independent, and the same in every process that knows the salt.
"""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias


class Purpose(StrEnum):
    """What a draw decides."""

    PAIR = "pair"
    """Whether a task becomes a pair."""
    DIRECTION = "direction"
    """Which tier it is compared with, where there are several: a dearer one and a cheaper, or those that it names."""
    CHECK = "check"
    """Whether its reply is checked."""
    HOLDBACK = "holdback"
    """Whether it stays on the dearer tier, where the autopilot sends its type to a cheaper one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """The task becomes a pair."""

    probability: float
    """With which probability a cluster like it is sampled: it belongs in the entry."""


class Skipped(StrEnum):
    """Why the task does not become a pair."""

    NOT_DRAWN = "not drawn"
    CLUSTER_HAS_ITS_PAIR = "its cluster has its pair of the day"


Sampling: TypeAlias = Sampled | Skipped


def uniform(purpose: Purpose, *parts: str | int, salt: str) -> float:
    """A number from 0 up to, without, 1 that depends on nothing but its arguments, and looks random."""
    text = "\x1f".join((salt, purpose, *(str(part) for part in parts)))
    return (int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) >> 11) * 2.0**-53


def sample(*, draw: float, rate: float, cluster_has_pair: bool) -> Sampling:
    """Decide whether a task becomes a pair.

    `draw` is `uniform(Purpose.PAIR, line id, cluster key, day)`. `rate` was fixed before the task came.
    `cluster_has_pair` says whether its cluster gave a pair today.
    """
    assert 0 <= rate <= 1
    if cluster_has_pair:
        return Skipped.CLUSTER_HAS_ITS_PAIR
    return Sampled(probability=rate) if draw < rate else Skipped.NOT_DRAWN
