"""`tierwise sandbox`."""

import inspect
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.cli.sandbox import sandbox
from tierwise.sandbox.server import Options, Running

Start = Callable[..., subprocess.Popen[str]]
runner = CliRunner()


def test_it_takes_every_option_of_the_sandbox_with_its_default():
    offered = {name: option.default for name, option in inspect.signature(sandbox).parameters.items()}

    assert offered == {option.name: option.default for option in fields(Options)}


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(start: Start, stop: signal.Signals):
    process = start("sandbox", "--port", "0", "--seed", "3")
    assert process.stdout is not None
    told = process.stdout.readline()

    billed = Running(told.split()[-1]).billing()
    process.send_signal(stop)
    _, complaints = process.communicate(timeout=60)

    assert told.startswith("sandbox provider at http://127.0.0.1:")
    assert billed["total_nanos"] == 0
    assert (process.returncode, complaints) == (0, "")


def test_a_fleet_file_that_is_no_such_file_is_told(tmp_path: Path):
    fleet = tmp_path / "fleet.toml"
    fleet.write_text("nonsense")

    refused = runner.invoke(app, ["sandbox", "--port", "0", "--fleet", str(fleet)])

    assert refused.exit_code == 1
    assert str(fleet) in refused.stderr


def test_a_port_that_is_taken_is_the_environments_fault():
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused = runner.invoke(app, ["sandbox", "--port", str(other.getsockname()[1])])

    assert refused.exit_code == 3
    assert "cannot be listened on" in refused.stderr
