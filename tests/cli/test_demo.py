import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.cli.demo import command

RUNNER = CliRunner()


def test_the_demo_agrees_with_the_provider_to_the_nanodollar_and_says_where_the_money_goes(
    tmp_path: Path,
) -> None:
    figures, ledger = tmp_path / "out.json", tmp_path / "ledger.sqlite3"

    result = RUNNER.invoke(app, ["demo", "--tasks", "200", "--json", str(figures), "--ledger", str(ledger)])

    assert result.exit_code == 0, result.output
    found = json.loads(figures.read_text())
    spend = found["spend_usd"]
    assert found["tasks"] == 200
    assert found["calls"] == sum(line["calls"] for line in found["by_type"]) > 200
    assert spend["routed"] == spend["provider_total"] > 0
    assert spend["all_frontier"] >= spend["as_asked"] > spend["routed"]
    assert found["saving_share"] == pytest.approx(1 - spend["routed"] / spend["as_asked"])
    assert found["pairs"]["5.5"]["routed_usd"] == spend["routed"]
    assert found["added_ms"]["p50"] <= found["added_ms"]["p99"]
    assert {line["tier"] for line in found["by_type"]} == {"frontier", "fast"}
    assert "the ledger agrees" in result.output
    again = RUNNER.invoke(app, ["report", "--json", "--ledger", str(ledger)])
    assert json.loads(again.output)["total"]["spend_usd"] == spend["routed"]


def test_the_demo_needs_a_ledger_of_its_own(tmp_path: Path) -> None:
    kept = tmp_path / "ledger.sqlite3"
    kept.touch()

    result = RUNNER.invoke(app, ["demo", "--tasks", "1", "--ledger", str(kept)])

    assert result.exit_code == 2
    assert "exists" in result.output


def test_without_the_sdk_the_demo_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_name: str) -> None:
        return None

    monkeypatch.setattr(command, "find_spec", nothing)

    result = RUNNER.invoke(app, ["demo", "--tasks", "1"])

    assert result.exit_code == 3
    assert 'pip install "tierwise[demo]"' in result.output
