"""Many agents at once against one run's budget of $1; the provider's own bill says what they spent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "overspend.py"


@pytest.mark.parametrize("agents", [1, 20, 200])
def test_no_number_of_agents_overspends_a_run_and_its_budget_is_used(agents: int, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"

    subprocess.run(
        [sys.executable, str(BENCH), "--agents", str(agents), "--json", str(figures)],
        check=True,
        capture_output=True,
        timeout=300,
    )

    (row,) = json.loads(figures.read_text())["rows"]
    assert row["overspend_usd"] == 0
    assert row["used_share"] > 0.9
    if agents > 1:
        assert row["baseline_overspend_usd"] > 0, (
            "checking before and charging after does overspend: the load bites"
        )
