"""OpenAI Agents SDK with its own models, by Responses and by Chat Completions: two agents, each with a task type.

OPENAI_BASE_URL=http://127.0.0.1:4000/v1 OPENAI_API_KEY=… python openai_agents_native.py
"""

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI


@function_tool
def contract(name: str) -> str:
    """Read a contract."""
    return f"{name}: signed by Acme in 2007."


def tagged(task_type: str, run: str, by: type[OpenAIResponsesModel | OpenAIChatCompletionsModel]) -> Agent:
    """An agent whose calls say what they are for."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-agent"}
    model = by(model=f"task/{task_type}", openai_client=AsyncOpenAI(default_headers=headers))
    settings = ModelSettings(max_tokens=4096)
    return Agent(name=f"{task_type}-agent", model=model, model_settings=settings, tools=[contract])


def main() -> None:
    """Ask both."""
    set_tracing_disabled(disabled=True)
    for task_type, by in (("extraction", OpenAIResponsesModel), ("synthesis", OpenAIChatCompletionsModel)):
        print(Runner.run_sync(tagged(task_type, "run-7", by), "Who signed the contract?").final_output)


if __name__ == "__main__":
    main()
