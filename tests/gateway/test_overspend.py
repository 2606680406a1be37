"""Many agents at once against one run's budget of $1; the provider's own bill says what they spent."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from tierwise.money import usd
from tierwise.sandbox.server import running

BENCH: Final = Path(__file__).parents[2] / "bench" / "overspend.py"
LIMIT_USD: Final = "1.00"


@pytest.mark.parametrize(
    ("setting", "agents", "gateways"),
    [("in process", "1,20,200", 1), ("four workers", "40", 4), ("two gateways", "1,40", 2)],
)
def test_no_number_of_agents_overspends_a_run_and_its_budget_is_used(
    setting: str, agents: str, gateways: int, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"

    subprocess.run(
        [sys.executable, BENCH, "--settings", setting, "--agents", agents, "--json", figures],
        check=True,
        capture_output=True,
        timeout=300,
    )

    rows = json.loads(figures.read_text())["rows"]
    assert [f"{row['agents']}" for row in rows] == agents.split(",")
    for row in rows:
        assert row["gateways"] == gateways
        assert row["served_by"] >= min(2, gateways, row["agents"])
        assert row["overspend_usd"] == 0
        assert row["used_share"] > 0.9
        assert row["ledger_total_usd"] == row["provider_total_usd"]
        assert row["ledger_is_sound"]
        if row["agents"] > 1:
            assert row["baseline_overspend_usd"] > 0, (
                "checking before and charging after does overspend: the load bites"
            )


def test_prompts_are_counted_near_the_limit_and_more_of_it_is_used(tmp_path: Path) -> None:
    spent = {counts: spent_until_refused(tmp_path, counts=counts) for counts in (True, False)}

    assert spent[False] < spent[True] <= usd(LIMIT_USD)
    assert spent[True] > usd(LIMIT_USD) * 9 // 10


def spent_until_refused(folder: Path, *, counts: bool) -> int:
    """Make long calls, one after the other, until one is refused; return the provider's total."""
    budget = f'[[budgets]]\nscope = "all"\nlimit_usd = "{LIMIT_USD}"\n'
    policy = f"count_near_limit = {json.dumps(counts)}\n{TWO_TIERS}\n{budget}"
    inner = folder / f"{counts}"
    inner.mkdir()
    with running(seed=5) as sandbox, running_gateway(inner, sandbox.base_url, policy=policy) as gateway:
        while is_served(gateway):
            pass
        return sandbox.billing()["total_nanos"]


def is_served(gateway: RunningGateway) -> bool:
    text = f"{'Which of these firms signed? ' * 700} [[sandbox output_tokens=100]]"
    body = {
        "model": "task/synthesis",
        "max_tokens": 2048,
        "messages": [{"role": "user", "content": text}],
    }
    answer = gateway.http.messages(body)
    assert answer.status in {200, 429}, answer.body
    return answer.status == 200
