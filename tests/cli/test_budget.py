"""`tierwise budget`."""

import json
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.entries import decided, failed, posted
from support.policies import TWO_TIERS
from support.waiting import eventually
from tierwise.cli import app
from tierwise.cli.console import PIPED_WIDTH, out
from tierwise.core.ledger import SetAside
from tierwise.money import usd
from tierwise.stores.ledger.sqlite import open_ledger

AT = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1_000_000

BUDGETS = """
[[budgets]]
scope = "run"
limit_usd = "25"

[[budgets]]
scope = "agent"
limit_usd = "4"
window = "day"
kind = "warn"
"""

RUN = "run-lifetime|k1|r1|lifetime"
OLD_DAY = "agent-day|k1|reader|2020-02-29"


def set_aside(call_id: str, amount: int, *accounts: str) -> SetAside:
    return SetAside(call_id=call_id, at_us=AT, accounts=accounts, reserved_nanos=usd(amount))


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """A policy and a ledger, as options: a settled call, one in flight, one of unknown cost, one that was dearer."""
    (tmp_path / "tierwise.toml").write_text(TWO_TIERS + BUDGETS, "utf-8")
    ledger = open_ledger(tmp_path / "ledger.sqlite3")
    ledger.write(
        [
            *(decided(call_id, at_us=AT) for call_id in ("c1", "c2", "c3", "c4")),
            set_aside("c1", 3, RUN, OLD_DAY),
            posted("c1", at_us=AT, cost_nanos=usd(2)),
            set_aside("c2", 5, RUN),
            set_aside("c3", 8, RUN),
            failed("c3", at_us=AT, cost_nanos=None, at_least_nanos=usd(1)),
            set_aside("c4", 1, "gone|a%7Cb%2541|lifetime"),
            posted("c4", at_us=AT, cost_nanos=usd(4)),
        ]
    )
    ledger.close()
    return "--policy", str(tmp_path / "tierwise.toml"), "--ledger", str(tmp_path / "ledger.sqlite3")


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["budget", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def listed(*arguments: str) -> list[dict[str, Any]]:
    return json.loads(run("--json", *arguments))["accounts"]


def test_an_account_says_what_is_spent_set_aside_and_left(files: tuple[str, ...]) -> None:
    account, _ = listed(*files)

    assert account == {
        "account": RUN,
        "budget": "run-lifetime",
        "scope": "run",
        "kind": "hard",
        "unit": "usd",
        "key_id": "k1",
        "run_id": None,
        "value": "r1",
        "clients": [],
        "pending_of": None,
        "window": "lifetime",
        "limit_usd": 25,
        "topped_up_usd": 0,
        "posted_usd": 2,
        "pending_usd": 13,
        "left_usd": 10,
        "used_share": 0.6,
        "released_usd": 1,
        "overrun_usd": 0,
        "reservations": 3,
        "ends_at": None,
    }


def test_an_account_without_a_budget_has_no_limit_and_its_value_as_it_was_written(
    files: tuple[str, ...],
) -> None:
    _, account = listed(*files)

    assert (account["budget"], account["value"]) == ("gone", "a|b%41")
    assert [account[name] for name in ("scope", "kind", "limit_usd", "left_usd", "used_share")] == [None] * 5
    assert (account["posted_usd"], account["overrun_usd"]) == (4, 3)


def test_a_window_that_has_ended_is_listed_only_with_all(files: tuple[str, ...]) -> None:
    (ended,) = listed(*files, "--all", "agent-day")

    assert listed(*files, "agent-day") == []
    assert (ended["window"], ended["ends_at"]) == ("2020-02-29", "2020-03-01T00:00:00Z")
    assert (ended["limit_usd"], ended["posted_usd"]) == (4, 2)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is broken, whatever COLUMNS says where the tests run."""
    monkeypatch.setattr(out, "width", PIPED_WIDTH)


@pytest.mark.usefixtures("wide")
def test_people_read_a_table_and_what_it_cannot_say(files: tuple[str, ...]) -> None:
    heading, mine, gone, *remarks = run(*files).splitlines()

    assert heading.split()[:5] == ["budget", "whose", "key", "limit", "spent"]
    assert " ".join(mine.split()) == "run-lifetime run r1 k1 $25.00 $2.00 $13.00 $10.00 60.0% lifetime"
    assert " ".join(gone.split()) == "gone a|b%41 no budget $4.00 $0.00 lifetime"
    assert remarks == [
        "gone, a|b%41, lifetime: the provider billed $3.00 more than was set aside.",
        "agent-day: no calls in the current window; its limit is $4.00.",
    ]


def test_what_callers_wrote_is_neither_markup_nor_a_control_character(files: tuple[str, ...]) -> None:
    written = open_ledger(files[-1])
    written.write([decided("c5", at_us=AT), set_aside("c5", 1, "run-lifetime|k1|[/x]\x1b[2J|lifetime")])
    written.close()

    said = run(*files)

    assert "[/x]" in said
    assert "\x1b" not in said


def test_the_name_of_a_budget_that_is_gone_is_known_too(files: tuple[str, ...]) -> None:
    assert [account["budget"] for account in listed(*files, "gone")] == ["gone"]


@pytest.mark.parametrize(
    ("name", "hint"), [("run-liftime", "mean 'run-lifetime'"), ("xyz", "there are: run-lifetime,")]
)
def test_a_budget_that_nobody_knows_is_wrong_usage(files: tuple[str, ...], name: str, hint: str) -> None:
    said = " ".join(run(*files, name, code=2).split())

    assert f"there is no budget '{name}'" in said
    assert hint in said


def test_without_budgets_and_accounts_there_is_a_sentence_and_no_table(tmp_path: Path) -> None:
    (tmp_path / "tierwise.toml").write_text(TWO_TIERS, "utf-8")
    open_ledger(tmp_path / "ledger.sqlite3").close()

    said = run("--policy", str(tmp_path / "tierwise.toml"), "--ledger", str(tmp_path / "ledger.sqlite3"))

    assert said == "No budgets: the policy has no [[budgets]].\n"


def test_a_missing_ledger_is_a_matter_of_the_environment(files: tuple[str, ...], tmp_path: Path) -> None:
    assert "no such file" in run(*files[:2], "--ledger", str(tmp_path / "none.sqlite3"), code=3)


def test_without_a_command_the_accounts_are_listed(files: tuple[str, ...]) -> None:
    assert run(*files) == run("list", *files)
    assert run("run-lifetime", *files) == run("list", "run-lifetime", *files)


@pytest.mark.usefixtures("wide")
def test_a_long_list_is_cut_and_says_how_many_more_there_are(files: tuple[str, ...]) -> None:
    written = open_ledger(files[-1])
    written.write([decided("c5", at_us=AT)])
    written.write([set_aside("c5", 1, *(f"run-lifetime|k1|x{place}|lifetime" for place in range(60)))])
    written.close()

    told = run(*files)
    cut = json.loads(run("--json", "--limit", "3", *files))

    assert len(told.splitlines()) == len(("heading", *range(50), "more", "agent-day"))
    assert "12 more accounts: 11 of run-lifetime, 1 of gone." in told
    assert (len(cut["accounts"]), cut["more"]) == (3, 59)


CALLS = "#extraction.max-calls|k1|r1|t1|lifetime"


@pytest.fixture
def counting(tmp_path: Path) -> tuple[str, ...]:
    """A policy with a limit of calls and a budget that keys may pin in part, and a call under both."""
    own = TWO_TIERS.replace("[task_types.extraction]\n", "[task_types.extraction]\nmax_calls = 40\n")
    shared = '[[budgets]]\nscope = "all"\nlimit_usd = "10"\n'
    (tmp_path / "tierwise.toml").write_text(own + shared, "utf-8")
    ledger = open_ledger(tmp_path / "ledger.sqlite3")
    ledger.write([decided(), set_aside("c1", 1, CALLS, "all-lifetime|lifetime", "~k1|all-lifetime|lifetime")])
    ledger.close()
    return "--policy", str(tmp_path / "tierwise.toml"), "--ledger", str(tmp_path / "ledger.sqlite3")


@pytest.mark.usefixtures("wide")
def test_calls_are_listed_as_calls_and_what_keys_have_pending_only_with_all(
    counting: tuple[str, ...],
) -> None:
    lines = [" ".join(line.split()) for line in run(*counting).splitlines()]
    everything = listed("--all", *counting)

    assert "all-lifetime all $10.00 $0.00 $1.00 $9.00 10.0% lifetime" in lines
    assert (
        "extraction.max-calls task t1 of run r1 k1 40 calls 0 calls 1 calls 39 calls 2.5% lifetime" in lines
    )
    assert len(lines) == 3
    assert [account["pending_of"] for account in everything] == [None, "k1", None]
    assert everything[-1]["limit_calls"] == 40
    assert "limit_usd" not in everything[-1]


# --- Showing one.


def test_an_account_is_shown_with_the_calls_that_it_holds_money_for(files: tuple[str, ...]) -> None:
    found = json.loads(run("show", "run-lifetime", *files, "--json"))

    assert (found["account"], found["limit_usd"], found["top_ups"]) == (RUN, 25, [])
    assert found["open_reservations"] == [
        {"call_id": "c2", "amount_usd": 5, "since": "2026-11-20T12:00:00Z", "ended": False},
        {"call_id": "c3", "amount_usd": 8, "since": "2026-11-20T12:00:00Z", "ended": True},
    ]
    assert found["more_open_reservations"] == 0


@pytest.mark.usefixtures("wide")
def test_people_read_an_account_line_by_line(files: tuple[str, ...]) -> None:
    run("top-up", RUN, "--amount", "5.00", "--who", "ops", "--why", "one [more] source", *files)

    lines = [" ".join(line.split()) for line in run("show", RUN, "--limit", "1", *files).splitlines()]

    for told in (
        f"account {RUN}",
        "budget run-lifetime, hard",
        "whose run r1",
        "limit $30.00, $5.00 of it topped up",
        "spent $2.00",
        "set aside $13.00",
        "left $15.00",
        "released $1.00, set aside and not needed",
        "c2 $5.00 2026-11-20 12:00:00 in flight, or lost",
        "1 more calls have something set aside; --limit shows them.",
    ):
        assert told in lines
    assert any(line.endswith("$5.00 ops one [more] source") for line in lines)


# --- Raising a limit.


def topped_up(*arguments: str) -> dict[str, Any]:
    return json.loads(run("top-up", *arguments, "--who", "ops", "--why", "because", "--json"))


def test_a_limit_is_raised_and_the_ledger_keeps_who_and_why(files: tuple[str, ...]) -> None:
    told = topped_up("run-lifetime", "--value", "r1", "--amount", "2.50", *files)
    (account, _) = listed(*files)
    (entry,) = json.loads(run("show", RUN, "--json", *files))["top_ups"]

    assert told["top_up"] == entry
    assert (entry["amount_usd"], entry["who"], entry["why"]) == (2.5, "ops", "because")
    assert (account["limit_usd"], account["topped_up_usd"], account["left_usd"]) == (27.5, 2.5, 12.5)
    assert told["account"] == account


def test_a_raised_limit_keeps_every_law_of_the_ledger(files: tuple[str, ...]) -> None:
    topped_up("run-lifetime", "--amount", "1", *files)

    assert CliRunner().invoke(app, ["ledger", "verify", *files[2:]]).exit_code == 0


def test_calls_are_raised_by_calls(counting: tuple[str, ...]) -> None:
    told = topped_up("extraction.max-calls", "--amount", "10", *counting)

    assert told["top_up"]["amount_calls"] == 10
    assert (told["account"]["limit_calls"], told["account"]["left_calls"]) == (50, 49)


def test_an_account_that_no_call_has_met_is_raised_before_its_first(files: tuple[str, ...]) -> None:
    told = topped_up("run-lifetime", "--value", "r9", "--key", "3f2a9c000000", "--amount", "5", *files)

    assert told["account"]["account"] == "run-lifetime|3f2a9c000000|r9|lifetime"
    assert told["account"]["account"] in [account["account"] for account in listed(*files)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run-lifetime", "--amount", "-1"), "is not above zero"),
        (("run-lifetime", "--amount", "0"), "is not above zero"),
        (("run-lifetime", "--amount", "much"), "is not an amount of dollars"),
        (("run-lifetime", "--amount", "1e12"), "is more than $9,007,199.25"),
        (("gone", "--amount", "1"), "the policy has no budget for the account"),
        ((OLD_DAY, "--amount", "1"), "has ended"),
        (("run-liftime", "--amount", "1"), "did you mean 'run-lifetime'?"),
        (("run-lifetime", "--amount", "1", "--who", " "), "is empty"),
    ],
)
def test_a_top_up_that_means_nothing_writes_nothing(
    files: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    told = run("top-up", "--who", "ops", "--why", "because", *arguments, *files, code=2)

    assert said in " ".join(told.split())
    assert all(account["topped_up_usd"] == 0 for account in listed("--all", *files))


def test_a_limit_of_calls_is_not_raised_by_dollars(counting: tuple[str, ...]) -> None:
    told = run(
        "top-up", "extraction.max-calls", "--amount", "1.5", "--who", "a", "--why", "b", *counting, code=2
    )

    assert "'1.5' is no number of calls" in " ".join(told.split())


def test_a_running_gateway_takes_a_top_up_up_by_itself(serve: Any, policy: Path) -> None:
    with policy.open("a") as file:
        file.write('[[budgets]]\nscope = "run"\nlimit_usd = "0.000001"\n')
    served = serve()

    refused = status_of_a_call(served.address)
    key_id = json.loads(CliRunner().invoke(app, ["report", "--by", "key", "--json"]).output)["rows"][0]["key"]
    run("top-up", "run-lifetime", "--value", "", "--key", key_id, "--amount", "5", "--who", "a", "--why", "b")
    granted = eventually(lambda: status_of_a_call(served.address), until=lambda status: status == 200)

    assert (refused, granted) == (429, 200)


def status_of_a_call(address: str) -> int:
    message = {"role": "user", "content": "hello"}
    body = {"model": "task/extraction", "max_tokens": 100, "messages": [message]}
    connection = HTTPConnection(address.removeprefix("http://"), timeout=30)
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01", "content-type": "application/json"}
    connection.request("POST", "/v1/messages", json.dumps(body), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_top_up_makes_no_ledger(files: tuple[str, ...], tmp_path: Path) -> None:
    nowhere = tmp_path / "none.sqlite3"
    arguments = ("top-up", "run-lifetime", "--amount", "1", "--who", "a", "--why", "b")

    run(*arguments, *files[:2], "--ledger", str(nowhere), code=3)

    assert not nowhere.exists()


OF_TEAMS = """
[[budgets]]
name = "team-a"
scope = "all"
limit_usd = "10"

[[clients]]
name = "ada"
key_sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
budgets = ["team-a", "agent-day"]

[[clients]]
name = "ben"
key_sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
budgets = ["team-a"]

[[clients]]
name = "eve"
key_sha256 = "3333333333333333333333333333333333333333333333333333333333333333"
"""


@pytest.fixture
def of_teams(files: tuple[str, ...]) -> tuple[str, ...]:
    """The same ledger, and clients that name budgets."""
    Path(files[1]).write_text(TWO_TIERS + BUDGETS + OF_TEAMS, "utf-8")
    return files


def test_whose_calls_alone_a_budget_counts_is_told(of_teams: tuple[str, ...]) -> None:
    told = run(*of_teams)

    assert "team-a counts the calls of ada, ben alone." in told
    assert "agent-day counts the calls of ada alone." in told
    assert "run-lifetime counts" not in told
    assert {account["budget"]: account["clients"] for account in listed("--all", *of_teams)} == {
        "run-lifetime": [],
        "agent-day": ["ada"],
        "gone": [],
    }
    assert "clients    ada: their calls alone" in run("show", OLD_DAY, *of_teams)


def test_the_limit_of_a_budget_that_clients_name_can_be_raised_before_its_first_call(
    of_teams: tuple[str, ...],
) -> None:
    raising = ("--amount", "5", "--who", "a", "--why", "b", *of_teams)

    assert "The limit is now $15.00" in run("top-up", "team-a", *raising)
    assert "The limit is now $9.00" in run("top-up", "agent-day", "--key", "ada", "--value", "x", *raising)
    refused = run("top-up", "agent-day", "--key", "eve", "--value", "x", *raising, code=2)
    assert "agent-day counts calls of the clients ada alone" in " ".join(refused.split())
