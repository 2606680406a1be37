import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tierwise.cli.child import GatewayDidNotStart, gateway_process
from tierwise.config import starter_policy


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "tierwise.toml"
    path.write_text(starter_policy())
    return path


def test_a_gateway_that_cannot_start_is_an_error_and_leaves_no_process(tmp_path: Path, policy: Path) -> None:
    with (
        pytest.raises(GatewayDidNotStart),
        gateway_process(policy=policy, ledger=tmp_path / "nowhere" / "l.sqlite3"),
    ):
        raise AssertionError


def test_a_gateway_does_not_outlive_a_parent_that_is_killed(tmp_path: Path, policy: Path) -> None:
    script = textwrap.dedent(f"""
        import json, sys, time
        from pathlib import Path
        from urllib.request import urlopen
        from tierwise.cli.child import gateway_process
        with gateway_process(policy=Path({str(policy)!r}), ledger=Path({str(tmp_path / "l.sqlite3")!r})) as address:
            print(json.load(urlopen(address + "/tierwise/health"))["pid"], flush=True)
            time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        gateway = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)

    for _ in range(200):
        if not _runs(gateway):
            break
        time.sleep(0.05)
    assert not _runs(gateway)


def test_the_ledger_is_not_on_a_command_line_that_everybody_can_read(tmp_path: Path, policy: Path) -> None:
    ledger = tmp_path / "l.sqlite3"

    with (
        gateway_process(policy=policy, ledger=ledger) as address,
        urlopen(f"{address}/tierwise/health") as reply,
    ):
        health = json.load(reply)
        command_line = Path(f"/proc/{health['pid']}/cmdline").read_text()

    assert health["ledger"] == str(ledger)
    assert str(policy) in command_line
    assert ledger.name not in command_line


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
