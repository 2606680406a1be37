"""Policies that several tests share."""

from tierwise.config import Book, parse_book

TWO_TIERS = """
[tiers.frontier]
model = "claude-opus-5-5"
effort = "medium"

[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"

[task_types.synthesis]
tier = "frontier"
max_tokens = 8192

[task_types.extraction]
tier = "fast"
max_tokens = 512
"""
"""Two tiers, a task type on each; forty times apart in price."""


def book(text: str = TWO_TIERS) -> Book:
    """Parse a policy, with the package's prices."""
    return parse_book(text, file="tierwise.toml")


def with_upstream(text: str, base_url: str, **settings: object) -> str:
    """Add the provider's address, and other settings of `[upstream]`, to a policy."""
    lines = [f'base_url = "{base_url}"', *(f"{name} = {value!r}" for name, value in settings.items())]
    return "\n".join([text, "[upstream]", *lines, ""])


OPENAI_PRICES = """
[[prices]]
model = "gpt-5"
input_usd_per_mtok = "1.25"
cache_read_usd_per_mtok = "0.125"
output_usd_per_mtok = "10"

[[prices]]
model = "gpt-5-mini"
input_usd_per_mtok = "0.25"
cache_read_usd_per_mtok = "0.025"
output_usd_per_mtok = "2"
"""
"""What the sandbox charges OpenAI's clients."""


def with_openai(text: str, base_url: str, more: str = "") -> str:
    """Add an OpenAI-compatible server to a policy of two tiers; `more` are other lines of `[openai]`."""
    return f"""{text}
{OPENAI_PRICES}
[openai]
base_url = "{base_url}"
{more}
[openai.tiers.frontier]
model = "gpt-5"
effort = "medium"

[openai.tiers.fast]
model = "gpt-5-mini"
"""
