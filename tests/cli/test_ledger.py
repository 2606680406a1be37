"""`tierwise ledger`."""

import json
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.entries import decided, posted, set_aside
from support.postgres import Server, running
from tierwise.cli import app
from tierwise.engine.clock import now_us
from tierwise.stores.ledger import opening
from tierwise.stores.ledger.opening import shown
from tierwise.stores.ledger.sqlite import open_ledger
from tierwise.stores.ledger.verification import LAWS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    ledger = open_ledger(path)
    ledger.write([decided("c1"), set_aside("c1"), posted("c1")])
    ledger.write([decided("c2", at_us=now_us())])
    ledger.close()
    return path


def test_a_sound_ledger_is_said_to_be_sound_law_by_law(path: Path) -> None:
    result = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(path)])

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == ["ok"] * len(LAWS)


def test_a_broken_law_is_named_with_the_call_that_breaks_it_and_exits_with_1(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.write([posted("c3")])
    ledger.close()

    told = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(path)])
    listed = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(path), "--json"])

    assert (told.exit_code, listed.exit_code) == (1, 1)
    assert "broken  every entry belongs to a call that was decided: 1, such as c3" in told.output
    found = json.loads(listed.output)
    assert found["sound"] is False
    assert [law["examples"] for law in found["laws"] if law["breaches"]] == [["c3"]]


def test_old_calls_are_deleted_when_somebody_says_yes_and_are_still_reported(path: Path) -> None:
    arguments = ["ledger", "prune", "--older-than", "90d", "--ledger", str(path)]

    refused = CliRunner().invoke(app, arguments, input="n\n")
    pruned = CliRunner().invoke(app, [*arguments, "--json", "--yes"])
    again = CliRunner().invoke(app, [*arguments, "--yes"])
    reported = CliRunner().invoke(app, ["report", "--json", "--ledger", str(path)])

    assert (refused.exit_code, pruned.exit_code, again.exit_code) == (1, 0, 0)
    assert "Delete 1 calls from before" in refused.stderr
    assert json.loads(pruned.stdout)["calls"] == 1
    assert "Deleted 0 calls" in again.stdout
    assert json.loads(reported.stdout)["total"]["calls"] == 2


def test_a_backup_is_a_ledger_and_never_replaces_a_file(path: Path) -> None:
    copy = path.with_name("copy.sqlite3")
    arguments = ["ledger", "backup", str(copy), "--ledger", str(path)]

    made = CliRunner().invoke(app, arguments)
    again = CliRunner().invoke(app, arguments)
    verified = CliRunner().invoke(app, ["ledger", "verify", "--ledger", str(copy)])

    assert (made.exit_code, again.exit_code, verified.exit_code) == (0, 3, 0)
    assert "not replaced" in again.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune"],
        ["prune", "--older-than", "90"],
        ["prune", "--older-than", "0d"],
        ["prune", "--older-than", "99999999w"],
        ["verify", "--older-than", "90d"],
        ["verify", "copy.sqlite3"],
        ["backup"],
        ["backup", "one.sqlite3", "two.sqlite3"],
        ["shrink"],
    ],
)
def test_an_action_that_is_called_wrongly_does_nothing(path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["ledger", *arguments, "--ledger", str(path)])

    assert result.exit_code == 2


def told(*arguments: object, code: int = 0, **environ: str) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), env=environ)
    assert result.exit_code == code, result.output
    return result.output


def test_a_copy_into_another_file_has_the_same_sums(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"

    found = json.loads(told("ledger", "copy", path, copy, "--json"))

    assert found == {"ledger": str(path), "copy": str(copy), "entries": 4}
    assert told("report", "--json", "--ledger", copy) == told("report", "--json", "--ledger", path)
    assert "has entries already" in told("ledger", "copy", path, copy, code=3)


def test_a_copy_of_nothing_makes_no_ledger(tmp_path: Path) -> None:
    told("ledger", "copy", tmp_path / "none.sqlite3", tmp_path / "copy.sqlite3", code=3)

    assert list(tmp_path.iterdir()) == []


# --- In PostgreSQL.


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def address(server: Server, path: Path) -> str:
    """A database with a copy of the ledger."""
    address = server.new_database()
    said = told("ledger", "copy", path, address)
    assert said == f"Copied 4 entries from {path} to {shown(address)}; both come to the same.\n"
    return address


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "--by", "key", "--json"],
        ["explain", "--call", "c1", "--json"],
        ["ledger", "prune", "--older-than", "90d", "--yes", "--json"],
        ["budget", "--json"],
        ["budget", "show", "run-lifetime|k1|r1|lifetime", "--json"],
    ],
)
@pytest.mark.usefixtures("policy")
def test_a_command_says_the_same_of_a_database_as_of_a_file(
    address: str, path: Path, arguments: list[str]
) -> None:
    assert told(*arguments, TIERWISE_LEDGER=address) == told(*arguments, TIERWISE_LEDGER=str(path))


def test_a_database_is_verified_and_topped_up_too(address: str, policy: Path) -> None:
    with policy.open("a") as file:
        file.write('[[budgets]]\nscope = "run"\nlimit_usd = "1"\n')

    told("budget", "top-up", "run-lifetime", "--amount", "1", "--who", "a", "--why", "b", "--ledger", address)

    (account,) = json.loads(told("budget", "--json", "--ledger", address))["accounts"]
    assert (account["limit_usd"], account["topped_up_usd"]) == (2, 1)
    assert "broken" not in told("ledger", "verify", "--ledger", address)


def test_a_database_is_dumped_and_not_copied_as_a_file(tmp_path: Path) -> None:
    address = "postgresql://me:secret@db/ledger"
    said = " ".join(told("ledger", "backup", tmp_path / "x", "--ledger", address, code=2).split())

    assert "postgresql://me@db/ledger is a database, and pg_dump makes a dump of it" in said
    assert "secret" not in said


def test_a_call_that_a_database_does_not_have_is_told_without_its_password(server: Server) -> None:
    address = server.new_database().replace("postgres@", "postgres:secret@")
    with closing(opening.open_ledger(address)):
        said = told("explain", "--call", "c9", "--ledger", address, code=1)

    assert "has no call 'c9'" in said
    assert "secret" not in said
