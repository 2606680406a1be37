"""Replayed days: the plumbing in small. What the audit finds in two weeks is in the soak tests."""

import json
import re
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.cli.demo.clock import StagedClock, told_by
from tierwise.cli.demo.day_figures import Answer, Change, DayFigures, DaysFigures, FoundType
from tierwise.cli.demo.days import FIRST_DAY, Replay, fleet_policy
from tierwise.cli.demo.days_page import day_line, days_json, opening, print_days
from tierwise.config import parse_book
from tierwise.money import usd
from tierwise.stores.ledger.acts import acts
from tierwise.stores.ledger.pairs import DAY_US, evidence, spend
from tierwise.stores.ledger.sqlite import read_ledger

RUNNER = CliRunner()

EAGER = re.sub(
    r"(\[task_types\.triage\]\nshadow = true\n)", r"\1quality.margin = 30\n", fleet_policy()
).replace("sample = 50", "sample = 100")
"""The fleet's policy with a type on which few pairs suffice for a verdict."""


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """What three small days say, their figures, and their ledger."""
    folder = tmp_path_factory.mktemp("days")
    policy, figures, ledger = folder / "policy.toml", folder / "out.json", folder / "ledger.sqlite3"
    policy.write_text(EAGER)
    days = ("--days", "3", "--tasks", "150", "--agents", "8", "--policy", str(policy))
    result = RUNNER.invoke(app, ["demo", *days, "--json", str(figures), "--ledger", str(ledger)])
    assert result.exit_code == 0, result.output
    return result.output, figures, ledger


def test_each_day_is_a_line_while_the_fleet_works_and_the_page_says_what_was_found(
    replayed: tuple[str, Path, Path],
) -> None:
    said, _, _ = replayed

    assert re.findall(r"^day +(\d)  150 tasks", said, re.MULTILINE) == ["1", "2", "3"]
    assert re.search(r"^day +1 .*\sprovisional:[\w\s,-]*triage", said, re.MULTILINE)
    assert re.search(r"^triage +front", said, re.MULTILINE)
    assert "a day for a tier that is not needed, the audit has found $" in said
    assert '+task_types.triage.tier = "fast"  # provisional' in said
    assert "the ledger agrees to the nanodollar" in said


def test_the_figures_have_stable_names_and_add_up(replayed: tuple[str, Path, Path]) -> None:
    found = json.loads(replayed[1].read_text())
    types = {one["type"]: one for one in found["types"]}

    assert [day["day"] for day in found["days"]] == [1, 2, 3]
    assert {day["tasks"] for day in found["days"]} == {150}
    assert found["spend_usd"] == pytest.approx(sum(day["spend_usd"] for day in found["days"]))
    assert found["audit_usd"] == pytest.approx(sum(day["audit_usd"] for day in found["days"]))
    assert found["audit_usd"] > 0
    assert found["spend_usd"] + found["audit_usd"] == pytest.approx(found["provider_total_usd"])
    assert found["agrees_with_provider"]
    assert found["days"][0]["changes"][0]["from"] == "too early"
    assert found["days"][2]["verdicts"]["triage"] == "provisional"
    assert (types["triage"]["answer"], types["triage"]["found_on_day"]) == ("found", 1)
    assert types["moderation"]["needs_planted"] == "frontier"
    assert {one["type"] for one in types.values() if one["answer"] == "wrong"} == set(found["wrong"])
    assert '+tier = "fast"' in found["policy_diff"]


