"""`tierwise init`, `check` and `schema`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.config import load_book, starter_policy
from tierwise.config.schema import policy_schema

runner = CliRunner()

TWO_PROBLEMS = """\
[tiers.frontier]
model = "claude-opus-5-5"

[task_types.extraction]
tier = "fats"
max_tokens = 100
colour = "red"
"""


def test_init_writes_a_policy_that_check_finds_fine(tmp_path: Path):
    written = runner.invoke(app, ["init"])

    assert written.exit_code == 0
    assert (tmp_path / "tierwise.toml").read_text() == starter_policy()
    assert runner.invoke(app, ["check"]).exit_code == 0


def test_init_says_what_to_do_next():
    written = runner.invoke(app, ["init", "--path", "other.toml"])

    assert "wrote other.toml" in written.stdout
    assert "`tierwise check --policy other.toml` and `tierwise serve --policy other.toml`" in written.stdout


def test_init_takes_another_pair_of_models(tmp_path: Path):
    runner.invoke(app, ["init", "--pair", "4.6"])

    assert load_book(tmp_path / "tierwise.toml").policy.frontier.model == "claude-opus-4-6"


def test_init_leaves_a_file_alone_that_is_there(policy: Path):
    policy.write_text("mine")

    refused = runner.invoke(app, ["init"])

    assert refused.exit_code == 3
    assert refused.stderr == "tierwise: tierwise.toml is there already; --force overwrites it\n"
    assert policy.read_text() == "mine"


def test_init_overwrites_when_it_is_forced(policy: Path):
    policy.write_text("mine")

    assert runner.invoke(app, ["init", "--force"]).exit_code == 0
    assert policy.read_text() == starter_policy()


def test_init_writes_neither_file_where_one_of_them_is_there(tmp_path: Path):
    (tmp_path / "tierwise.schema.json").write_text("mine")

    assert runner.invoke(app, ["init", "--schema"]).exit_code == 3
    assert not (tmp_path / "tierwise.toml").exists()


def test_init_puts_the_schema_beside_the_policy(tmp_path: Path):
    runner.invoke(app, ["init", "--schema"])

    assert json.loads((tmp_path / "tierwise.schema.json").read_text()) == policy_schema()
    assert (tmp_path / "tierwise.toml").read_text().startswith("#:schema ./tierwise.schema.json\n")


def test_init_says_why_it_cannot_write():
    failed = runner.invoke(app, ["init", "--path", "nowhere/tierwise.toml"])

    assert failed.exit_code == 3
    assert failed.stderr == "tierwise: nowhere/tierwise.toml: No such file or directory\n"


def test_schema_prints_the_schema():
    assert json.loads(runner.invoke(app, ["schema"]).stdout) == policy_schema()


def test_check_shows_where_each_task_type_goes(policy: Path):
    checked = runner.invoke(app, ["check"])

    version = load_book(policy).policy.version
    lines = [line.split() for line in checked.stdout.splitlines()]
    assert checked.stdout.startswith(f"tierwise.toml is fine: policy {version}, mode route, prices ")
    assert ["classification", "fast", "claude-haiku-5-5", "256", "off"] in lines
    assert ["evaluation", "frontier", "claude-opus-5-5", "4096", "medium", "keep"] in lines
    assert len(lines) == 2 + len(load_book(policy).policy.contracts)


def test_check_prints_problems_as_compilers_do(policy: Path):
    policy.write_text(TWO_PROBLEMS)

    checked = runner.invoke(app, ["check"])

    assert checked.exit_code == 1
    assert checked.stdout == ""
    places = [
        line.split(": ")[:2] for line in checked.stderr.splitlines() if line.startswith("tierwise.toml:")
    ]
    assert places == [
        ["tierwise.toml:5", "task_types.extraction.tier"],
        ["tierwise.toml:7", "task_types.extraction.colour"],
    ]


def test_check_tells_warnings_and_goes_on(policy: Path):
    policy.write_text(starter_policy() + "\n[task_types.review]\ntier = 'frontier'\n")

    checked = runner.invoke(app, ["check"])

    line = policy.read_text().splitlines().index("[task_types.review]") + 1
    assert checked.exit_code == 0
    assert checked.stderr.startswith(f"tierwise.toml:{line}: warning: task_types.review: ")
    assert "tierwise.toml is fine" in checked.stdout


def test_check_of_no_file_is_the_environments_fault():
    checked = runner.invoke(app, ["check", "--json"])

    assert checked.exit_code == 3
    assert checked.stderr == "tierwise.toml: there is no such file\n    `tierwise init` writes one\n"


def test_check_finds_the_policy_that_the_environment_names(policy: Path):
    other = policy.rename(policy.with_name("other.toml"))

    checked = runner.invoke(app, ["check"], env={"TIERWISE_POLICY": str(other)})

    assert checked.stdout.startswith(f"{other} is fine")


def test_check_prints_problems_as_json(policy: Path):
    policy.write_text(TWO_PROBLEMS)

    checked = runner.invoke(app, ["check", "--json"])

    found = json.loads(checked.stdout)
    assert checked.exit_code == 1
    assert found["ok"] is False
    assert [(problem["line"], problem["path"]) for problem in found["problems"]] == [
        (5, "task_types.extraction.tier"),
        (7, "task_types.extraction.colour"),
    ]


def test_check_prints_the_meaning_as_json(policy: Path):
    found = json.loads(runner.invoke(app, ["check", "--json"]).stdout)

    assert found["ok"] is True
    assert found["policy_version"] == load_book(policy).policy.version
    assert found["task_types"][0] == {
        "task_type": "synthesis",
        "tier": "frontier",
        "model": "claude-opus-5-5",
        "max_tokens": 8192,
        "effort": "medium",
        "thinking": "keep",
    }


@pytest.mark.usefixtures("policy")
def test_a_table_that_is_piped_has_neither_colours_nor_lines():
    checked = runner.invoke(app, ["check"])

    assert checked.stdout.isascii()
    assert "\x1b" not in checked.stdout
