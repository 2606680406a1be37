"""What the repository looks like: rules that no linter holds."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import tierwise

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "src" / "tierwise"
TEXTS: Final = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}

LONGEST_FILE: Final = 450
LONG_FILES: Final = {
    "sandbox/validate.py",  # the provider's refusals, one after the other
}

LONGEST_FUNCTION: Final = 60
LONG_FUNCTIONS: Final[set[str]] = set()

NOT_TEXT: Final = {".gz", ".ico", ".parquet", ".png"}

ELSEWHERE: Final = re.compile(
    r"pythonhoste[d]\.org|pyp[i]\.org|--(extra-)?index-url\b|/(home|Users)/\w+/|/roo[t]/"
)
"""Package indexes, and paths of somebody's machine; written so that it does not find itself."""


def test_every_module_begins_with_its_one_idea() -> None:
    assert not [name for name, text in TEXTS.items() if not ast.get_docstring(ast.parse(text))]


def test_files_are_short_enough_to_be_read() -> None:
    assert {name for name, text in TEXTS.items() if text.count("\n") > LONGEST_FILE} == LONG_FILES


def functions(name: str, text: str) -> Iterator[tuple[str, int]]:
    """Name and length of each function, its docstring not counted."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                yield f"{name}:{node.name}", (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_functions_are_short_enough_to_be_seen_at_once() -> None:
    lengths = dict(length for name, text in TEXTS.items() for length in functions(name, text))

    assert {name for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == LONG_FUNCTIONS


def test_nothing_is_left_for_later_in_a_comment() -> None:
    assert not [name for name, text in TEXTS.items() if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)]


def test_the_package_exports_what_it_names_in_order() -> None:
    assert list(tierwise.__all__) == sorted(tierwise.__all__)
    assert all(hasattr(tierwise, name) for name in tierwise.__all__)


def tracked() -> Iterator[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for line in listed.stdout.splitlines():
        path = ROOT / line
        if path.is_file() and path.suffix not in NOT_TEXT:
            yield path


def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if ELSEWHERE.search(line)
    ]

    assert not found


def test_every_file_ends_with_one_newline() -> None:
    ends = {path: path.read_bytes()[-2:] for path in tracked()}

    assert not [path for path, end in ends.items() if end and (end[-1:] != b"\n" or end == b"\n\n")]
