"""Checks in the policy file: their forms, what they name, and what is told of those that cannot be used."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from support.policies import TWO_TIERS
from tierwise.config import load_book
from tierwise.core.checks import Check, Command, Function, Reply, Schema, TextRule
from tierwise.errors import PolicyError

SCHEMA = '{"type": "object", "required": ["total"]}'

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "invoice.json").write_text(SCHEMA)
    script(tmp_path / "checks.sh", "exit 0")
    return tmp_path


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def policy(folder: Path, *lines: str) -> Path:
    path = folder / "tierwise.toml"
    quality = "\n".join(f"quality.{line}" for line in lines)
    path.write_text(f"{TWO_TIERS}shadow = true\n{quality}\n")
    return path


def check_of(folder: Path, *lines: str) -> Check:
    found = load_book(policy(folder, *lines)).policy.contracts["extraction"].check
    assert found is not None
    return found


def told(folder: Path, *lines: str) -> str:
    with pytest.raises(PolicyError) as raised:
        load_book(policy(folder, *lines))
    (problem,) = raised.value.problems
    assert problem.line == TWO_TIERS.count("\n") + 2
    return problem.describe("tierwise.toml")


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("json", TextRule(kind="json")),
        ("json:a,b", TextRule(kind="json", argument="a,b")),
        ("exact:forty two", TextRule(kind="exact", argument="forty two")),
        ("regex:^a:b$", TextRule(kind="regex", argument="^a:b$")),
    ],
)
def test_a_rule_on_the_text_is_its_own_version(folder: Path, written: str, rule: TextRule) -> None:
    found = check_of(folder, f'check = "{written}"')

    assert found == Check(written=written, version=written, rule=rule, limit_s=10)


def test_a_schema_is_read_from_the_policys_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")

    found = check_of(folder, 'check = "schema:invoice.json"', 'check_timeout = "3s"')

    assert isinstance(found.rule, Schema)
    assert found.files == (str(folder / "invoice.json"),)
    assert found.limit_s == 3


def test_another_schema_is_another_version_and_another_layout_or_name_is_not(folder: Path) -> None:
    first = check_of(folder, 'check = "schema:invoice.json"')
    (folder / "moved.json").write_text('{"required":\n ["total"], "type": "object"}')
    same = check_of(folder, 'check = "schema:moved.json"')
    (folder / "invoice.json").write_text(SCHEMA.replace("total", "sum"))
    other = check_of(folder, 'check = "schema:invoice.json"')

    assert first.version == same.version != other.version


def test_a_command_is_words_that_no_shell_reads(folder: Path) -> None:
    alone = check_of(folder, 'check = "command:./checks.sh"')
    found = check_of(folder, 'check = ["command:./checks.sh", "--strict", "$HOME"]')

    assert alone.rule == Command(words=("./checks.sh",), folder=str(folder))
    assert found.rule == Command(words=("./checks.sh", "--strict", "$HOME"), folder=str(folder))
    assert alone.version != found.version


def test_a_commands_version_changes_with_the_files_in_the_folder_that_it_names(folder: Path) -> None:
    line = 'check = ["command:sh", "checks.sh"]'
    before = check_of(folder, line)
    script(folder / "checks.sh", "exit 1")
    after = check_of(folder, line)

    assert before.files == (str(folder / "checks.sh"),)
    assert before.version != after.version


@pytest.mark.parametrize("line", ['check = "command:./checks.sh"', 'check = "python:of_mine:good"'])
def test_a_version_of_ones_own_stands_for_the_hash(folder: Path, line: str) -> None:
    (folder / "of_mine.py").write_text("def good(reply):\n    return True\n")
    before = check_of(folder, line, 'check_version = "7"')
    script(folder / "checks.sh", "exit 1")

    assert check_of(folder, line, 'check_version = "7"').version == before.version
    assert check_of(folder, line, 'check_version = "8"').version != before.version


def test_a_function_is_imported_from_the_policys_folder_once(folder: Path) -> None:
    (folder / "counted_module.py").write_text(
        "from helping_module import yes\n\ndef good(reply):\n    return yes(reply.text)\n"
    )
    (folder / "helping_module.py").write_text("def yes(text):\n    return text == 'yes'\n")

    first, second = (check_of(folder, 'check = "python:counted_module:good"') for _ in range(2))

    assert isinstance(first.rule, Function)
    assert first.rule.call(Reply("yes")) is True
    assert first.rule.call is import_module("counted_module").good
    assert first.version == second.version


def test_a_functions_version_is_of_the_source_that_runs(folder: Path) -> None:
    module = folder / "edited_module.py"
    module.write_text("def good(reply):\n    return True\n\ndef other(reply):\n    return False\n")
    before = check_of(folder, 'check = "python:edited_module:good"')
    other = check_of(folder, 'check = "python:edited_module:other"')
    module.write_text("def good(reply):\n    return reply.text == 'edited'\n")

    assert before.version != other.version
    assert check_of(folder, 'check = "python:edited_module:good"').version == before.version


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("jsn", "is no check"),
        ("", "must be a check"),
        ("json-schema:invoice.json", 'write "schema:invoice.json"'),
        ("regex:", "names no pattern"),
        ("regex:(", "is no pattern: missing )"),
        ("exact:", "names no text"),
        ("schema:", "names no file"),
        ("schema:nowhere.json", "names no file: there is no"),
        ("schema:.", "cannot be read"),
        ("schema:binary", "is not UTF-8 text"),
        ("schema:bad.json", '"bad.json" refers to https://example.com/x, which is not in it'),
        ("schema:large.json", "is larger than a megabyte"),
        ("command:", "names no program"),
        ("command:./nowhere.sh", 'finds no program "./nowhere.sh"'),
        ("command:invoice.json", 'finds no program "invoice.json"'),
        ("command:sh checks.sh", 'write ["command:PROGRAM", "ARGUMENT"]: no shell splits it'),
        ("python:", "names no function"),
        ("python:wrong_module", "names no function"),
        ("python:not_there:good", 'cannot import "not_there": ModuleNotFoundError'),
        ("python:wrong_module:good", 'cannot import "wrong_module": ZeroDivisionError'),
        ("python:exiting_module:good", 'cannot import "exiting_module": SystemExit'),
        ("python:right_module:god", "did you mean good?"),
        ("python:right_module:NUMBER", "cannot be called"),
        ("python:right_module:later", "names a coroutine function"),
        ("python:right_module:built_in", "add check_version"),
    ],
)
def test_a_check_that_cannot_be_used_is_told_with_its_line(folder: Path, check: str, words: str) -> None:
    (folder / "binary").write_bytes(b"\xff\xfe")
    (folder / "bad.json").write_text('{"$ref": "https://example.com/x"}')
    (folder / "large.json").write_text(f"[{' ' * 2**20}]")
    (folder / "wrong_module.py").write_text("1 / 0")
    (folder / "exiting_module.py").write_text("raise SystemExit(3)")
    (folder / "right_module.py").write_text(
        "NUMBER = 1\nbuilt_in = len\ndef good(reply): ...\nasync def later(reply): ...\n"
    )

    assert words in told(folder, f'check = "{check}"')


def test_only_a_command_has_further_words(folder: Path) -> None:
    assert "has more than one word, which only command: has" in told(folder, 'check = ["json", "a"]')


def test_without_the_library_a_schema_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema.exceptions", None)

    assert 'pip install "tierwise[schema]"' in told(folder, 'check = "schema:invoice.json"')


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['check = "json"', 'check_version = "2"'], "is not used: a json check is its own version"),
        (["margin = 3", 'check_version = "2"'], "is not used: there is no check"),
        (["margin = 3", 'check_timeout = "2s"'], "is not used: there is no check"),
    ],
)
def test_what_is_said_in_vain_is_told(folder: Path, lines: list[str], words: str) -> None:
    warnings: Any = load_book(policy(folder, *lines)).warnings

    assert words in str(warnings)


def test_the_files_of_all_checks_are_part_of_the_policy(folder: Path) -> None:
    book = load_book(policy(folder, 'check = "schema:invoice.json"'))

    assert book.files == (str(folder / "invoice.json"),)
