"""The package as its users import it."""

import subprocess
import sys

import pytest

import tierwise
from tierwise.engine.router import Router
from tierwise.errors import PolicyError

HEAVY = ("aiohttp", "uvicorn", "typer", "rich", "asyncio", "sqlite3")


def loaded_after(code: str) -> set[str]:
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stdout.split())


def test_importing_the_package_loads_nothing_else_of_it():
    assert {name for name in loaded_after("import tierwise") if name.startswith("tierwise.")} == set()


def test_the_router_loads_neither_the_gateway_nor_the_command_line():
    loaded = loaded_after("import tierwise; tierwise.Router")

    assert "tierwise.engine.router" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_public_names_are_sorted_and_can_all_be_imported():
    imported: dict[str, object] = {}
    exec("from tierwise import *", imported)

    assert dir(tierwise) == sorted(tierwise.__all__) == list(tierwise.__all__)
    assert {*imported} - {"__builtins__"} == {*tierwise.__all__}


def test_a_public_name_is_the_one_of_its_module():
    assert tierwise.Router is Router
    assert tierwise.PolicyError is PolicyError


def test_the_version_is_the_installed_packages():
    assert tierwise.__version__.split(".")[0].isdecimal()


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tierwise' has no attribute 'Rooter'"):
        exec("tierwise.Rooter", {"tierwise": tierwise})
