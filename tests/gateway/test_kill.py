"""`kill -9` under load, over and over: `make bench-kill` is the long version."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "kill.py"


@pytest.mark.parametrize(("setting", "kills"), [("in process", 4), ("four workers", 4), ("two gateways", 2)])
def test_no_billed_call_is_missing_in_the_ledger_after_what_took_calls_was_killed(
    setting: str, kills: int, tmp_path: Path
) -> None:
    path = tmp_path / "figures.json"

    subprocess.run(
        [sys.executable, BENCH, "--settings", setting, "--kills", f"{kills}", "--json", path],
        check=True,
        capture_output=True,
        timeout=300,
    )

    (figures,) = json.loads(path.read_text())["rows"]
    assert figures["kills"] == kills
    assert figures["billed_calls"] > 50
    assert figures["missing_calls"] == 0
    assert figures["kept_reservations"] > 0, "no call was in flight at a kill: the load does not bite"
    assert figures["ledger_total_usd"] >= figures["provider_total_usd"]
    assert figures["ledger_is_sound"]
