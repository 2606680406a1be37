"""`kill -9` under load, over and over: `make bench-kill` is the long version."""

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "kill.py"


def test_no_billed_call_is_missing_in_the_ledger_after_the_gateway_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"

    subprocess.run(
        [sys.executable, str(BENCH), "--kills", "6", "--json", str(path)],
        check=True,
        capture_output=True,
        timeout=300,
    )

    figures = json.loads(path.read_text())
    assert figures["billed_calls"] > 50
    assert figures["missing_calls"] == 0
    assert figures["kept_reservations"] > 0, "no call was in flight at a kill: the load does not bite"
    assert figures["ledger_total_usd"] >= figures["provider_total_usd"]
