"""`tierwise outcome`."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.stores.ledger.outcomes import outcomes
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    open_ledger(path).close()
    return path


def run(path: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["outcome", *arguments, "--ledger", str(path)])


def test_it_records_how_a_task_came_out(path: Path) -> None:
    shown = run(path, "--run", "r1", "--task", "t1", "--failure", "--json")

    with closing(read_ledger(path)) as ledger:
        (found,) = outcomes(ledger, since_us=0)
    assert json.loads(shown.output) == {"outcome": found.outcome_id}
    assert (found.run_id, found.task_id, found.quality, found.key_id) == ("r1", "t1", 0.0, None)


def test_an_id_may_be_told_again(path: Path) -> None:
    first, second = (run(path, "--run", "r1", "--quality", "0.5", "--id", "mine") for _ in range(2))

    assert first.output == second.output
    assert first.output.startswith("Recorded as outcome-")


def test_what_it_is_about_must_be_said(path: Path) -> None:
    shown = run(path, "--success")

    assert shown.exit_code != 0
    assert "Say what it is about" in shown.output


def test_it_makes_no_ledger(tmp_path: Path) -> None:
    assert run(tmp_path / "none", "--run", "r1", "--success").exit_code == 3
    assert not (tmp_path / "none").exists()
