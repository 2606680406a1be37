"""The names of the shared balances' keys: one hash tag, so that all are on one server, and one epoch a rebuild.

An epoch is one rebuilding of the balances. Its keys are read only while it is the current one, so what a rebuild
leaves half done is never seen.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

Epoch: TypeAlias = str
"""`TOKEN RUN_ID`: one rebuilding, and the process of the server that it was made in."""


@dataclass(frozen=True, slots=True)
class Names:
    """The keys of one set of balances."""

    base: str
    """What all begin with."""

    @property
    def epoch(self) -> str:
        """Holds the current epoch."""
        return f"{self.base}:epoch"

    @property
    def rebuilding(self) -> str:
        """Says which gateway rebuilds, and to which token."""
        return f"{self.base}:rebuilding"

    def alive(self, gateway: str) -> str:
        """Holds a gateway's session while it lives."""
        return f"{self.base}:alive:{gateway}"

    def account(self, token: str, key: str) -> str:
        """Holds what an account holds."""
        return f"{self.base}:e:{token}:account:{key}"

    def open(self, token: str) -> str:
        """Holds the open reservations, by call."""
        return f"{self.base}:e:{token}:open"

    def topped_up(self, token: str) -> str:
        """Holds the top-ups that are taken in."""
        return f"{self.base}:e:{token}:topped-up"

    def of_epochs(self, token: str = "") -> str:
        """What the keys of one epoch begin with, or of all."""
        return f"{self.base}:e:{token}:" if token else f"{self.base}:e:"


def names_in(namespace: str) -> Names:
    """Return the keys of a namespace.

    Raises:
        ValueError: it is not of letters, digits, dots, dashes and underscores.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", namespace):
        raise ValueError(f"{namespace!r} is not of letters, digits, dots, dashes and underscores")
    return Names(f"{{tierwise:{namespace}}}")


def token_of(epoch: Epoch) -> str:
    """The part of an epoch that its keys carry."""
    return epoch.partition(" ")[0]


def run_id_of(epoch: Epoch) -> str:
    """The server's process that an epoch was made in."""
    return epoch.partition(" ")[2]
