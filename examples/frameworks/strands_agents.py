"""Strands: two agents, each with a task type of its own.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python strands_agents.py
"""

from strands import Agent
from strands.models.anthropic import AnthropicModel


def tagged(task_type: str, run: str) -> AnthropicModel:
    """A model whose calls say what they are for."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-agent"}
    client = {"default_headers": headers}
    return AnthropicModel(model_id=f"task-{task_type}", max_tokens=4096, client_args=client)


def main() -> None:
    """Ask both."""
    for task_type in ("extraction", "synthesis"):
        print(Agent(tagged(task_type, "run-7"), callback_handler=None)("Who signed the contract?"))


if __name__ == "__main__":
    main()
