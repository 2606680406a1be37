"""What the documentation says holds: pages are fresh, links lead somewhere, examples work."""

import ast
import json
import re
import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest
import typer

from tierwise.cli import COMMANDS, app
from tierwise.config import parse_book
from tierwise.config.starter import starter_policy
from tierwise.core import tasks
from tierwise.engine import doors, headers
from tierwise.gateway import app as routes
from tierwise.stores.ledger.schema import MIGRATIONS
from tierwise.wire import errors

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted((*ROOT.glob("*.md"), *DOCS.rglob("*.md")))
}

FENCED: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED: Final = re.compile(r"(?<=\n\n)(?:    .*\n+)+")
INLINE: Final = re.compile(r"`([^`\n]+)`")


def prose(page: str) -> str:
    """The page without its blocks of code."""
    return INDENTED.sub("", FENCED.sub("", page))


POLICY_PAGE: Final = "docs/reference/policy.md"
"""Its examples are those of the keys, and tested with them."""


def blocks(kind: str, *, without: str = "") -> list[Any]:
    """The fenced blocks of a language in all pages but one."""
    return [
        pytest.param(match[2], id=f"{name}:{page.count(chr(10), 0, match.start()) + 1}")
        for name, page in PAGES.items()
        for match in FENCED.finditer(page)
        if match[1] == kind and name != without
    ]


# --- Generated pages.


def test_the_generated_pages_are_up_to_date() -> None:
    pages: dict[Path, str] = runpy.run_path(str(ROOT / "tools" / "build_docs.py"))["pages"]()

    assert not [path.name for path, text in pages.items() if path.read_text("utf-8") != text]


# --- Links.


def anchors(page: str) -> set[str]:
    """The anchors that headings get."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(name: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[name])):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = unquote(target).partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        if not path.exists() or (anchor and anchor not in anchors(path.read_text("utf-8"))):
            yield target


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    assert list(dead_links(name)) == []


def test_the_index_names_every_page() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", PAGES["docs/README.md"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}

    assert pages - linked == {"README.md"}


# --- Examples.


def with_starter(fragment: str) -> str:
    """A policy of a fragment and those of the starter's tables that it lacks."""
    tables = re.split(r"^(?=\[)", starter_policy(), flags=re.MULTILINE)[1:]
    present = set(re.findall(r"^\[.+?\]$", fragment, re.MULTILINE))
    return "\n".join((fragment, *(table for table in tables if table.split("\n")[0] not in present)))


@pytest.mark.parametrize("block", blocks("toml", without=POLICY_PAGE))
def test_a_policy_in_the_documentation_loads(block: str) -> None:
    beside_the_examples = str(ROOT / "examples" / "checks" / "page.toml")

    assert parse_book(with_starter(block), file=beside_the_examples).policy.contracts


