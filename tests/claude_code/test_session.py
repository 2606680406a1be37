"""The real Claude Code, as its Agent SDK bundles it, through the gateway: a scripted session with two subagents."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.environments import ROOT, clean_environment, environment
from support.gateways import RunningGateway, running_gateway
from tierwise.sandbox.server import Running, running

pytestmark = pytest.mark.claude_code

POLICY: Final = """
[tiers.frontier]
model = "claude-opus-5-5"
effort = "medium"

[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"

[task_types.coordination]
tier = "frontier"
max_tokens = 16384

[task_types.triage]
tier = "fast"
max_tokens = 2048

[task_types.synthesis]
tier = "frontier"
max_tokens = 8192

[[match]]
task_type = "coordination"
headers.x-claude-code-request-class = "main"
"""

AGENTS: Final = ("triage", "synthesis")


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


def play(*lines: dict[str, Any]) -> str:
    """A prompt that says what the sandbox replies to it, turn by turn."""
    return f"[[play {json.dumps(lines)}]]"


def use(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "input": fields}


def delegated(agent: str, read: Path) -> dict[str, Any]:
    """The main agent's use of a subagent that reads a file twice before it answers."""
    look = {"use": [use("Read", file_path=str(read))]}
    prompt = play(look, look, {"text": f"This is the {agent}."})
    return use("Agent", description=agent, prompt=prompt, subagent_type=agent, run_in_background=False)


def converse(folder: Path, gateway: RunningGateway, prompt: str) -> subprocess.CompletedProcess[str]:
    """Run the example's session in a clean copy of its folder."""
    project = folder / "project"
    shutil.copytree(ROOT / "examples" / "claude_code", project)
    variables = clean_environment(
        folder / "home",
        gateway.base_url,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        CLAUDE_CODE_GATEWAY_HINT_HEADERS="1",
    )
    command = [str(environment("claude-code")), str(project / "session.py"), prompt]
    return subprocess.run(
        command, env=variables, cwd=project, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_session_with_two_subagents_is_routed_by_type_capped_and_recorded(
    tmp_path: Path, sandbox: Running
) -> None:
    request = tmp_path / "request.txt"
    request.write_text("Where is my invoice?")
    prompt = play({"use": [delegated(agent, request) for agent in AGENTS]}, {"text": "Both have answered."})

    with running_gateway(tmp_path, sandbox.base_url, policy=POLICY) as gateway:
        ran = converse(tmp_path, gateway, prompt)
        calls = gateway.settled()

    assert ran.returncode == 0, ran.stderr
    session, _, answer = ran.stdout.removeprefix("session ").strip().partition(": ")
    assert answer == "Both have answered."

    by_type = {
        name: [call for call in calls if call["task_type"] == name] for name in (*AGENTS, "coordination")
    }
    assert {name: len(found) for name, found in by_type.items()} == {
        "triage": 3,
        "synthesis": 3,
        "coordination": 2,
    }
    assert len(calls) == 8
    assert {call["ending"] for call in calls} == {"posted"}
    assert {call["run_id"] for call in calls} == {session}

    def seen(name: str, *columns: str) -> set[tuple[Any, ...]]:
        return {tuple(call[column] for column in columns) for call in by_type[name]}

    routed = ("declared", "requested_model", "tier", "served_model", "max_tokens_asked", "max_tokens_sent")
    assert seen("triage", *routed) == {("model", "task-triage", "fast", "claude-haiku-5-5", 32_000, 2048)}
    assert seen("synthesis", *routed) == {
        ("model", "task-synthesis", "frontier", "claude-opus-5-5", 32_000, 8192)
    }
    assert seen("coordination", *routed) == {
        ("match", "claude-opus-5-5", "frontier", "claude-opus-5-5", 128_000, 16_384)
    }
    ((triage,),) = (seen("triage", "agent"),)
    ((synthesis,),) = (seen("synthesis", "agent"),)
    assert None not in {*triage, *synthesis}
    assert triage != synthesis
    assert seen("coordination", "agent") == {(None,)}
    assert sum(call["cost_nanos"] for call in calls) == sandbox.billing()["total_nanos"]


def test_a_refusal_of_a_budget_reaches_its_user_as_one_message_after_one_request(
    tmp_path: Path, sandbox: Running
) -> None:
    policy = f'{POLICY}\n[[budgets]]\nscope = "run"\nlimit_usd = "0.001"\n'

    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        ran = converse(tmp_path, gateway, "Hello.")
        (call,) = gateway.settled()

    assert (call["ending"], call["error"]) == ("failed", "budget")
    assert sandbox.billing()["total_nanos"] == 0
    (message,) = ran.stderr.splitlines()
    assert "API Error: Request rejected (429) · The budget run-lifetime of run " in message
    assert (ran.returncode, ran.stdout) == (1, "")