def test_the_days_lie_one_after_the_other_in_the_ledger_and_a_verdict_moves_calls(
    replayed: tuple[str, Path, Path],
) -> None:
    with closing(read_ledger(replayed[2])) as ledger:
        days = {one.day for one in spend(ledger, since_day=0)}
        pairs = evidence(ledger).pairs
        (act,) = [one for one in acts(ledger) if one.task_type == "triage"]
        tiers = [
            (row["at_us"] // DAY_US - FIRST_DAY, row["tier"])
            for row in ledger.rows(
                "SELECT at_us, tier FROM calls WHERE task_type = 'triage' AND purpose IS NULL"
            )
        ]

    assert days == {FIRST_DAY, FIRST_DAY + 1, FIRST_DAY + 2}
    assert {pair.at_us // DAY_US for pair in pairs} == days
    assert act.at_us // DAY_US == FIRST_DAY
    assert tiers[0] == (0, "frontier")
    assert (2, "fast") in tiers


def test_the_fleets_policy_compares_every_type_that_has_a_contract_of_its_own() -> None:
    policy = parse_book(fleet_policy(), file="x").policy

    assert {name for name, contract in policy.contracts.items() if not contract.shadow} == {"default"}
    assert len(policy.contracts) == 21
    assert policy.audit.autopilot
    assert policy.audit.share == 2


def test_a_day_has_as_many_runs_as_one_of_the_fleets_at_the_same_pace() -> None:
    part = Replay(days=2, tasks=2_500, agents=1, seed=1)
    whole = Replay(days=2, tasks=10_000, agents=1, seed=1)
    tiny = Replay(days=2, tasks=100, agents=1, seed=1)

    assert [each.fleet.tasks_per_run for each in (tiny, part, whole)] == [1, 12, 50]
    assert {each.step_us for each in (tiny, part, whole)} == {DAY_US // 10_000}
    assert "25% of the 10,000" in opening(part, own_policy=True)
    assert "samples half of the runs" in opening(part, own_policy=True)
    assert "samples" not in opening(tiny, own_policy=False)
    assert "1 task here" in opening(tiny, own_policy=False)


def test_a_staged_clock_goes_when_it_is_moved(tmp_path: Path) -> None:
    clock = StagedClock(tmp_path / "clock", at_us=5)
    now_us = told_by(clock.file)

    before = now_us()
    clock.move(2**50)

    assert (before, now_us(), clock.now_us) == (5, 2**50, 2**50)


DAY = DayFigures(
    number=1,
    tasks=10,
    calls=12,
    spend_nanos=usd("10"),
    audit_nanos=usd("0.5"),
    verdicts={"triage": "too early"},
    changes=(),
)
TRIAGE = FoundType(
    name="triage",
    tier="frontier",
    needs="fast",
    verdict="too early",
    pairs=3,
    answer=Answer.MISSED,
    found_on_day=None,
    needless_nanos=usd("2"),
)
FIGURES = DaysFigures(
    seed=1,
    agents=1,
    seconds=1.0,
    days=(DAY, replace(DAY, number=2, spend_nanos=usd("5"))),
    types=(TRIAGE,),
    provider_nanos=usd("16"),
    policy_diff="",
    moves=(),
    stuck=(),
)


def shown(figures: DaysFigures) -> str:
    page = StringIO()
    print_days(figures, Console(width=120, file=page))
    return page.getvalue()


def test_what_was_not_found_and_what_is_wrong_are_said() -> None:
    wrong = replace(TRIAGE, name="synthesis", needs="frontier", verdict="proven", answer=Answer.WRONG)

    missed, misled = shown(FIGURES), shown(replace(FIGURES, types=(TRIAGE, wrong)))

    assert "the audit has found $0.00, 0%. No verdict is wrong." in missed
    assert "The policy stays as it is." in missed
    assert "Wrongly moved: synthesis." in misled
    assert days_json(replace(FIGURES, types=(wrong,)))["wrong"] == ["synthesis"]
    assert days_json(replace(FIGURES, types=(wrong,)))["found_share"] is None
    assert "Nothing is overpaid." in shown(replace(FIGURES, types=(wrong,)))


def test_a_type_that_was_wrongly_moved_for_a_time_is_named() -> None:
    kept = replace(TRIAGE, name="synthesis", needs="frontier", answer=Answer.LEFT)
    moved = replace(DAY, verdicts={"synthesis": "provisional"})
    figures = replace(FIGURES, types=(kept,), days=(moved, DAY))

    assert "Wrongly moved for a time, and taken back: synthesis." in shown(figures)
    assert days_json(figures)["taken_back"] == ["synthesis"]
    assert days_json(replace(figures, days=(DAY,)))["taken_back"] == []


def test_the_curve_has_a_bar_for_each_day_and_its_audit() -> None:
    page = shown(FIGURES)

    assert re.search(r"day 1 +\$10\.50 +█{46}░░", page)
    assert re.search(r"day 2 +\$5\.50 +█{23}░░", page)
    assert "On the last day the fleet cost 50% of the first." in page


def test_a_ledger_that_differs_from_the_provider_is_said_to() -> None:
    assert "DISAGREES" in shown(replace(FIGURES, provider_nanos=usd("17")))
    assert FIGURES.agree


def test_a_verdict_that_is_taken_back_is_told_with_what_it_was() -> None:
    change = Change(task_type="triage", before="provisional", now="re-opened")

    assert "provisional → re-opened: triage" in day_line(replace(DAY, changes=(change,)))
    assert "no verdict changed" in day_line(DAY)


def test_one_day_is_not_replayed() -> None:
    assert RUNNER.invoke(app, ["demo", "--days", "1"]).exit_code == 2
