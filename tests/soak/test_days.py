"""Two weeks of the fleet, replayed: what the audit finds of what was planted, and what it costs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tierwise.cli import app


@pytest.mark.soak
def test_two_weeks_find_what_is_paid_too_much_for_and_no_type_that_needs_its_tier_moves(
    tmp_path: Path,
) -> None:
    figures = tmp_path / "out.json"

    result = CliRunner().invoke(app, ["demo", "--days", "14", "--json", str(figures)])

    print(result.output)
    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    days = found["days"]
    moved = {one["type"] for one in found["types"] if one["verdict"] in {"provisional", "proven"}}
    needing = {one["type"] for one in found["types"] if one["needs_planted"] == "frontier"}
    assert found["found_share"] >= 0.8
    assert found["wrong"] == []
    assert not moved & needing
    assert days[-1]["spend_usd"] < 0.85 * days[0]["spend_usd"]
    assert found["audit_share"] < 0.03
    assert found["agrees_with_provider"]
