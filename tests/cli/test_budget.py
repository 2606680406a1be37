"""`tierwise budget`."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.entries import decided, failed, posted
from support.policies import TWO_TIERS, book
from tierwise.cli import app
from tierwise.cli.budget import Account, accounts_in
from tierwise.cli.console import PIPED_WIDTH, out
from tierwise.core.budgets import accounts_of
from tierwise.core.ledger import SetAside
from tierwise.core.policy import Policy
from tierwise.core.tasks import Declared, TaskRef
from tierwise.money import usd
from tierwise.stores.ledger.reservations import AccountTotals
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
        "budget": "run-lifetime",
        "scope": "run",
        "kind": "hard",
        "key_id": "k1",
        "value": "r1",
        "window": "lifetime",
        "limit_usd": 25,
        "posted_usd": 2,
        "pending_usd": 13,
        "left_usd": 10,
        "used_share": 0.6,
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


def test_people_read_a_table_and_what_it_cannot_say(
    files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", PIPED_WIDTH)  # whatever COLUMNS says where the tests run
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


# --- Matching accounts with budgets.


def one(window: str, zone: str = "UTC", *, scope: str = "run") -> Policy:
    budgets = f'[[budgets]]\nscope = "{scope}"\nlimit_usd = "10"\nwindow = "{window}"\nname = "mine"\n'
    return book(f'time_zone = "{zone}"\n{TWO_TIERS}{budgets}').policy


def account(key: str, posted_nanos: int = 0) -> AccountTotals:
    return AccountTotals(
        key=key,
        reservations=1,
        reserved_nanos=posted_nanos,
        pending_nanos=0,
        posted_nanos=posted_nanos,
        released_nanos=0,
        overrun_nanos=0,
    )


def matched(policy: Policy, *keys: str, at_us: int = AT) -> list[Account]:
    return accounts_in([account(key) for key in keys], policy, at_us=at_us)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati"])
@pytest.mark.parametrize("window", ["lifetime", "hour", "day", "month"])
@pytest.mark.parametrize("scope", ["all", "key", "run", "agent", "type", "task"])
def test_the_account_that_a_call_is_charged_to_is_read_as_it_was_written(
    scope: str, window: str, zone: str
) -> None:
    policy = one(window, zone, scope=scope)
    task = TaskRef(type="extraction", declared=Declared.HEADER, task_id="t|1", run_id="r%1", agent="é\n")
    (charged,) = accounts_of(task, key_id="k1", policy=policy, at_us=AT)

    (read,) = matched(policy, charged.key)

    assert (read.budget, read.value, read.ends_us) == (charged.budget, charged.value, charged.ends_us)
    assert read.current


def test_a_window_is_current_until_the_moment_that_it_ends() -> None:
    day_ends = int(datetime(2026, 11, 20, 23, tzinfo=UTC).timestamp()) * 1_000_000
    policy, key = one("day", "Europe/Berlin"), "mine|k1|r1|2026-11-20"

    before, after = (matched(policy, key, at_us=day_ends + late)[0] for late in (-1, 0))

    assert (before.current, after.current) == (True, False)
    assert before.ends_us == day_ends


def test_a_budget_whose_window_was_changed_has_no_limit_for_the_accounts_of_the_old_one() -> None:
    new, old = matched(one("day"), "mine|k1|r1|lifetime", "mine|k1|r1|2026-11-20")

    assert (new.window, new.left_nanos) == ("2026-11-20", usd(10))
    assert (old.window, old.left_nanos) == ("lifetime", None)


def test_accounts_stand_newest_window_first_and_then_by_use() -> None:
    totals = [
        account("mine|k1|a|2026-11-19", usd(9)),
        account("mine|k1|b|2026-11-20", usd(1)),
        account("mine|k1|c|2026-11-20", usd(2)),
    ]

    found = accounts_in(totals, one("day"), at_us=AT)

    assert [each.value for each in found] == ["c", "b", "a"]


def test_an_account_above_its_limit_has_less_than_nothing_left() -> None:
    (found,) = accounts_in([account("mine|k1|a|lifetime", usd(12))], one("lifetime"), at_us=AT)

    assert (found.left_nanos, found.used_share) == (usd(-2), 1.2)
