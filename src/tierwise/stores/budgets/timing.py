"""The times of the shared balances."""

from dataclasses import dataclass

from tierwise.stores.ledger.writer import PATIENCE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long what takes, in seconds."""

    grace_s: float = PATIENCE_S + 1
    """After a reservation: the ledger holds it by then, or its call is not sent."""
    beat_s: float = 2.0
    """How often a gateway says that it lives, and looks whether the balances are still there."""
    alive_s: float = 10.0
    """How long it counts as living after it has said so."""
    look_s: float = 15.0
    """How often a gateway looks after the reservations of the dead."""
    silence_s: float = 1.0
    """Longest silence of the server."""
