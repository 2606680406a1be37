"""`tierwise ledger`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.entries import decided, posted, set_aside
from tierwise.cli import app
from tierwise.stores.ledger.sqlite import open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    ledger = open_ledger(path)
    ledger.write([decided("c1"), set_aside("c1"), posted("c1")])
    ledger.close()
    return path


def test_a_sound_ledger_is_said_to_be_sound_law_by_law(path: Path) -> None:
    result = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(path)])

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == ["ok"] * 6


def test_a_broken_law_is_named_with_the_call_that_breaks_it_and_exits_with_1(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([posted("c2")])
    ledger.close()

    told = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(path)])
    listed = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(path), "--json"])

    assert (told.exit_code, listed.exit_code) == (1, 1)
    assert "broken  every entry belongs to a call that was decided: 1, such as c2" in told.output
    found = json.loads(listed.output)
    assert found["sound"] is False
    assert [law["examples"] for law in found["laws"] if law["breaches"]] == [["c2"]]
