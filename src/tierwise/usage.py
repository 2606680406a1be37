"""What an upstream call consumed, in disjoint buckets, so that its cost is a plain sum of products."""

from tierwise.values import value


@value
class Usage:
    """Tokens and tool uses of one upstream call; no token is counted twice."""

    input_tokens: int = 0
    """Billed at the full input rate. Excludes the three cache buckets, as the provider's own field does."""
    cache_write_5m_tokens: int = 0
    """Written to the prompt cache for five minutes."""
    cache_write_1h_tokens: int = 0
    """Written to the prompt cache for an hour."""
    cache_read_tokens: int = 0
    """Read from the prompt cache."""
    output_tokens: int = 0
    """Everything generated, thinking included."""
    web_search_requests: int = 0
    """Searches that the provider ran, billed each. Fetches are free and are not counted."""

    @property
    def prompt_tokens(self) -> int:
        """The prompt's whole length: what long-prompt prices look at."""
        return (
            self.input_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.cache_read_tokens
        )


@value
class UsageLine:
    """One priced part of a reply: a usage and what its price depends on."""

    model: str
    """The model that served this part, as the provider names it."""
    usage: Usage
    fast: bool = False
    """Served in fast mode (`usage.speed`)."""
    us_only: bool = False
    """Served with US-only inference (`usage.inference_geo`)."""
    batch: bool = False
    """Served by Message Batches, at half price."""


@value
class Metered:
    """What a reply says that it consumed: one line as a rule, several where other models took part.

    A reply with `iterations[]` has a line for each: compaction, advisor and fallback models are billed
    at their own rates.
    """

    lines: tuple[UsageLine, ...]
    thinking_tokens: int | None = None
    """Of the output, how many were thinking; None where the provider does not say."""
    billed_apart: bool = False
    """Whether the provider bills more than these counts: then they have no cost that anybody knows."""

    @property
    def total(self) -> Usage:
        """All lines' buckets added: for counting tokens, not for pricing them."""
        if len(self.lines) == 1:
            return self.lines[0].usage
        usages = [line.usage for line in self.lines]
        return Usage(
            input_tokens=sum(usage.input_tokens for usage in usages),
            cache_write_5m_tokens=sum(usage.cache_write_5m_tokens for usage in usages),
            cache_write_1h_tokens=sum(usage.cache_write_1h_tokens for usage in usages),
            cache_read_tokens=sum(usage.cache_read_tokens for usage in usages),
            output_tokens=sum(usage.output_tokens for usage in usages),
            web_search_requests=sum(usage.web_search_requests for usage in usages),
        )
