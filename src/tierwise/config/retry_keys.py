"""The keys of another attempt: what is tried again, where, how often, and on which tier."""

from typing import Final

from tierwise.config.addresses import Address, Addresses
from tierwise.config.kinds import Duration, Flag, Text, Whole, Word
from tierwise.config.tables import Key
from tierwise.core.policy import OnTruncation

FALLBACK_URLS: Final[Key[tuple[str, ...]]] = Key(
    name="fallback_urls",
    kind=Addresses(Address()),
    meaning="Where the Messages API is too. A retry goes to the next of them, with the credentials of its call: "
    "list only addresses that may have them. Read at a start.",
    example='["https://llm.example.com"]',
    absent="none",
)
RETRIES: Final[Key[int]] = Key(
    name="retries",
    kind=Whole(what="retries", least=0, most=10),
    meaning="How often a call is made again that fails before its reply begins: 429, 500, 502, 503, 504, 529, no "
    "connection, one that broke, or silence. Each is a call of its own in the ledger. After the last one the caller is "
    "told not to try again; 0 leaves all retries to it.",
    example="3",
    absent="2",
)
RETRY_FOR: Final[Key[int]] = Key(
    name="retry_for",
    kind=Duration(),
    meaning="How long after its call was read the last retry may begin, without the silence that ended in a "
    "`read_timeout`. A provider that asks for a longer wait is passed on as it is.",
    example='"1m"',
    absent='"30s"',
)
RETRY_TIMEOUTS: Final[Key[bool]] = Key(
    name="retry_timeouts",
    kind=Flag(),
    meaning="Whether a call is made again that the provider did not begin to answer within `read_timeout`. The "
    "provider may bill both: what was set aside for the first is kept.",
    example="false",
    absent="true",
)
ON_TRUNCATION: Final[Key[OnTruncation]] = Key(
    name="on_truncation",
    kind=Word(("return", "raise-cap", "escalate")),
    meaning="What becomes of a reply that its cap cut, where it does not stream. `return`: its caller gets it. "
    "`raise-cap`: the call is made once more with up to four times the cap, never more than the caller's own. "
    "`escalate`: so, or on the next stronger tier, whichever is expected to be cheaper by the lengths of earlier "
    "replies. Where the other attempt fails, the caller gets the cut reply.",
    example='"raise-cap"',
    absent='"return"',
)
CASCADE: Final[Key[bool]] = Key(
    name="cascade",
    kind=Flag(),
    meaning="Whether calls go to the next cheaper tier first, and once more to the type's own where the reply fails "
    "`quality.check`. The caller gets one reply. For types with an exact check whose calls may be made twice; calls "
    "that stream, and those made in process, go to the type's own tier.",
    example="false",
    absent="false",
)
FALLBACK: Final[Key[str]] = Key(
    name="fallback",
    kind=Text(noun="a tier's name"),
    meaning="The tier that a call goes to where its own tier's model still answers 5xx or 529 after all retries. Only "
    "new conversations are moved.",
    example='"fast"',
    absent="calls stay on their tier",
)
