"""The SDK's tool runner as programs use it: one tool, two turns, on a thread unless something forbids it."""

from collections.abc import Callable
from typing import Any

import anthropic
from anthropic import beta_async_tool, beta_tool
from anthropic.types.beta import BetaMessage

ASKED = {"role": "user", "content": "Look it up."}


def nothing() -> None:
    """Do nothing while the tool runs."""


def look_it_up(
    client: Any, *, stream: bool, between: Callable[[], None] = nothing, **asked: Any
) -> BetaMessage:
    """Have a sync client run until the model is done; `between` is called while the tool runs."""

    @beta_tool
    def look_up(key: str) -> str:
        """Look up a record.

        Args:
            key: the record's key
        """
        between()
        return f"found {key}"

    runner = client.beta.messages.tool_runner(
        max_tokens=500, tools=[look_up], messages=[ASKED], stream=stream, **asked
    )
    if not stream:
        return runner.until_done()
    return [turn.get_final_message() for turn in runner][-1]


async def look_it_up_async(
    client: Any, *, stream: bool, between: Callable[[], None] = nothing, **asked: Any
) -> BetaMessage:
    """Have an async client run until the model is done."""

    @beta_async_tool
    async def look_up(key: str) -> str:
        """Look up a record.

        Args:
            key: the record's key
        """
        between()
        return f"found {key}"

    runner = client.beta.messages.tool_runner(
        max_tokens=500, tools=[look_up], messages=[ASKED], stream=stream, **asked
    )
    if not stream:
        return await runner.until_done()
    return [await turn.get_final_message() async for turn in runner][-1]


async def look_it_up_at(base_url: str, *, is_async: bool, **asked: Any) -> BetaMessage:
    """Have a client of either kind run against an address. The event loop waits while a sync one does."""
    told: dict[str, Any] = {"base_url": base_url, "api_key": "any", "max_retries": 0}
    if is_async:
        async with anthropic.AsyncAnthropic(**told) as client:
            return await look_it_up_async(client, **asked)
    with anthropic.Anthropic(**told) as client:
        return look_it_up(client, **asked)
