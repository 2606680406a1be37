"""A call that may be compared, until its pair is made: with its texts and credential, in memory alone."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tierwise.core.changes import Change
from tierwise.engine.desk import Opened, Reading
from tierwise.engine.listening import Kept, ListeningCaller
from tierwise.engine.relay import Caller
from tierwise.engine.shadowing import Comparison
from tierwise.upstream.port import Outgoing


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A call that is to be compared if it ends well."""

    reading: Reading
    opened: Opened
    comparison: Comparison
    probability: float
    cluster: str
    key_id: str
    outgoing: Callable[[tuple[Change, ...]], Outgoing]
    """Makes the request to the provider out of the changes to its body; holds the caller's credential."""
    kept: Kept = field(default_factory=Kept)

    def listen(self, caller: Caller) -> Caller:
        """A caller that keeps the reply too."""
        return ListeningCaller(caller, self.kept)

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.reading.raw) + self.kept.size
