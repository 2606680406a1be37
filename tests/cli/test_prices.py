"""`tierwise prices`."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.config.prices import shipped_prices

runner = CliRunner()

OWN_PRICE = """
[[prices]]
model = "claude-haiku-5-5"
input_usd_per_mtok = "0.125"
"""


def listed(*options: str) -> dict[str, dict[str, Any]]:
    shown = runner.invoke(app, ["prices", "--json", *options])
    assert shown.exit_code == 0, shown.stderr
    return {price["model"]: price for price in json.loads(shown.stdout)["prices"]}


def test_every_model_with_a_price_is_listed():
    assert list(listed()) == list(shipped_prices().models())


def test_a_price_is_shown_under_the_names_of_the_policy_file():
    price = listed()["claude-haiku-5-5"]

    assert price["input_usd_per_mtok"] == 0.1
    assert price["output_usd_per_mtok"] == 0.5
    assert price["long_prompt"]["above_prompt_tokens"] == 100_000
    assert price["fast"] is None


def test_a_price_holds_on_its_own_days():
    changed = next(price for price in shipped_prices().prices if price.effective_from is not None)
    first_day = str(changed.effective_from)

    assert listed("--at", first_day)[changed.model]["from"] == first_day
    assert listed("--at", "2025-01-01").get(changed.model, {}).get("from") != first_day


def test_the_policys_own_prices_are_in_place(policy: Path):
    policy.write_text(policy.read_text() + OWN_PRICE)

    price = listed()["claude-haiku-5-5"]

    assert price["input_usd_per_mtok"] == 0.125
    assert price["output_usd_per_mtok"] == 0.5


def test_a_policy_that_is_named_must_be_there():
    shown = runner.invoke(app, ["prices", "--policy", "nowhere.toml"])

    assert shown.exit_code == 3
    assert "nowhere.toml: there is no such file" in shown.stderr


def test_the_table_has_a_line_for_each_way_of_serving():
    lines = runner.invoke(app, ["prices"]).stdout.splitlines()

    haiku = next(index for index, line in enumerate(lines) if line.startswith("claude-haiku-5-5"))
    assert lines[haiku].split() == ["claude-haiku-5-5", "0.10", "0.50", "0.01", "0.125", "0.20"]
    assert lines[haiku + 1].split()[:3] == ["prompt", "over", "100,000"]


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01"])
def test_a_day_that_is_none_is_wrong_usage(day: str):
    assert runner.invoke(app, ["prices", "--at", day]).exit_code == 2
