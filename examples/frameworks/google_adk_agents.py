"""Google's Agent Development Kit: two agents, each with a task type of its own.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python google_adk_agents.py
"""

import asyncio

from anthropic import AsyncAnthropic
from google.adk.agents import LlmAgent
from google.adk.models.anthropic_llm import AnthropicLlm
from google.adk.runners import InMemoryRunner


def tagged(task_type: str, run: str) -> AnthropicLlm:
    """A model whose calls say what they are for."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-agent"}
    client = AsyncAnthropic(default_headers=headers)
    return AnthropicLlm(model=f"task-{task_type}", max_tokens=4096, client=client)


async def main() -> None:
    """Ask both."""
    for task_type in ("extraction", "synthesis"):
        agent = LlmAgent(name=task_type, model=tagged(task_type, "run-7"))
        for event in await InMemoryRunner(agent=agent).run_debug("Who signed the contract?", quiet=True):
            print(event.content.parts[0].text)


if __name__ == "__main__":
    asyncio.run(main())
