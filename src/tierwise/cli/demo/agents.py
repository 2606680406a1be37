"""The demo's fleet: agents that do planned tasks with the provider's own SDK, in parallel."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import anthropic
from anthropic.types import Message, MessageParam, ToolUseBlock

from tierwise.core.tasks import AGENT_HEADERS, RUN_ID_HEADERS, TASK_ID_HEADER, TASK_TYPE_HEADER
from tierwise.sandbox.fleet import PlannedCall, PlannedTask

TOOLS: Final[list[Any]] = [
    {
        "name": "look_up",
        "description": "Look something up in the files at hand.",
        "input_schema": {"type": "object", "properties": {"query": {"type": "string"}}},
    }
]
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
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="sandbox", timeout=TIMEOUT_S) as client:
        async with asyncio.TaskGroup() as group:
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
    messages: list[MessageParam] = []
    for call in task.calls:
        messages.append(_next_turn(messages, call))
        reply = await _call(client, task, call, messages)
        messages.append({"role": "assistant", "content": reply.content})


async def _call(
    client: anthropic.AsyncAnthropic, task: PlannedTask, call: PlannedCall, messages: list[MessageParam]
) -> Message:
    arguments: dict[str, Any] = {
        "model": call.model,
        "max_tokens": call.max_tokens,
        "messages": messages,
        "extra_headers": {
            TASK_TYPE_HEADER: task.type,
            TASK_ID_HEADER: task.task,
            RUN_ID_HEADERS[0]: task.run,
            AGENT_HEADERS[0]: task.agent,
        },
    }
    if call.system is not None:
        arguments["system"] = [{"type": "text", "text": call.system, "cache_control": {"type": "ephemeral"}}]
    if call.tools:
        arguments["tools"] = TOOLS
    if not call.stream:
        reply: Message = await client.messages.create(**arguments)
        return reply
    async with client.messages.stream(**arguments) as stream:
        return await stream.get_final_message()


def _next_turn(messages: list[MessageParam], call: PlannedCall) -> MessageParam:
    """The next user turn: the prompt, after the result of the tool that the last reply asked for."""
    asked = messages[-1]["content"] if messages else ()
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "found"}
        for block in asked
        if isinstance(block, ToolUseBlock)
    ]
    return {"role": "user", "content": [*results, {"type": "text", "text": call.prompt}]}
