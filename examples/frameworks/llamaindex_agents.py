"""LlamaIndex, which knows its models by name, so that the task type is a header: two models, each with its own.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python llamaindex_agents.py
"""

from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic


def tagged(task_type: str, run: str) -> Anthropic:
    """A model whose calls say what they are for."""
    headers = {
        "x-tierwise-task-type": task_type,
        "x-tierwise-run-id": run,
        "x-tierwise-agent": f"{task_type}-agent",
    }
    return Anthropic(model="claude-opus-5-5", max_tokens=4096, default_headers=headers)


def main() -> None:
    """Ask both."""
    for task_type in ("extraction", "synthesis"):
        question = ChatMessage(role="user", content="Who signed the contract?")
        print(tagged(task_type, "run-7").chat([question]).message.content)


if __name__ == "__main__":
    main()
