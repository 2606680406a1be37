"""The example of OpenAI's SDK, as it is, through a gateway: what it tags is recorded."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from support.gateways import running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.sandbox.server import running

ROOT: Final = Path(__file__).parents[2]
EXAMPLE: Final = ROOT / "examples" / "openai_sdk.py"


def test_the_example_is_routed_by_type_and_recorded_by_run_and_agent(tmp_path: Path) -> None:
    with running(seed=1) as sandbox:
        policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1")
        with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
            where = {"OPENAI_BASE_URL": f"{gateway.base_url}/v1", "OPENAI_API_KEY": "sk-any"}
            ran = subprocess.run(
                [sys.executable, str(EXAMPLE)],
                env={**os.environ, **where},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            calls = gateway.settled()
        billed = [line["nanos"] for line in sandbox.openai_billing()["calls"]]

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["extraction:", "gpt-5-mini-2025-08-07", "synthesis:", "gpt-5-2025-08-07"]
    columns = ("task_type", "tier", "run_id", "agent", "ending")
    assert [tuple(call[column] for column in columns) for call in calls] == [
        ("extraction", "fast", "run-7", "reader", "posted"),
        ("synthesis", "frontier", "run-7", "reader", "posted"),
    ]
    assert [call["cost_nanos"] for call in calls] == billed


def test_the_page_on_tags_shows_the_function_of_the_example_that_tags() -> None:
    text = EXAMPLE.read_text("utf-8")
    (tagged,) = (
        part for part in ast.parse(text).body if isinstance(part, ast.FunctionDef) and part.name == "tagged"
    )
    page = (ROOT / "docs" / "how-to" / "tag-your-tasks.md").read_text("utf-8")

    assert f"```python\n{ast.get_source_segment(text, tagged)}\n```" in page
