"""Changes: edits of a body, each with its reason. What fitting asks for and the wire carries out."""

from enum import Enum
from typing import Any, Final

from tierwise.values import value


class Removed(Enum):
    """Type of `REMOVED`."""

    REMOVED = "removed"


REMOVED: Final = Removed.REMOVED
"""In place of a value: the key goes. An object that this leaves empty goes too."""


@value
class Change:
    """One edit of a body. A key that is to be removed may be absent already."""

    path: tuple[str, ...]
    """Keys from the top of the body: `("output_config", "effort")`."""
    after: Any
    """The new value, or `REMOVED`."""
    before: Any
    """The value as sent, as far as the call knows it; None where it does not, or the key was absent."""
    rule: str
    """The table's row that asks for it, or `decision.…`: short and stable, for counting."""
    why: str
    """One sentence, for people."""


def edit(path: tuple[str, ...], before: Any, after: Any, rule: str, why: str) -> Change:
    """Make a change, in the order in which it is told."""
    return Change(path=path, before=before, after=after, rule=rule, why=why)
