import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.entries import decided, failed, posted
from tierwise.cli import app
from tierwise.money import usd
from tierwise.stores.ledger.sqlite import open_ledger

AT = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1_000_000
HOUR = 3_600_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite3"
    written = open_ledger(path)
    cheap = {"cost_nanos": usd(2), "at_frontier_nanos": usd(8), "as_asked_nanos": usd(4)}
    dear = {"cost_nanos": usd(6), "at_frontier_nanos": usd(6), "as_asked_nanos": usd(6)}
    written.write(
        [
            decided("c1", at_us=AT),
            posted("c1", at_us=AT, **cheap),
            decided("c2", at_us=AT + HOUR, task_type="synthesis", tier="frontier", agent="[/x] \x1b[2J"),
            posted("c2", at_us=AT + HOUR, stop_reason="max_tokens", **dear),
            decided("c3", at_us=AT + 2 * HOUR, unknown_type="extractoin", nearest_type="extraction"),
            failed("c3", at_us=AT + 2 * HOUR, cost_nanos=None, at_least_nanos=usd(1)),
            decided("c4", at_us=AT + 30 * HOUR),
        ]
    )
    written.close()
    return path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def as_json(*arguments: str) -> dict[str, Any]:
    return json.loads(run("--json", *arguments))


def test_a_report_says_spend_baselines_truncation_and_what_is_unknown(ledger: Path) -> None:
    found = as_json("--ledger", str(ledger))

    assert found["total"]["spend_usd"] == 8
    assert found["total"]["all_frontier_usd"] == 14
    assert found["total"]["as_asked_usd"] == 10
    assert found["total"]["truncation_waste_usd"] == 6
    assert found["total"]["truncated_share"] == 0.5
    assert (found["total"]["calls"], found["total"]["finished"], found["total"]["failed"]) == (4, 2, 1)
    assert (found["total"]["open"], found["total"]["unknown_cost_calls"]) == (1, 1)
    assert found["total"]["unknown_at_least_usd"] == 1
    assert [row["key"] for row in found["rows"]] == ["synthesis", "extraction"]
    assert found["unknown_types"] == [{"name": "extractoin", "nearest": "extraction", "calls": 1}]


def test_a_report_for_people_says_the_same_in_sentences(ledger: Path) -> None:
    said = run("--ledger", str(ledger))

    assert "Against everything on the frontier tier, at equal tokens: saved 42.9% of $14.00." in said
    assert "Against as the callers asked, at equal tokens: saved 20.0% of $10.00." in said
    assert "1 calls have an unknown cost, of at least $1.00" in said
    assert "1 calls have no ending" in said
    assert "'extractoin', which the policy does not know; extraction is the nearest that it knows" in said


def test_what_callers_wrote_is_neither_markup_nor_a_control_character(ledger: Path) -> None:
    said = run("--by", "agent", "--ledger", str(ledger))

    assert "[/x]" in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("span", "calls"),
    [
        (("--since", "2026-11-20T12:30"), 4),
        (("--since", "2026-11-20T13:00"), 3),
        (("--until", "2026-11-20T13:00"), 1),
        (("--since", "2026-11-20", "--until", "2026-11-21"), 3),
        (("--since", "2026-11-20T13:00+00:00", "--until", "2026-11-20T14:00:01+00:00"), 1),
    ],
)
def test_a_span_is_counted_in_whole_hours_by_when_calls_were_read(
    ledger: Path, span: tuple[str, ...], calls: int
) -> None:
    assert as_json("--ledger", str(ledger), *span)["total"]["calls"] == calls


def test_a_span_back_from_now_leaves_out_what_is_older(ledger: Path) -> None:
    written = open_ledger(ledger)
    written.write([decided("c5", at_us=int(datetime.now(UTC).timestamp()) * 1_000_000 - HOUR)])
    written.close()

    assert as_json("--ledger", str(ledger), "--since", "2h")["total"]["calls"] == 1


def test_days_stand_in_order_and_not_by_spend(ledger: Path) -> None:
    found = as_json("--by", "day", "--ledger", str(ledger))

    assert [row["key"] for row in found["rows"]] == ["2026-11-20", "2026-11-21"]


def test_an_empty_span_is_said_to_be_empty(ledger: Path) -> None:
    assert "No calls in this span." in run("--ledger", str(ledger), "--until", "2020-01-01")


def test_a_span_that_cannot_be_read_is_wrong_usage(ledger: Path) -> None:
    assert "neither a span" in run("--ledger", str(ledger), "--since", "yesterday", code=2)


def test_a_missing_ledger_is_a_matter_of_the_environment(tmp_path: Path) -> None:
    assert "no such file" in run("--ledger", str(tmp_path / "none.sqlite3"), code=3)
