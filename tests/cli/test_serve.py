"""`tierwise serve`: a real gateway in a process, called with the provider's own SDK."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import anthropic
import httpx2
import pytest
from typer.testing import CliRunner

from tierwise.cli import app
from tierwise.sandbox.server import Running
from tierwise.stores.ledger.sqlite import read_ledger

Start = Callable[..., subprocess.Popen[str]]
runner = CliRunner()


def client(address: str, key: str = "key") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=address, api_key=key, max_retries=0)


def ask(address: str, path: str) -> dict[str, Any]:
    with urlopen(address + path, timeout=10) as reply:
        return json.loads(reply.read())


def ending_of(ledger: Path) -> Mapping[str, Any]:
    with closing(read_ledger(ledger)) as reader:
        (call,) = reader.rows("SELECT * FROM calls")
    return call


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def test_a_call_goes_through_the_gateway_and_into_the_ledger(serve: Any, tmp_path: Path):
    served = serve()

    with client(served.address) as agent:
        reply = agent.messages.create(
            model="task/extraction", max_tokens=4000, messages=[{"role": "user", "content": "hello"}]
        )

    recorded = ending_of(tmp_path / "tierwise.sqlite3")
    assert reply.model == recorded["served_model"] == "claude-haiku-5-5"
    assert recorded["output_tokens"] == reply.usage.output_tokens
    assert recorded["ending"] == "posted"


def test_sigterm_lets_a_stream_in_flight_come_to_its_end(serve: Any, tmp_path: Path):
    served = serve()
    with (
        client(served.address) as agent,
        agent.messages.stream(
            model="task/extraction",
            max_tokens=512,
            messages=[{"role": "user", "content": "hello"}],
            extra_headers={"x-sandbox-fault": "slow:50"},
        ) as stream,
    ):
        next(iter(stream))
        served.process.send_signal(signal.SIGTERM)
        message = stream.get_final_message()

    served.process.communicate(timeout=60)
    assert message.stop_reason == "end_turn"
    assert served.process.returncode == 0
    assert ending_of(tmp_path / "tierwise.sqlite3")["ending"] == "posted"


def test_ctrl_c_is_a_good_end(serve: Any):
    served = serve()

    served.process.send_signal(signal.SIGINT)
    _, told = served.process.communicate(timeout=60)

    assert served.process.returncode == 0
    assert "Traceback" not in told


def test_a_stream_that_outlasts_the_drain_is_cut_and_recorded(serve: Any, tmp_path: Path):
    served = serve("--drain-seconds", "0")
    with (
        client(served.address) as agent,
        agent.messages.stream(
            model="task/extraction",
            max_tokens=512,
            messages=[{"role": "user", "content": "hello"}],
            extra_headers={"x-sandbox-fault": "stall-after:3,seconds=60"},
        ) as stream,
    ):
        next(iter(stream))
        served.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx2.RemoteProtocolError):
            stream.get_final_message()

    served.process.communicate(timeout=60)
    recorded = ending_of(tmp_path / "tierwise.sqlite3")
    assert (recorded["ending"], recorded["fault"], recorded["error"]) == (
        "failed",
        "gateway",
        "gateway-stopped",
    )


def test_an_edit_of_the_policy_is_seen_by_a_running_gateway(serve: Any, policy: Path):
    served = serve()
    before = ask(served.address, "/tierwise/health")["policy"]

    policy.write_text(policy.read_text().replace("max_tokens = 256", "max_tokens = 77"))
    until(lambda: ask(served.address, "/tierwise/health")["policy"] != before)

    with client(served.address) as agent:
        raw = agent.messages.with_raw_response.create(
            model="task/classification", max_tokens=4000, messages=[{"role": "user", "content": "hello"}]
        )
    assert raw.headers["x-tierwise-max-tokens"] == "77"


def test_a_bad_edit_leaves_the_policy_in_force_and_is_told(serve: Any, policy: Path):
    served = serve()
    before = ask(served.address, "/tierwise/health")["policy"]

    policy.write_text("nonsense")
    until(lambda: ask(served.address, "/tierwise/health")["policy_problem"] is not None)

    assert ask(served.address, "/tierwise/health")["policy"] == before
    assert "tierwise.toml:1: " in served.stop()[1]


def test_it_says_what_it_serves_and_what_the_agents_environment_needs(
    start: Start, policy: Path, sandbox: Running
):
    process = start("serve", "--port", "0", "--upstream", sandbox.base_url, "--ledger", "calls.sqlite3")
    assert process.stderr is not None
    told = [process.stderr.readline() for _ in range(6)]

    address = told[0].split()[1]
    assert ask(address, "/tierwise/health")["status"] == "ok"
    assert told[1].startswith(f"policy    {policy.name}, version ")
    assert told[1].endswith(", mode route\n")
    assert told[2:] == [
        "ledger    calls.sqlite3\n",
        f"upstream  {sandbox.base_url}\n",
        "key       the callers' own\n",
        f"export ANTHROPIC_BASE_URL={address}\n",
    ]


def test_warnings_of_the_policy_are_told_at_the_start(start: Start, policy: Path, sandbox: Running):
    policy.write_text(policy.read_text() + "\n[task_types.review]\ntier = 'frontier'\n")

    process = start("serve", "--port", "0", "--upstream", sandbox.base_url)

    assert process.stderr is not None
    assert ": warning: task_types.review: " in process.stderr.readline()


def test_a_port_that_is_taken_is_the_environments_fault(policy: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = runner.invoke(app, ["serve", "--policy", str(policy), "--port", str(port)])

    assert refused.exit_code == 3
    assert refused.stderr == (
        f"tierwise: 127.0.0.1:{port} cannot be listened on: Address already in use; "
        "try another --host or --port\n"
    )


def test_a_policy_that_is_wrong_is_told_with_its_line(policy: Path):
    policy.write_text(policy.read_text().replace('tier = "fast"', 'tier = "fats"', 1))

    refused = runner.invoke(app, ["serve"])

    line = next(
        number for number, text in enumerate(policy.read_text().splitlines(), start=1) if "fats" in text
    )
    assert refused.exit_code == 1
    assert refused.stderr.startswith(f"tierwise.toml:{line}: task_types.summarization.tier: there is no tier")


@pytest.mark.usefixtures("policy")
def test_a_ledger_that_cannot_be_used_is_the_environments_fault():
    refused = runner.invoke(app, ["serve", "--ledger", "nowhere/ledger.sqlite3"])

    assert refused.exit_code == 3
    assert refused.stderr.startswith("tierwise: the ledger nowhere/ledger.sqlite3 cannot be used: ")


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "gateway.internal"])
@pytest.mark.parametrize("key", ["", "own"])
def test_an_address_that_other_machines_reach_needs_clients(host: str, key: str):
    refused = runner.invoke(app, ["serve", "--host", host], env={"ANTHROPIC_API_KEY": key})

    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert f"{host} is open to other machines, and the policy has no [[clients]]" in said


def with_client(policy: Path, name: str = "ci", lines: str = "") -> str:
    """Add a client to a policy; return its key."""
    made = runner.invoke(app, ["client-key", name])
    policy.write_text(policy.read_text() + made.stdout + lines)
    (key,) = re.findall(r"twk_[\w-]{43}", made.stderr)
    return key


def test_with_clients_a_gateway_may_be_open_and_shows_itself_to_them_alone(
    serve: Any, policy: Path, monkeypatch: pytest.MonkeyPatch
):
    key = with_client(policy)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "own")
    address = serve("--host", "0.0.0.0").address.replace("0.0.0.0", "127.0.0.1")
    at = Running(address)

    assert at.send("GET", "/tierwise/health").json() == {"status": "ok"}
    assert at.send("GET", "/tierwise/meters").status == 401
    assert at.send("GET", "/tierwise/health", headers={"x-api-key": key}).json()["policy"]
    assert at.send("GET", "/tierwise/meters", headers={"authorization": f"Bearer {key}"}).status == 200


def test_a_client_calls_with_its_own_key_and_the_entry_names_it(
    serve: Any, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    key = with_client(policy)
    file = tmp_path / "key"
    file.write_text("own\n")
    file.chmod(0o600)
    monkeypatch.setenv("ANTHROPIC_API_KEY_FILE", str(file))
    served = serve()
    asked: Any = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}

    with client(served.address, key) as agent:
        agent.messages.create(model="task/extraction", **asked)
    with client(served.address, "own") as stranger, pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="task/extraction", **asked)

    assert ending_of(tmp_path / "tierwise.sqlite3")["key_id"] == "ci"


def test_clients_need_a_key_of_the_gateways_own(policy: Path):
    with_client(policy)

    refused = runner.invoke(app, ["serve"])

    assert refused.exit_code == 3
    assert refused.stderr.startswith(
        "tierwise: the policy has [[clients]], whose keys do not go to the provider"
    )


@pytest.mark.usefixtures("policy")
def test_a_key_file_that_others_may_read_is_refused_with_what_to_run(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text("sk-canary")
    file.chmod(0o640)

    refused = runner.invoke(app, ["serve"], env={"ANTHROPIC_API_KEY_FILE": str(file)})

    assert refused.exit_code == 3
    assert "may be read by others (mode 0640)" in refused.stderr
    assert f"chmod 600 {file}" in refused.stderr
    assert "canary" not in refused.stderr


def test_a_new_key_is_random_and_its_lines_are_a_policy(policy: Path):
    first, second = with_client(policy, "one"), with_client(policy, "two")

    checked = runner.invoke(app, ["check"])

    assert first != second
    assert checked.exit_code == 0
    assert first not in policy.read_text()


def test_a_client_has_a_plain_name():
    refused = runner.invoke(app, ["client-key", "My Jobs"])

    assert refused.exit_code == 2
    assert 'write "my-jobs"' in " ".join(refused.stderr.split())


def test_the_gateway_lends_its_key_to_a_caller_that_brings_none(serve: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "own\n")
    served = serve()
    bare = {"x-api-key": anthropic.Omit(), "authorization": anthropic.Omit()}

    with client(served.address) as agent:
        reply = agent.messages.create(
            model="task/extraction",
            max_tokens=100,
            messages=[{"role": "user", "content": "hello"}],
            extra_headers=bare,
        )

    assert reply.model == "claude-haiku-5-5"


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize("url", ["127.0.0.1:4100", "ftp://provider", "http://me:secret@provider"])
def test_an_upstream_that_is_no_address_is_wrong_usage(url: str):
    refused = runner.invoke(app, ["serve", "--upstream", url])

    assert refused.exit_code == 2
    assert "Invalid value for '--upstream'" in refused.stderr
