"""`tierwise audit`."""

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.entries import decided, outcome, posted
from support.policies import TWO_TIERS
from tierwise.audit.counts import Arm, LineKey
from tierwise.cli import app
from tierwise.cli.console import out
from tierwise.config import parse_book
from tierwise.core.ledger import Entry, Paired
from tierwise.engine.clock import now_us
from tierwise.money import usd
from tierwise.stores.ledger.pairs import DAY_US
from tierwise.stores.ledger.sqlite import open_ledger

POLICY = TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true')
KEY = LineKey(
    task_type="synthesis",
    dear=Arm(tier="frontier", model="claude-opus-5-5"),
    cheap=Arm(tier="fast", model="claude-haiku-5-5"),
)


def pair(number: int, difference: int | None) -> Paired:
    return Paired(
        pair_id=f"pair-{number}",
        at_us=now_us(),
        call_id="c1",
        shadow_call_id="c2",
        task_type="synthesis",
        line=KEY.id,
        line_parts=KEY.parts,
        on_dear=True,
        difference=difference,
        how="differs" if difference is None else "check",
        probability=0.1,
        cluster=f"k{number}",
        dear_nanos=usd("0.10"),
        cheap_nanos=usd("0.01"),
    )


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "width", 300)


def files(folder: Path, entries: list[Entry], policy: str = POLICY) -> list[str]:
    (folder / "tierwise.toml").write_text(policy, "utf-8")
    ledger = open_ledger(folder / "ledger.sqlite3")
    ledger.write(entries)
    ledger.close()
    return ["--policy", str(folder / "tierwise.toml"), "--ledger", str(folder / "ledger.sqlite3")]


