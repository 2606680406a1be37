"""Routed, budgeted and recorded calls without a gateway: against the sandbox, so that no key and no network is needed.

python examples/in_process.py
"""

import tempfile
from pathlib import Path

import anthropic

import tierwise
from tierwise.config import starter_policy
from tierwise.sandbox.server import running


def main() -> None:
    """Make two calls and say which model answered."""
    with tempfile.TemporaryDirectory() as folder, running() as sandbox:
        policy = Path(folder, "tierwise.toml")
        policy.write_text(starter_policy(), encoding="utf-8")
        router = tierwise.Router.from_file(policy)
        with tierwise.Session(router, ledger=Path(folder, "tierwise.sqlite3")) as session:
            client = anthropic.Anthropic(
                base_url=sandbox.base_url, api_key="any", middleware=[tierwise.middleware(session)]
            )
            for task_type in ("extraction", "synthesis"):
                with tierwise.task(task_type, run="run-7"):
                    reply = client.messages.create(
                        model="claude-opus-5-5",
                        max_tokens=4096,
                        messages=[{"role": "user", "content": "Who signed the contract?"}],
                    )
                print(f"{task_type}: {reply.model}")


if __name__ == "__main__":
    main()
