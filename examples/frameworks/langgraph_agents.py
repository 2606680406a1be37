"""LangGraph, with LangChain's model: two nodes, each with a task type of its own.

ANTHROPIC_BASE_URL=http://127.0.0.1:4000 python langgraph_agents.py
"""

from typing import Any

from langchain_anthropic import ChatAnthropic
from langgraph.graph import END, START, MessagesState, StateGraph


def tagged(task_type: str, run: str) -> ChatAnthropic:
    """A model whose calls say what they are for."""
    headers = {"x-tierwise-run-id": run, "x-tierwise-agent": f"{task_type}-node"}
    return ChatAnthropic(model=f"task-{task_type}", max_tokens=4096, default_headers=headers)


def main() -> None:
    """Ask both, one after the other."""
    graph = StateGraph(MessagesState)
    before = START
    for task_type in ("extraction", "synthesis"):
        model = tagged(task_type, "run-7")

        def node(state: MessagesState, model: ChatAnthropic = model) -> dict[str, Any]:
            return {"messages": [model.invoke(state["messages"][:1])]}

        graph.add_node(task_type, node)
        graph.add_edge(before, task_type)
        before = task_type
    graph.add_edge(before, END)
    for message in graph.compile().invoke({"messages": [("user", "Who signed the contract?")]})["messages"]:
        print(message.text)


if __name__ == "__main__":
    main()
