"""What OpenAI's clients are charged in the sandbox: a price table and a bill of its own, exact to the nanodollar.

Prices are US dollars per million tokens: OpenAI's list prices, and figures of our own for two models that there are
nowhere else. A search has one price for all. All arithmetic is done in fractions; each call is rounded once, half to
even, to whole nanodollars.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one call, as OpenAI counts them."""

    prompt: int
    """The whole prompt, what was cached included."""
    cached: int
    output: int
    """All that was generated, reasoning included."""
    reasoning: int


_PRICES: Final[Mapping[str, tuple[str, str, str]]] = {
    "gpt-4o-mini-2024-07-18": ("0.15", "0.075", "0.6"),
    "gpt-4.1-2025-04-14": ("2", "0.5", "8"),
    "o3-mini-2025-01-31": ("1.1", "0.55", "4.4"),
    "o4-mini-2025-04-16": ("1.1", "0.275", "4.4"),
    "gpt-5-2025-08-07": ("1.25", "0.125", "10"),
    "gpt-5.1-2025-11-13": ("1.25", "0.125", "10"),
    "gpt-5.2-2025-12-11": ("1.75", "0.175", "14"),
    "gpt-5.5-2026-04-23": ("5", "0.5", "30"),
    "gpt-5.6-terra": ("2", "0.2", "12"),
    "gpt-6-sol": ("2", "0.2", "10"),
    "gpt-5-mini-2025-08-07": ("0.25", "0.025", "2"),
    "gpt-4o-mini-search-preview-2025-03-11": ("0.15", "0.075", "0.6"),
    "sandbox-large": ("3", "0.3", "15"),
    "sandbox-small": ("0.1", "0.01", "0.4"),
}
"""Of input, cached input and output."""

SEARCH_NANOS: Final = 10_000_000
"""A web search: ten dollars a thousand."""


def price(model: str, tokens: Tokens) -> int:
    """What these tokens cost, in whole nanodollars."""
    fresh, cached, output = (Fraction(usd) * 1000 for usd in _PRICES[model])
    exact = (tokens.prompt - tokens.cached) * fresh + tokens.cached * cached + tokens.output * output
    return round(exact)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One call on the bill."""

    request_id: str
    model: str
    kind: str
    tokens: Tokens
    searches: int
    """Web searches that the provider ran."""
    nanos: int
    ending: str
    """`stop`, `length`; `left`, `cut` or `error` where it was not whole."""
    fields: tuple[str, ...]
    """Names of the body's fields, as they came."""
    sent: Mapping[str, Any]
    """Those of them that a gateway may change."""
    headers: Mapping[str, str]
    """Names and values of the request's headers, but for credentials."""


@dataclass(slots=True)
class Bill:
    """All calls that were charged."""

    lines: list[Line] = field(default_factory=list[Line])

    def told(self) -> dict[str, Any]:
        """The bill as JSON."""
        return {
            "total_nanos": sum(line.nanos for line in self.lines),
            "calls": [asdict(line) for line in self.lines],
        }
