"""The estimate: what a call can cost at most, worked out from its size before it leaves.

A body of n bytes holds at most n tokens, since a token of a byte-level tokenizer is at least one byte of text; the
few tokens that frame a message are fewer than the bytes of JSON around it. A policy may take the ledger's experience
for a tighter bound (`Calibration`), and near a limit the provider is asked to count: its count is an estimate too,
and is taken with a fiftieth and 200 tokens on top. What is not text is bounded by itself:

* The provider adds prompts of its own for tools, at most 1,000 tokens for all together and for each tool of its own.
* An image is at most about 4,800 tokens, however few bytes it has; 8,000 are counted.
* Where the body does not tell what will be read (a URL, a file, a document's pages, results of the provider's
  tools, what a thread holds), the model's context window is the bound: a longer prompt is refused, and not billed.
  The window bounds every other prompt too.

All of the prompt is priced in the dearest bucket that the call can use, at the prices of a prompt of that length,
and all of the cap as output. Price books are expected to price a longer prompt no lower than a shorter one.

Three features let the provider read the prompt, and write, once more in the same call; each adds the whole again:

* Compaction reads the prompt to sum it up, with the same model.
* Fallbacks answer with another model after the first one has begun.
* An advisor reads the conversation with another model.

Which other model is not looked at: the dearest of the price book stands for it. Two things can pass the bound, and
are accepted because their own bounds would be too high to be of use: more than 100 searches in one call, and a tool
loop at the provider that reads a long prompt again at every step.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tierwise.core.calibration import UNCALIBRATED, Calibration
from tierwise.core.call import Call
from tierwise.core.catalog import find
from tierwise.core.pricing import PriceBook
from tierwise.money import ATTOS_PER_NANO, Attos, Nanos, round_up
from tierwise.usage import Metered, Usage, UsageLine

CacheWrites: TypeAlias = Literal["none", "5m", "1h"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a body tells of the size of its prompt."""

    body_bytes: int
    """Length of the body: no fewer than the tokens of its text."""
    attachments: int
    """Images and documents whose bytes stand in the body."""
    open_ended: bool
    """Whether the prompt holds something whose size the body does not tell."""
    cache_writes: CacheWrites
    """The longest time to live among its cache marks; none where it has no mark."""
    grows: bool = False
    """Whether the provider may add to the prompt while it answers, so that a count of it is no bound."""
    kind: str = "ascii"
    """Of its bytes: `ascii`, or `unicode` where any is outside."""

    @property
    def plain(self) -> bool:
        """Whether the body is the whole prompt, and text: what a ratio of tokens to bytes can be learned from."""
        return not self.attachments and not self.open_ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The most that a call can cost, as a function of its `max_tokens`."""

    fixed_attos: Attos
    """The prompt and the searches."""
    output_attos_each: Attos
    """One token of the cap."""

    def cost_nanos(self, max_tokens: int) -> Nanos:
        """Return the most that the call can cost with this cap, rounded up."""
        return round_up(self.fixed_attos + max_tokens * self.output_attos_each)

    def most_tokens(self, nanos: Nanos) -> int | None:
        """Return the largest cap whose `cost_nanos` is within an amount; None where the prompt alone is above it.

        Where output is free, it is a number that no model's cap reaches.
        """
        left = nanos * ATTOS_PER_NANO - self.fixed_attos
        if left < 0:
            return None
        return left // self.output_attos_each if self.output_attos_each else _ANY_CAP


def estimate(
    call: Call,
    contents: Contents,
    *,
    model: str,
    prices: PriceBook,
    at_us: int,
    calibration: Calibration = UNCALIBRATED,
    counted: int | None = None,
) -> Estimate | None:
    """Bound what a call costs, by the rules above.

    None where the model has no price at that instant, or none for a bucket that the call can use. Of the other
    models that may take part, those without such prices are left out.

    Args:
        call: the call as read.
        contents: what its body tells of its size.
        model: the id that the call is sent with.
        prices: what tokens cost.
        at_us: the instant that settles the prices, in microseconds since 1970 UTC.
        calibration: what is known of texts' tokens.
        counted: the prompt's tokens by the provider's own count for this model; None where it was not asked.
    """

    def by_model(name: str) -> Estimate | None:
        tokens = _prompt_tokens(call, contents, name, calibration)
        if counted is not None and name == model:
            tokens = min(tokens, counted + counted // 50 + 200)
        return _by_model(call, contents, name, tokens=tokens, prices=prices, at_us=at_us)

    own = by_model(model)
    if own is None:
        return None
    advised = any(kind.startswith("advisor") for kind in call.tool_types)
    names = prices.models() if call.fallbacks or advised else ()
    others = (by_model(name) for name in names if name != model)
    dearest = _dearest([own, *(other for other in others if other is not None)])
    readings = 1 + call.compaction + call.fallbacks + advised
    if readings == 1:
        return dearest
    return Estimate(
        fixed_attos=readings * dearest.fixed_attos, output_attos_each=readings * dearest.output_attos_each
    )


_ANY_CAP: Final = 2**31 - 1
_ADDED_TOKENS: Final = 1_000
_ATTACHMENT_TOKENS: Final = 8_000
_LARGEST_WINDOW: Final = 1_000_000
_SEARCHES: Final = 100

_BUCKETS: Final[dict[CacheWrites, tuple[str, ...]]] = {
    "none": ("input_tokens",),
    "5m": ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    "1h": ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
}
"""Where a prompt's tokens can fall."""


