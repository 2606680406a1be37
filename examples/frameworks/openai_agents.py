"""OpenAI Agents SDK, with LiteLLM's model, which speaks the Messages API: two agents, each with a task type.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python openai_agents.py
"""

from agents import Agent, ModelSettings, Runner, set_tracing_disabled
from agents.extensions.models.litellm_model import LitellmModel


def tagged(task_type: str, run: str) -> Agent:
    """An agent whose calls say what they are for."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-agent"}
    settings = ModelSettings(max_tokens=4096, extra_headers=headers)
    model = LitellmModel(model=f"anthropic/task-{task_type}")
    return Agent(name=f"{task_type}-agent", model=model, model_settings=settings)


def main() -> None:
    """Ask both."""
    set_tracing_disabled(disabled=True)
    for task_type in ("extraction", "synthesis"):
        print(Runner.run_sync(tagged(task_type, "run-7"), "Who signed the contract?").final_output)


if __name__ == "__main__":
    main()