def day_of_synthesis() -> list[Entry]:
    return [
        decided(task_type="synthesis", tier="frontier", at_us=now_us()),
        posted(cost_nanos=usd("100"), at_us=now_us()),
    ]


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["audit", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_without_pairs_it_says_so(tmp_path: Path) -> None:
    assert "No pairs yet." in told("list", *files(tmp_path, []))


def test_a_policy_that_shadows_nothing_is_told(tmp_path: Path) -> None:
    assert "no task type of the policy has shadow = true" in told(*files(tmp_path, [], TWO_TIERS))


def test_a_proven_type_is_shown_with_what_it_would_save_and_proposed(tmp_path: Path) -> None:
    options = files(tmp_path, [*day_of_synthesis(), *(pair(number, 0) for number in range(300))])

    shown, proposed = told("list", *options), told("propose", *options)

    assert "proven" in shown
    assert "$90.00 saved" in shown
    assert "300 checked" in shown
    assert '-tier = "frontier"\n+# audit: ' in proposed
    assert "proven: of 300 pairs fast did worse than frontier in 0, as well in 300, better in 0" in proposed
    assert '+tier = "fast"\n' in proposed


def test_a_provisional_type_is_proposed_only_when_asked_for(tmp_path: Path) -> None:
    options = files(tmp_path, [*day_of_synthesis(), *(pair(number, 0) for number in range(60))])

    assert told("propose", *options).startswith("Nothing to change")
    assert "provisional: of 60 pairs" in told("propose", "--provisional", *options)


def test_open_pairs_are_shown_and_ask_for_a_check(tmp_path: Path) -> None:
    options = files(tmp_path, [*day_of_synthesis(), *(pair(number, None) for number in range(3))])

    assert "give their types a quality.check" in told("list", *options)


def test_machines_get_counts_and_amounts_in_whole_nanodollars(tmp_path: Path) -> None:
    entries = [*day_of_synthesis(), *(pair(number, number % 2 - 1) for number in range(40))]

    (line,) = json.loads(told("list", "--json", *files(tmp_path, entries)))["lines"]

    assert (line["task_type"], line["verdict"]) == ("synthesis", "needed")
    assert (line["pairs"], line["worse"], line["same"], line["better"], line["undecided"]) == (
        40,
        20,
        20,
        0,
        0,
    )
    assert line["stake_nanos_a_day"]["amount"] == usd("90")


def test_what_a_further_dollar_buys_is_told_where_every_pair_is_graded(tmp_path: Path) -> None:
    graded = [*day_of_synthesis(), *(pair(number, number % 2 - 1) for number in range(40))]
    options = files(tmp_path, graded)

    (line,) = json.loads(told("list", "--json", *options))["lines"]

    value = line["value_per_usd"]
    assert value["amount"] == pytest.approx(0.5 / 0.09)
    assert value["low"] < value["amount"] < value["high"]
    assert "5.6 tasks (" in told("list", *options)


def test_with_an_open_pair_nobody_can_say_what_a_dollar_buys(tmp_path: Path) -> None:
    entries = [*day_of_synthesis(), pair(1, 0), pair(2, None)]

    (line,) = json.loads(told("list", "--json", *files(tmp_path, entries)))["lines"]

    assert line["value_per_usd"] is None


def of_type(name: str, found: list[Paired]) -> list[Paired]:
    key = replace(KEY, task_type=name)
    return [
        replace(each, pair_id=f"{name}-{each.pair_id}", task_type=name, line=key.id, line_parts=key.parts)
        for each in found
    ]


def test_types_on_which_the_tiers_differ_equally_have_no_routable_gap(tmp_path: Path) -> None:
    alike = [pair(number, -1 if number % 20 == 0 else 0) for number in range(3000)]
    options = files(tmp_path, [*day_of_synthesis(), *alike, *of_type("extraction", alike)])

    found = json.loads(told("list", "--json", *options))

    assert found["routable_gap"] == "no routable gap"
    assert [line["value_rank"] for line in found["lines"]] == [None, None]
    assert "There is no routable gap" in told("list", *options)


def test_types_that_differ_are_ranked_by_what_a_further_dollar_buys(tmp_path: Path) -> None:
    needs = [pair(number, -1 if number % 2 else 0) for number in range(300)]
    fine = of_type("extraction", [pair(number, 0) for number in range(300)])
    options = files(tmp_path, [*day_of_synthesis(), *needs, *fine])

    found = json.loads(told("list", "--json", *options))

    assert found["routable_gap"] == "routable"
    assert {line["task_type"]: line["value_rank"] for line in found["lines"]} == {
        "synthesis": 1,
        "extraction": 2,
    }
    assert "no routable gap" not in told("list", *options)


def test_of_a_type_with_several_alternatives_one_change_is_proposed(tmp_path: Path) -> None:
    low = replace(KEY, cheap=Arm(tier="low", model="claude-opus-5-5", effort="low"))
    policy = POLICY.replace(
        "[tiers.fast]", '[tiers.low]\nmodel = "claude-opus-5-5"\neffort = "low"\n[tiers.fast]'
    )
    to_low = [
        replace(
            pair(number, 0),
            pair_id=f"low-{number}",
            line=low.id,
            line_parts=low.parts,
            cheap_nanos=usd("0.06"),
        )
        for number in range(300)
    ]
    to_fast = [pair(number, 0) for number in range(300)]
    options = files(tmp_path, [*day_of_synthesis(), *to_low, *to_fast], policy)

    proposed = told("propose", *options)

    assert '+tier = "fast"' in proposed
    assert '+tier = "low"' not in proposed


def of_two_agents() -> list[Entry]:
    """The planner needs the dearer tier, and the reader does not."""
    return [
        *day_of_synthesis(),
        *(
            replace(
                pair(number, -1 if number % 4 == 0 else 0),
                features=(("agent", "planner" if number % 2 == 0 else "reader"), ("tools", "none")),
            )
            for number in range(400)
        ),
    ]


def test_a_type_of_two_agents_with_different_truths_is_to_be_two_types(tmp_path: Path) -> None:
    options = files(tmp_path, of_two_agents())

    shown, proposed = told("list", *options), told("propose", *options)
    (line,) = json.loads(told("list", "--json", *options))["lines"]

    assert "synthesis should be several types, by agent, which is proven with ln E = " in shown
    assert "# [[match]]\n" in proposed
    assert '# task_type = "synthesis-planner"\n# headers.x-tierwise-agent = "planner"\n' in proposed
    assert '# [task_types.synthesis-planner]\n# tier = "frontier"\n' in proposed
    assert line["split"]["feature"] == "agent"
    assert [(group["name"], group["worse"]) for group in line["split"]["groups"]] == [
        ("planner", 100),
        ("reader", 0),
    ]
    assert line["split"]["log_e"] > line["split"]["needed"]
    assert (tmp_path / "tierwise.toml").read_text("utf-8") == POLICY
    assert json.loads(told("propose", "--json", *options))["splits"] == [
        each for each in proposed.splitlines() if each.startswith("# ") and "audit: " not in each
    ]


def test_a_rule_that_could_name_several_agents_is_not_offered(tmp_path: Path) -> None:
    stars = [
        replace(each, features=tuple((name, f"*{value}") for name, value in each.features))
        if isinstance(each, Paired)
        else each
        for each in of_two_agents()
    ]

    proposed = told("propose", *files(tmp_path, stars))

    assert "have the callers name a type for each" in proposed
    assert "[[match]]" not in proposed


def test_of_a_type_with_an_open_pair_no_split_is_proposed(tmp_path: Path) -> None:
    options = files(tmp_path, [*of_two_agents(), pair(999, None)])

    assert "several types" not in told("list", *options)


# --- Finished tasks.


def tasks(tier: str, *, cost: int, good: float = 1.0, **changes: Any) -> list[Entry]:
    """Thirty finished tasks of two calls each, of so many runs, and what was told of them."""
    model = "claude-opus-5-5" if tier == "frontier" else "claude-haiku-5-5"
    entries: list[Entry] = []
    for number in range(30):
        name = f"{tier}-{number}"
        for call in (f"{name}-a", f"{name}-b"):
            about = {"task_type": "synthesis", "run_id": name, "task_id": None, "at_us": now_us()}
            entries.append(decided(call, tier=tier, decided_model=model, **about, **changes))
            entries.append(posted(call, cost_nanos=cost + number, at_us=now_us()))
        quality = float(number < 30 * good)
        entries.append(outcome(name, run_id=name, task_id=None, quality=quality, at_us=now_us()))
    return entries


def test_a_row_says_whether_its_dollars_rest_on_finished_tasks_or_on_pairs(tmp_path: Path) -> None:
    some = [pair(number, 0) for number in range(300)]
    by_pairs = files(tmp_path, [*tasks("frontier", cost=usd("0.10")), *some])
    assert "by 300 pairs" in told("list", *by_pairs)

    by_tasks = files(tmp_path, tasks("fast", cost=usd("0.02")))

    assert "by 60 finished tasks" in told("list", *by_tasks)
    (line,) = json.loads(told("list", "--json", *by_tasks))["lines"]
    assert (line["costs"]["rest_on"], line["costs"]["drawn"]) == ("tasks", False)
    assert line["costs"]["cheap_per_dear"]["amount"] == pytest.approx(0.2)
    assert line["costs"]["tasks"]["cheap"]["tasks"] == 30
    assert line["costs"]["tasks"]["cheap"]["nanos_a_task"] == 2 * usd("0.02") + 29


def test_where_tasks_of_the_cheaper_tier_cost_more_nothing_is_proposed_and_it_says_why(
    tmp_path: Path,
) -> None:
    entries = [*tasks("frontier", cost=usd("0.10")), *tasks("fast", cost=usd("0.13"))]
    options = files(tmp_path, [*entries, *(pair(number, 0) for number in range(300))])

    shown = told("list", *options)

    assert "proven" in shown
    assert (
        "Of synthesis, a finished task costs more on fast than on frontier: no verdict moves it down."
        in shown
    )
    assert told("propose", "--provisional", *options).startswith("Nothing to change")


def test_outcomes_compare_tiers_only_where_their_runs_were_drawn(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    some = [pair(number, 0) for number in range(60)]
    as_tagged = [*tasks("frontier", cost=9, good=0.9), *tasks("fast", cost=3, good=0.6)]
    drawn = [
        *tasks("frontier", cost=9, good=0.9, selection_probability=0.1),
        *tasks("fast", cost=3, good=0.6, selection_probability=0.9),
    ]

    not_drawn = told("list", *files(tmp_path / "a", [*as_tagged, *some]))
    options = files(tmp_path / "b", [*drawn, *some])
    (line,) = json.loads(told("list", "--json", *options))["lines"]

    assert "on average 0.90 of 30 tasks on frontier, 0.60 of 30 on fast; nobody drew" in not_drawn
    assert "their runs were drawn, and the tiers differ by -" in told("list", *options)
    assert line["outcomes"]["drawn"]
    assert line["outcomes"]["difference"]["amount"] == pytest.approx(-0.3)
    assert line["verdict"] == "provisional"


# --- Recorded pairs.


def recorded(folder: Path, *differences: int, more: str = "") -> Path:
    path = folder / "pairs.jsonl"
    lines = [
        json.dumps(
            {
                "task_type": "extraction",
                "cluster": number,
                "cheap": {"quality": min(1, 1 + difference), "cost_usd": 0.001},
                "frontier": {"quality": min(1, 1 - difference), "cost_usd": 0.025},
            }
        )
        for number, difference in enumerate(differences)
    ]
    path.write_text("\n".join(lines) + "\n" + more, "utf-8")
    return path


def test_recorded_pairs_get_a_row_a_type_without_a_policy_or_a_ledger(tmp_path: Path) -> None:
    path = recorded(tmp_path, *[0] * 300, -1, 1)

    told_all = json.loads(told("run", "--from", str(path), "--json"))
    (row,) = told_all["types"]

    assert (told_all["margin"], told_all["error"], told_all["pairs"]) == (0.03, 0.05, 302)
    assert (row["task_type"], row["verdict"], row["pairs"]) == ("extraction", "proven", 302)
    assert row["interval"][0] < row["mean_difference"] == 0 < row["interval"][1]
    assert row["needless_usd_per_task"] == 0.024
    assert row["needless_usd_per_task_interval"] == [0.024, 0.024]


def test_recorded_pairs_come_from_standard_input_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["audit", "run", "--from", "-"], input=recorded(tmp_path, *[0] * 300).read_bytes()
    )

    assert result.exit_code == 0
    assert "proven" in result.output
    assert "$0.0240" in result.output


@pytest.mark.parametrize(("points", "share"), [("5", "0.05"), ("1", "0.01"), ("12.5", "0.125")])
def test_margin_and_error_are_points_or_shares(tmp_path: Path, points: str, share: str) -> None:
    path = str(recorded(tmp_path, 0, 0))

    in_points = told("run", "--from", path, "--margin", points, "--error", points, "--json")

    assert in_points == told("run", "--from", path, "--margin", share, "--error", share, "--json")


@pytest.mark.parametrize("value", ["0", "-1", "0.4", "60", "nan", "inf", "three"])
def test_a_margin_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    result = CliRunner().invoke(
        app, ["audit", "run", "--from", str(recorded(tmp_path, 0)), "--margin", value]
    )

    assert result.exit_code == 2


def test_a_line_that_cannot_be_used_stops_the_audit_unless_it_is_to_go_on(tmp_path: Path) -> None:
    path = recorded(tmp_path, *[0] * 300, more='{"task_type": "extraction", "cheap": 1}\nno\n')

    stopped = CliRunner().invoke(app, ["audit", "run", "--from", str(path)])
    went_on = told("run", "--from", str(path), "--keep-going")

    assert stopped.exit_code == 1
    assert f"{path}: line 301: " in stopped.output
    assert "2 lines cannot be used: 1 count as open pairs, 1 name no task type" in went_on
    assert "1 pairs name no cluster" in went_on


def test_further_pairs_of_a_cluster_are_told(tmp_path: Path) -> None:
    path = recorded(tmp_path, 0)
    path.write_text(path.read_text("utf-8") * 2, "utf-8")

    assert "1 further pairs of clusters" in told("run", "--from", str(path))


def test_an_empty_file_has_no_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("", "utf-8")

    assert told("run", "--from", str(path)) == "No pairs.\n"


def proven(folder: Path, policy: str = POLICY) -> list[str]:
    return files(folder, [*day_of_synthesis(), *(pair(number, 0) for number in range(300))], policy)


def test_what_is_applied_is_what_was_proposed_and_nothing_else(tmp_path: Path) -> None:
    options = proven(tmp_path, POLICY + "\n# The end.\n")
    file = tmp_path / "tierwise.toml"
    file.chmod(0o640)
    before = file.read_text()

    told("apply", "synthesis", "--yes", "--who", "ops", *options)

    after = file.read_text()
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert [line for line in added if not line.startswith("# audit: ")] == []
    assert parse_book(after, file="x").policy.contracts["synthesis"].tier == "fast"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert "Nothing to change" in told("propose", *options)


def test_the_log_tells_who_applied_what_and_why(tmp_path: Path) -> None:
    options = proven(tmp_path)
    told("apply", "--yes", "--who", "ops", *options)

    shown = told("log", *options[2:])
    (act,) = json.loads(told("log", "--json", *options[2:]))["acts"]

    assert "applied" in shown
    assert "frontier → fast" in shown
    assert (act["act"], act["who"], act["why"]) == ("applied", "ops", "proven, 300 pairs")


def test_without_an_act_the_log_says_so(tmp_path: Path) -> None:
    assert "Nothing has come of any verdict yet." in told("log", *files(tmp_path, [])[2:])


@pytest.mark.parametrize("arguments", [["apply"], ["apply", "--json"]])
def test_nothing_is_written_unless_somebody_says_yes(tmp_path: Path, arguments: list[str]) -> None:
    options = proven(tmp_path)
    before = (tmp_path / "tierwise.toml").read_bytes()

    result = CliRunner().invoke(app, ["audit", *arguments, *options], input="n\n")

    assert result.exit_code == 0
    assert (tmp_path / "tierwise.toml").read_bytes() == before
    assert "Nothing has come" in told("log", *options[2:])


def test_a_type_that_no_verdict_moves_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    options = proven(tmp_path)

    result = CliRunner().invoke(app, ["audit", "apply", "extraction", "--yes", *options])

    assert result.exit_code == 1
    assert "no verdict asks for a change of extraction" in result.output


def test_a_change_that_would_not_load_is_not_written(tmp_path: Path) -> None:
    thinks = POLICY.replace('thinking = "off"', "thinking_floor = 4096")
    options = proven(tmp_path, thinks.replace("max_tokens = 8192", "max_tokens = 4000"))
    before = (tmp_path / "tierwise.toml").read_bytes()

    result = CliRunner().invoke(app, ["audit", "apply", "--yes", *options])

    assert result.exit_code == 1
    assert (tmp_path / "tierwise.toml").read_bytes() == before


def test_each_line_says_at_which_rate_it_gives_pairs_today(tmp_path: Path) -> None:
    yesterday = [replace(pair(number, 0), at_us=now_us() - 2 * DAY_US) for number in range(300)]
    options = files(tmp_path, [*day_of_synthesis(), *yesterday])

    (line,) = json.loads(told("list", "--json", *options))["lines"]

    assert line["verdict"] == "proven"
    assert 0 < line["rate_today"] < 0.1


def test_a_type_that_moves_to_one_of_its_alternatives_is_compared_with_the_tier_that_it_had(
    tmp_path: Path,
) -> None:
    named = POLICY.replace("shadow = true", 'shadow = true\nshadow_on = ["frontier", "fast"]')
    told("apply", "synthesis", "--yes", "--who", "ops", *proven(tmp_path, named))

    contract = parse_book((tmp_path / "tierwise.toml").read_text(), file="x").policy.contracts["synthesis"]

    assert (contract.tier, contract.shadow_on) == ("fast", ("frontier", "fast"))