def _by_model(
    call: Call, contents: Contents, model: str, *, tokens: int, prices: PriceBook, at_us: int
) -> Estimate | None:
    """Bound one reading by one model: on the dearer card, where it is not sure that fast mode will serve it."""
    usages = _usages(call, contents, tokens)
    us_only = call.inference_geo == "us"
    cards: list[Estimate] = []
    for fast in (False, True) if call.speed == "fast" else (False,):
        lines = [
            UsageLine(model=model, usage=usage, fast=fast, us_only=us_only, batch=call.batch)
            for usage in usages
        ]
        costs = [prices.exact_cost(Metered(lines=(line,)), at_us) for line in lines]
        known = [attos for attos in costs if attos is not None]
        if len(known) == len(costs):
            with_output, *fixed = known
            cards.append(Estimate(fixed_attos=max(fixed), output_attos_each=with_output - fixed[0]))
    return _dearest(cards) if cards else None


def _dearest(estimates: list[Estimate]) -> Estimate:
    if len(estimates) == 1:
        return estimates[0]
    return Estimate(
        fixed_attos=max(each.fixed_attos for each in estimates),
        output_attos_each=max(each.output_attos_each for each in estimates),
    )


def _usages(call: Call, contents: Contents, tokens: int) -> list[Usage]:
    """The whole prompt in each bucket that it can fall in, plain input first; before them, that one and one token.

    The output token goes with the prompt because a prompt's length decides what its output costs.
    """
    searches = _SEARCHES if _may_search(call) else 0
    fixed = [
        Usage(**{bucket: tokens}, web_search_requests=searches) for bucket in _BUCKETS[contents.cache_writes]
    ]
    return [Usage(input_tokens=tokens, output_tokens=1, web_search_requests=searches), *fixed]


def _may_search(call: Call) -> bool:
    """Whether the provider may search: a thread that goes on can hold the tool from an earlier call."""
    return call.continues_thread or any(kind.startswith("web_search") for kind in call.tool_types)


def _prompt_tokens(call: Call, contents: Contents, model: str, calibration: Calibration) -> int:
    known = find(model)
    text = contents.body_bytes
    if contents.plain:
        text = calibration.most_tokens(model, contents.kind, text)
    told = text + _ADDED_TOKENS * (1 + len(call.tool_types)) + _ATTACHMENT_TOKENS * contents.attachments
    if known is None:
        return max(told, _LARGEST_WINDOW) if contents.open_ended else told
    return known.context_tokens if contents.open_ended else min(told, known.context_tokens)
