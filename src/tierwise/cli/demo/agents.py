"""The demo's fleet: agents that do planned tasks with the provider's own SDK, in parallel."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, cast

import anthropic
from anthropic.types import Message

from tierwise.core.tasks import AGENT_HEADERS, RUN_ID_HEADERS, TASK_ID_HEADER, TASK_TYPE_HEADER
from tierwise.sandbox import fleet as fleets
from tierwise.sandbox.fleet import PlannedTask

TIMEOUT_S: Final = 120.0
"""Set, so that the SDK lets a large cap pass without streaming."""


async def do_tasks(
    tasks: Iterable[PlannedTask], *, base_url: str, agents: int, done: Callable[[PlannedTask], None]
) -> None:
    """Do all tasks with `agents` workers at once; `done` is called after each.

    Raises:
        anthropic.APIError: a call failed, after the SDK's own retries.
    """
    queue = iter(tasks)
    client = anthropic.AsyncAnthropic(base_url=base_url, api_key="sandbox", timeout=TIMEOUT_S)
    async with client, asyncio.TaskGroup() as group:
        for _ in range(agents):
            group.create_task(_work(client, queue, done))


async def _work(
    client: anthropic.AsyncAnthropic, queue: Iterator[PlannedTask], done: Callable[[PlannedTask], None]
) -> None:
    for task in queue:
        await _do(client, task)
        done(task)


async def _do(client: anthropic.AsyncAnthropic, task: PlannedTask) -> None:
    """One task: its calls in turn, each later one with what came before."""
    headers = {
        TASK_TYPE_HEADER: task.type,
        TASK_ID_HEADER: task.task,
        RUN_ID_HEADERS[0]: task.run,
        AGENT_HEADERS[0]: task.agent,
    }
    conversation: list[dict[str, Any]] = []
    for call in task.calls:
        request = fleets.request_of(call, conversation)
        reply = await _call(client, request, headers)
        conversation = [*request["messages"], {"role": "assistant", "content": reply.to_dict()["content"]}]


async def _call(
    client: anthropic.AsyncAnthropic, request: dict[str, Any], headers: dict[str, str]
) -> Message:
    if not request.pop("stream", False):
        return cast("Message", await client.messages.create(**request, extra_headers=headers))
    async with client.messages.stream(**request, extra_headers=headers) as stream:
        return await stream.get_final_message()
