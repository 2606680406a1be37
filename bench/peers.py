"""Peers in environments of their own: installed from their package indexes, told to send calls to a provider, served.

The environments are made once, under `.peers`; `make clean` throws them away. A peer that cannot be installed here,
for want of npm or of the network, is told as absent with the reason.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rig import Headers, Server, free_port, serving

FOLDER: Final = Path(".peers")
KEY: Final = "sk-6f1c0e9c2b7d48b0a1f3"
"""What LiteLLM takes from its callers; it does not start without a key that is hard to guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How a peer is had."""

    name: str
    package: str
    """With its version: a figure is of one."""
    by_npm: bool
    command: Callable[[Path, str, int], Sequence[str]]
    """Writes what it needs into its folder and returns what serves calls: of its folder, the provider's address and
    a port."""
    headers: Callable[[str], Headers] = lambda _upstream: ()
    """What its callers send beside what a call has, of the provider's address."""


def install(peer: Peer) -> str | None:
    """Make a peer's environment, unless it is there; return why it cannot be had, or None."""
    folder = FOLDER / peer.name
    done = folder / peer.package.replace("/", "_")
    if done.exists():
        return None
    if peer.by_npm and shutil.which("npm") is None:
        return "npm is not installed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for command in _npm(peer, folder) if peer.by_npm else _pip(peer, folder):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            told = (made.stderr or made.stdout).strip().splitlines()
            return told[-1] if told else f"{command[0]} ended with {made.returncode}"
    done.touch()
    return None


@contextmanager
def served(peer: Peer, upstream: str) -> Generator[Server]:
    """Run a peer for a while; what it says is in its folder's `log`.

    Raises:
        ChildProcessError: it does not listen in time.
    """
    folder, port = (FOLDER / peer.name).absolute(), free_port()
    command = peer.command(folder, upstream, port)
    with (
        (folder / "log").open("wb") as log,
        serving(command, port, headers=peer.headers(upstream), folder=folder, log=log) as server,
    ):
        yield server


def _npm(peer: Peer, folder: Path) -> list[list[str]]:
    return [["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), peer.package]]


def _pip(peer: Peer, folder: Path) -> list[list[str]]:
    return [
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [str(folder / "venv/bin/pip"), "install", "--quiet", peer.package],
    ]


def _litellm(folder: Path, upstream: str, port: int) -> Sequence[str]:
    config = {
        "model_list": [
            {
                "model_name": "*",
                "litellm_params": {
                    "model": "anthropic/claude-sonnet-4-5",
                    "api_base": upstream,
                    "api_key": "sk",
                },
            }
        ],
        "general_settings": {"master_key": KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    return [
        str(folder / "venv/bin/litellm"),
        *("--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)),
        *("--num_workers", "1"),
    ]


def _portkey(folder: Path, _upstream: str, port: int) -> Sequence[str]:
    script = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", str(script), f"--port={port}", "--headless"]


def _claude_code_router(folder: Path, upstream: str, port: int) -> Sequence[str]:
    provider = {
        "name": "provider",
        "api_base_url": f"{upstream}/v1/messages",
        "api_key": "sk",
        "models": ["claude-sonnet-4-5"],
        "transformer": {"use": ["Anthropic"]},
    }
    config = {
        "PORT": port,
        "LOG": False,
        "NON_INTERACTIVE_MODE": True,
        "Providers": [provider],
        "Router": {"default": "provider,claude-sonnet-4-5"},
    }
    (folder / ".claude-code-router").mkdir(exist_ok=True)
    (folder / ".claude-code-router/config.json").write_text(json.dumps(config))
    return ["node", str(folder / "node_modules/.bin/ccr"), "start"]


PEERS: Final = (
    Peer(
        name="litellm",
        package="litellm[proxy]==1.106.2",
        by_npm=False,
        command=_litellm,
        headers=lambda _upstream: (("authorization", f"Bearer {KEY}"),),
    ),
    Peer(
        name="portkey",
        package="@portkey-ai/gateway@1.15.2",
        by_npm=True,
        command=_portkey,
        headers=lambda upstream: (
            ("x-portkey-provider", "anthropic"),
            ("x-portkey-custom-host", f"{upstream}/v1"),
        ),
    ),
    Peer(
        name="claude-code-router",
        package="@musistudio/claude-code-router@2.0.0",  # the newest that runs on Node 20
        by_npm=True,
        command=_claude_code_router,
    ),
)
