"""The command line as a whole: what it lists, what it loads, and how it ends."""

import inspect
import os
import subprocess
import sys
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

from tierwise.cli import COMMANDS, app
from tierwise.cli.console import ExitCode, complain
from tierwise.config import load_book
from tierwise.errors import (
    LedgerUnavailable,
    MalformedRequest,
    PolicyError,
    PolicyProblem,
    TierwiseError,
    UnknownTaskType,
)

runner = CliRunner()


def help_of(name: str) -> str:
    entry = COMMANDS[name]
    found = getattr(import_module(f"tierwise.cli.{entry.module}"), entry.command)
    return str(found.info.help) if isinstance(found, typer.Typer) else inspect.getdoc(found) or ""


def python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_listed_with_the_first_sentence_of_its_help(name: str):
    listed = {line.strip() for line in runner.invoke(app, ["--help"]).stdout.splitlines()}

    sentence = help_of(name).split("\n")[0]

    assert COMMANDS[name].summary == sentence
    assert any(line.startswith(f"{name} ") and line.endswith(sentence) for line in listed)


@pytest.mark.parametrize(
    "name",
    [
        *COMMANDS,
        *(f"budget {name}" for name in ("list", "show", "top-up")),
        *(f"ledger {name}" for name in ("verify", "prune", "backup", "copy", "reconcile")),
    ],
)
def test_the_help_of_a_command_holds_an_example_of_it(name: str):
    shown = " ".join(runner.invoke(app, [*name.split(), "--help"]).stdout.split())

    assert f"Example: tierwise {name}" in shown


def test_a_group_lists_its_commands_with_whole_sentences():
    shown = runner.invoke(app, ["ledger", "--help"]).stdout + runner.invoke(app, ["budget", "--help"]).stdout

    assert "..." not in shown.partition("Commands:")[2].replace("[ARGS]...", "")


def test_a_group_without_a_command_shows_its_help_unless_it_lists():
    assert "Commands:" in runner.invoke(app, ["ledger"]).output
    assert runner.invoke(app, ["ledger"]).exit_code == ExitCode.USAGE
    assert "nowhere.toml" in runner.invoke(app, ["budget", "--policy", "nowhere.toml"]).output


def test_a_misspelt_command_of_a_group_is_wrong_usage_and_the_nearest_is_named():
    misspelt = runner.invoke(app, ["ledger", "verfy"])

    assert misspelt.exit_code == ExitCode.USAGE
    assert "Did you mean 'verify'" in misspelt.stderr


def test_help_tells_what_exit_codes_mean_and_where_the_key_comes_from():
    shown = " ".join(runner.invoke(app, ["--help"]).stdout.split())

    assert "Exit codes: 0 it went well; 1 what was asked about is wrong" in shown
    assert "ANTHROPIC_API_KEY" in shown


HEAVY = ("rich", "msgspec", "uvicorn", "aiohttp", "sqlite3", "tierwise.config", "tierwise.core")
LOADED = f"""
import atexit, sys
from tierwise.cli import main
atexit.register(lambda: print("loaded:", [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))
main()
"""


def test_listing_the_commands_loads_none_of_them():
    helped = python(f"import sys; sys.argv = ['tierwise', '--help']{LOADED}")

    assert "loaded: []" in helped.stderr


def test_completing_a_command_loads_none_of_them():
    completed = python(LOADED, _TIERWISE_COMPLETE="complete_bash", COMP_WORDS="tierwise che", COMP_CWORD="1")

    assert completed.stdout.split() == ["check"]
    assert "loaded: []" in completed.stderr


def test_the_shell_completes_the_options_of_a_command():
    completed = python(
        LOADED, _TIERWISE_COMPLETE="complete_bash", COMP_WORDS="tierwise serve --dr", COMP_CWORD="2"
    )

    assert completed.stdout.split() == ["--drain-seconds"]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tierwise ledger ver", ["verify"]),
        ("tierwise ledger prune --ol", ["--older-than"]),
        ("tierwise budget sh", ["show"]),
        ("tierwise budget --al", ["--all"]),
        ("tierwise budget top-up --wh", ["--who", "--why"]),
    ],
)
def test_the_shell_completes_the_commands_of_a_group_and_their_options(words: str, completed: list[str]):
    shown = python(
        LOADED,
        _TIERWISE_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split()) - 1),
    )

    assert shown.stdout.split() == completed


def test_the_version_is_the_packages():
    shown = runner.invoke(app, ["--version"])

    assert shown.stdout.startswith("tierwise 0.")


def test_a_misspelt_command_is_wrong_usage_and_the_nearest_is_named():
    misspelt = runner.invoke(app, ["chek"])

    assert misspelt.exit_code == ExitCode.USAGE
    assert "No such command 'chek'. Did you mean 'check'" in misspelt.stderr


def test_the_package_runs_as_a_module():
    shown = subprocess.run(
        [sys.executable, "-m", "tierwise", "--help"], capture_output=True, text=True, check=True
    )

    assert shown.stdout.startswith("Usage: tierwise [OPTIONS] COMMAND")


PROBLEM = PolicyProblem(
    path="tiers.fast.model", line=7, message="is not known in [tiers.fast]", fix="write it so"
)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            PolicyError(file="a.toml", problems=(PROBLEM,)),
            1,
            "a.toml:7: tiers.fast.model: is not known in [tiers.fast]\n    write it so\n",
        ),
        (MalformedRequest(why="model: Field required"), 1, "tierwise: model: Field required\n"),
        (
            UnknownTaskType(task_type="x", nearest=None, known=("a", "b")),
            1,
            "tierwise: The policy has no task type 'x'. It knows: a, b.\n",
        ),
        (
            LedgerUnavailable(path="l.sqlite3", why="disk I/O error"),
            3,
            "tierwise: the ledger l.sqlite3 cannot be used: disk I/O error\n",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "r.json"),
            3,
            "tierwise: r.json: No such file or directory\n",
        ),
        (OSError("no address"), 3, "tierwise: no address\n"),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
):
    assert complain(error) == code

    assert capsys.readouterr().err == said


def test_a_policy_that_cannot_be_read_is_the_environments_fault(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(TierwiseError) as raised:
        load_book("nowhere.toml")

    assert complain(raised.value) == ExitCode.ENVIRONMENT
    assert "nowhere.toml: there is no such file\n    `tierwise init` writes one" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    cut = subprocess.run(
        f"{sys.executable} -m tierwise schema | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )

    assert cut.stdout == "{"
    assert cut.stderr == ""