@pytest.mark.parametrize("block", blocks("sql"))
def test_a_query_in_the_documentation_runs(block: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in MIGRATIONS:
            connection.executescript(migration)

        assert connection.execute(block).description


@pytest.mark.parametrize("block", blocks("python"))
def test_python_in_the_documentation_is_python(block: str) -> None:
    assert ast.parse(block).body


@pytest.mark.parametrize("block", blocks("json"))
def test_json_in_the_documentation_is_json(block: str) -> None:
    assert json.loads(block)


TUTORIAL: Final = PAGES["docs/tutorial/first-day.md"]


def console(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page's terminal sessions, and what it prints."""
    for kind, text in FENCED.findall(page):
        if kind == "console":
            command, _, printed = text.removeprefix("$ ").partition("\n")
            yield command, printed


def test_the_tutorial_shows_what_its_first_commands_print(tmp_path: Path) -> None:
    request = next(text for kind, text in FENCED.findall(TUTORIAL) if kind == "json")
    (tmp_path / "request.json").write_text(request, "utf-8")
    shown = {
        command: printed
        for command, printed in console(TUTORIAL)
        if re.match(r"tierwise (init|check|explain request)", command)
    }

    said = {command: run(command, tmp_path) for command in shown}

    assert len(shown) == 3
    assert said == shown


def run(command: str, folder: Path) -> str:
    """What a command line prints, without the spaces at the ends of its lines."""
    _, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, "-m", "tierwise", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return re.sub(r" +$", "", done.stdout, flags=re.MULTILINE)


# --- Commands.


def commands() -> dict[str, set[str]]:
    """The options of each command, and of each command of a group: `ledger verify`."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("tierwise", [], resilient_parsing=True)
    loaded = {name: group.resolve_command(context, [name])[1] for name in COMMANDS}
    inner = {
        f"{name} {its}": command
        for name, outer in loaded.items()
        for its, command in getattr(outer, "commands", {}).items()
    }
    return {name: options(command) for name, command in (loaded | inner).items()}


def options(command: Any) -> set[str]:
    return {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}


COMMANDS_OF_ALL: Final = commands()
LISTED: Final = {name.removesuffix(" list") for name in COMMANDS_OF_ALL if name.endswith(" list")}
"""Groups whose `list` is meant where no command is named."""


def named(words: list[str]) -> str:
    """The command that a command line begins with."""
    inner = " ".join(words[:2])
    if inner in COMMANDS_OF_ALL:
        return inner
    return f"{words[0]} list" if words[0] in LISTED and "--help" not in words else words[0]


def command_lines() -> Iterator[tuple[str, str, list[str]]]:
    """Page, command and options of each `tierwise …` in code."""
    for name, page in PAGES.items():
        code = [
            *(match[2] for match in FENCED.finditer(page)),
            *(match[0] for match in INDENTED.finditer(page)),
            *INLINE.findall(prose(page)),
        ]
        for line in "\n".join(code).split("\n"):
            for call in re.split(r"\btierwise (?=[a-z]+\b)", line)[1:]:
                words = re.split(r"`| -- ", call)[0].split()
                yield name, named(words), [word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)]


def test_every_command_in_the_documentation_exists_with_its_options() -> None:
    wrong = [
        (page, command, words)
        for page, command, words in command_lines()
        if command not in COMMANDS_OF_ALL or not COMMANDS_OF_ALL[command].issuperset(words)
    ]

    assert not wrong


def test_every_command_is_used_somewhere_in_the_documentation() -> None:
    used = {command for page, command, _ in command_lines() if page != "docs/reference/cli.md"}

    groups = {name.split()[0] for name in COMMANDS_OF_ALL if " " in name}
    assert used >= COMMANDS_OF_ALL.keys() - groups


# --- Names.


def test_every_class_in_the_glossary_exists() -> None:
    homes = [f"tierwise.core.{path.stem}" for path in (ROOT / "src/tierwise/core").glob("[a-z]*.py")]
    modules = [import_module(name) for name in (*homes, "tierwise.usage", "tierwise.money")]
    named = re.findall(r"`([A-Z]\w+)`", PAGES["docs/glossary.md"])

    assert named
    assert not [name for name in named if not any(hasattr(module, name) for module in modules)]


def test_every_header_of_ours_is_on_the_page_of_headers() -> None:
    page = PAGES["docs/reference/http.md"]
    code = "".join(Path(str(module.__file__)).read_text("utf-8") for module in (tasks, headers, errors))
    ours = set(re.findall(r'"(x-tierwise-[a-z-]*[a-z])"', code))

    assert ours
    assert not [name for name in ours if f"`{name}`" not in page]


def test_every_address_of_ours_is_on_the_page_of_addresses() -> None:
    page = PAGES["docs/reference/http.md"]
    own = re.findall(r'"(/tierwise/\w+|/api/\w+)"', Path(str(routes.__file__)).read_text("utf-8"))
    addresses = (*own, doors.MESSAGES, doors.COUNT_TOKENS, *doors.NOT_SUPPORTED)

    assert own
    assert not [address for address in addresses if address not in page]
