"""`tierwise run`: a command with a gateway of its own."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.policies import TWO_TIERS, with_openai
from tierwise.cli import app
from tierwise.cli.run import environment
from tierwise.sandbox.server import Running
from tierwise.stores.ledger.sqlite import read_ledger

Start = Callable[..., subprocess.Popen[str]]
runner = CliRunner()

AGENT = """
import anthropic, sys
with anthropic.Anthropic(api_key="key") as client:
    client.messages.create(
        model="task/extraction", max_tokens=100, messages=[{"role": "user", "content": "hello"}]
    )
sys.exit(7)
"""

OPENAI_AGENT = """
import openai, sys
with openai.OpenAI(api_key="key") as client:
    client.responses.create(model="task/extraction", input="hello")
sys.exit(7)
"""

PATIENT = """
import signal, sys, time
def stop(number, frame):
    print("told to stop by", signal.Signals(number).name)
    sys.exit(5)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, stop)
print("ready", flush=True)
time.sleep(60)
"""

COUNTING = """
import signal, sys, time
arrived = []
signal.signal(signal.SIGINT, lambda number, frame: arrived.append(number))
print("ready", flush=True)
while not arrived:
    time.sleep(0.01)
time.sleep(1)
sys.exit(10 + len(arrived))
"""


def run_with(sandbox: Running, *command: str) -> tuple[str, ...]:
    return ("run", "--upstream", sandbox.base_url, "--", *command)


def test_the_commands_calls_go_through_and_its_exit_code_is_kept(
    start: Start, policy: Path, sandbox: Running, tmp_path: Path
):
    process = start(*run_with(sandbox, sys.executable, "-c", AGENT))
    _, told = process.communicate(timeout=60)

    with closing(read_ledger(tmp_path / "tierwise.sqlite3")) as reader:
        (found,) = reader.rows("SELECT count(*) AS calls FROM calls WHERE ending = 'posted'")
    assert policy.exists()
    assert found["calls"] == 1
    assert process.returncode == 7, told


def test_the_report_of_the_run_goes_to_stderr(start: Start, policy: Path, sandbox: Running):
    start(*run_with(sandbox, sys.executable, "-c", AGENT)).communicate(timeout=60)

    told, report = start(*run_with(sandbox, sys.executable, "-c", AGENT)).communicate(timeout=60)

    lines = [line.split() for line in report.replace("│", " ").splitlines()]
    assert policy.exists()
    assert told == ""
    assert ["extraction", "1"] in [line[:2] for line in lines], "the first run is not in the second's report"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("policy")
def test_a_signal_is_passed_on_to_the_command(start: Start, sandbox: Running, number: signal.Signals):
    process = start(*run_with(sandbox, sys.executable, "-c", PATIENT))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.send_signal(number)
    told, _ = process.communicate(timeout=60)

    assert told == f"told to stop by {number.name}\n"
    assert process.returncode == 5


@pytest.mark.usefixtures("policy")
def test_ctrl_c_on_a_terminal_reaches_the_command_once(sandbox: Running):
    command = [sys.executable, "-m", "tierwise", *run_with(sandbox, sys.executable, "-c", COUNTING)]
    in_front = f"import os; os.login_tty(0); os.execv({sys.executable!r}, {command!r})"
    terminal, end = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", in_front], stdin=end) as process:
        os.close(end)
        while b"ready" not in os.read(terminal, 1000):
            pass
        os.write(terminal, b"\x03")
        code = process.wait(60)
    os.close(terminal)

    assert code == 11


@pytest.mark.usefixtures("policy")
def test_a_command_that_a_signal_ended_has_the_exit_code_of_shells(start: Start, sandbox: Running):
    process = start(*run_with(sandbox, "sh", "-c", "kill -KILL $$"))
    process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGKILL


@pytest.mark.usefixtures("policy")
def test_a_command_that_cannot_be_started_is_exit_code_127(start: Start, sandbox: Running):
    process = start(*run_with(sandbox, "no-such-command"))
    _, told = process.communicate(timeout=60)

    assert process.returncode == 127
    assert told == "tierwise: no-such-command cannot be started: No such file or directory\n"


def test_no_command_starts_under_a_policy_that_is_wrong(start: Start, policy: Path):
    policy.write_text("nonsense")

    told, problems = start("run", "--", "echo", "started").communicate(timeout=60)

    assert told == ""
    assert problems.startswith("tierwise.toml:1: ")


@pytest.mark.usefixtures("policy")
def test_no_command_starts_where_the_gateway_does_not(start: Start):
    process = start("run", "--ledger", "nowhere/ledger.sqlite3", "--", "echo", "started")
    told, problems = process.communicate(timeout=60)

    assert process.returncode == 3
    assert told == ""
    assert "the ledger nowhere/ledger.sqlite3 cannot be used" in problems


@pytest.mark.usefixtures("policy")
def test_options_behind_the_command_are_the_commands(start: Start, sandbox: Running):
    told, _ = start("run", "--upstream", sandbox.base_url, "echo", "--policy", "x").communicate(timeout=60)

    assert told == "--policy x\n"


def test_run_without_a_command_is_wrong_usage():
    assert runner.invoke(app, ["run"]).exit_code == 2


def test_the_commands_environment_leads_to_the_gateway_and_not_to_a_proxy():
    environ = environment({"PATH": "/bin", "NO_PROXY": "intranet"}, "http://127.0.0.1:4001")

    assert environ == {
        "PATH": "/bin",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:4001",
        "NO_PROXY": "intranet,127.0.0.1",
        "no_proxy": "intranet,127.0.0.1",
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
    }


def test_openais_clients_are_led_to_a_gateway_that_serves_them_and_nowhere_else():
    own = {"OPENAI_BASE_URL": "https://models.example/v1"}

    assert environment(own, "http://127.0.0.1:1", openai=True)["OPENAI_BASE_URL"] == "http://127.0.0.1:1/v1"
    assert environment(own, "http://127.0.0.1:1")["OPENAI_BASE_URL"] == own["OPENAI_BASE_URL"]


def test_the_calls_of_openais_clients_go_through_too(start: Start, policy: Path, sandbox: Running):
    policy.write_text(with_openai(TWO_TIERS, f"{sandbox.base_url}/v1"))
    with start(*run_with(sandbox, sys.executable, "-c", OPENAI_AGENT)) as process:
        assert process.wait(60) == 7

    (line,) = sandbox.openai_billing()["calls"]
    assert line["model"] == "gpt-5-mini-2025-08-07"


def test_an_environment_that_proxies_nothing_stays_so():
    assert environment({"no_proxy": "*"}, "http://127.0.0.1:4001")["no_proxy"] == "*"


def test_hint_headers_that_are_turned_off_stay_off():
    environ = environment({"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "0"}, "http://127.0.0.1:4001")

    assert environ["CLAUDE_CODE_GATEWAY_HINT_HEADERS"] == "0"
