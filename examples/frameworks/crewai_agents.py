"""CrewAI: a crew of two agents, each with a task type of its own.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python crewai_agents.py
"""

from crewai import LLM, Agent, Crew, Task


def tagged(task_type: str, run: str) -> LLM:
    """A model whose calls say what they are for; the provider is named because the model's name does not tell it."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-agent"}
    client = {"default_headers": headers}
    return LLM(model=f"task-{task_type}", provider="anthropic", max_tokens=4096, client_params=client)


def main() -> None:
    """Let both work, one after the other."""
    tasks = [
        Task(
            description="Who signed the contract?",
            expected_output="A name.",
            agent=Agent(role="Reader", goal="Answer", backstory="Reads contracts", llm=tagged(name, "run-7")),
        )
        for name in ("extraction", "synthesis")
    ]
    print(Crew(tasks=tasks, agents=[task.agent for task in tasks]).kickoff())


if __name__ == "__main__":
    main()
