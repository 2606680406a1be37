"""The frameworks' examples, each with the real package, through the gateway: what they tag is recorded."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.environments import ROOT, clean_environment, environment
from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import Running, running

EXAMPLES: Final = ROOT / "examples" / "frameworks"
PAGE: Final = (ROOT / "docs" / "how-to" / "tag-your-tasks.md").read_text("utf-8")

ENVIRONMENTS: Final = {
    "crewai_agents": "frameworks-crewai",
    "google_adk_agents": "frameworks",
    "langgraph_agents": "frameworks",
    "llamaindex_agents": "frameworks-older",
    "openai_agents": "frameworks",
    "openai_agents_native": "frameworks",
    "pydantic_ai_agents": "frameworks",
    "strands_agents": "frameworks-older",
}
"""Which example runs where: three environments, for no one version of the provider's SDK suits them all."""

BY_MESSAGES: Final = [name for name in ENVIRONMENTS if name != "openai_agents_native"]

OFFLINE: Final = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OTEL_SDK_DISABLED": "true",
}
"""What keeps the packages from looking for anything but the gateway."""


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


@pytest.fixture
def gateway(tmp_path: Path, sandbox: Running) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path, sandbox.base_url) as gateway:
        yield gateway


@pytest.mark.frameworks
@pytest.mark.parametrize("name", BY_MESSAGES)
def test_an_example_is_routed_by_type_and_recorded_by_run_and_agent(
    name: str, tmp_path: Path, sandbox: Running, gateway: RunningGateway
) -> None:
    ran = run_example(name, tmp_path, gateway)
    calls = gateway.settled()

    assert ran.returncode == 0, ran.stderr
    assert "Sandbox reply" in ran.stdout
    columns = ("task_type", "tier", "served_model", "max_tokens_sent", "run_id", "ending")
    assert [tuple(call[column] for column in columns) for call in calls] == [
        ("extraction", "fast", "claude-haiku-5-5", 512, "run-7", "posted"),
        ("synthesis", "frontier", "claude-opus-5-5", 4096, "run-7", "posted"),
    ]
    assert [call["agent"].partition("-")[0] for call in calls] == ["extraction", "synthesis"]
    assert sum(call["cost_nanos"] for call in calls) == sandbox.billing()["total_nanos"]


@pytest.mark.frameworks
def test_the_agents_sdk_of_openais_calls_its_tools_through_the_gateway_in_both_apis(
    tmp_path: Path, sandbox: Running
) -> None:
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1")
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        where = {"OPENAI_BASE_URL": f"{gateway.base_url}/v1", "OPENAI_API_KEY": "sk-any"}
        ran = run_example("openai_agents_native", tmp_path, gateway, **where)
        calls = gateway.settled()
    bill = sandbox.openai_billing()["calls"]

    assert ran.returncode == 0, ran.stderr
    assert [line.startswith("word0 word1") for line in ran.stdout.splitlines()] == [True, True]
    columns = ("task_type", "tier", "max_tokens_sent", "run_id", "agent", "stop_reason", "ending")
    assert [tuple(call[column] for column in columns) for call in calls] == [
        (task_type, tier, cap, "run-7", f"{task_type}-agent", stop_reason, "posted")
        for task_type, tier, cap in (("extraction", "fast", 512), ("synthesis", "frontier", 4096))
        for stop_reason in ("tool_use", "end_turn")
    ]
    assert [(line["kind"], line["model"]) for line in bill] == [
        *2 * [("responses", "gpt-5-mini-2025-08-07")],
        *2 * [("chat", "gpt-5-2025-08-07")],
    ]
    assert [call["cost_nanos"] for call in calls] == [line["nanos"] for line in bill]


def run_example(
    name: str, folder: Path, gateway: RunningGateway, **where: str
) -> subprocess.CompletedProcess[str]:
    """Run an example in its environment, which knows nothing of this machine but the gateway."""
    return subprocess.run(
        [str(environment(ENVIRONMENTS[name])), str(EXAMPLES / f"{name}.py")],
        env=clean_environment(folder / "home", gateway.base_url, **OFFLINE, **where),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_example_has_an_environment() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == ENVIRONMENTS.keys()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_page_on_tags_shows_the_function_of_the_example_that_tags(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text("utf-8")
    (tagged,) = (
        part for part in ast.parse(text).body if isinstance(part, ast.FunctionDef) and part.name == "tagged"
    )
    shown = ast.get_source_segment(text, tagged)

    assert f"```python\n{shown}\n```" in PAGE
    assert f"(../../examples/frameworks/{name}.py)" in PAGE


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_example_can_be_seen_at_once(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text("utf-8").splitlines()) <= 42
