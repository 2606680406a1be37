"""OpenAI's SDK through a gateway that serves it: calls of both of its APIs, each with a task type.

OPENAI_BASE_URL=http://127.0.0.1:4000/v1 OPENAI_API_KEY=... python examples/openai_sdk.py
"""

import openai


def tagged(run: str, agent: str) -> openai.OpenAI:
    """A client whose calls say which run they belong to, and who makes them."""
    return openai.OpenAI(default_headers={"x-tierwise-run-id": run, "x-tierwise-agent": agent})


def main() -> None:
    """Ask by Chat Completions and by Responses."""
    client = tagged("run-7", "reader")
    completion = client.chat.completions.create(
        model="task/extraction", messages=[{"role": "user", "content": "Who signed the contract?"}]
    )
    print("extraction:", completion.model)
    response = client.responses.create(model="task/synthesis", input="Who signed the contract, and why?")
    print("synthesis:", response.model)


if __name__ == "__main__":
    main()
