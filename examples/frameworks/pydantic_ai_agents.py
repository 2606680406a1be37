"""Pydantic AI: two agents, each with a task type of its own.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python pydantic_ai_agents.py
"""

from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.settings import ModelSettings


def tagged(task_type: str, run: str) -> Agent:
    """An agent whose calls say what they are for."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-agent"}
    settings = ModelSettings(max_tokens=4096, extra_headers=headers)
    return Agent(AnthropicModel(f"task-{task_type}"), model_settings=settings)


def main() -> None:
    """Ask both."""
    for task_type in ("extraction", "synthesis"):
        print(tagged(task_type, "run-7").run_sync("Who signed the contract?").output)


if __name__ == "__main__":
    main()
