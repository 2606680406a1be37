"""A gateway that serves real HTTP from a thread, as long as a test needs it."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn

from support.plays import calls
from support.policies import TWO_TIERS, with_upstream
from support.waiting import eventually
from tierwise.config import load_book
from tierwise.engine.clock import now_us
from tierwise.gateway.parts import Settings
from tierwise.gateway.server import listen, server_config
from tierwise.sandbox.server import Running


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A gateway that is up."""

    base_url: str
    """What ANTHROPIC_BASE_URL is to be."""
    policy_path: Path
    ledger_path: Path
    stop: Callable[[], None]
    """Stops it, as SIGTERM does: calls in flight are given their time."""
    after: str = ""
    """Id of the last call that is not looked at."""

    @property
    def http(self) -> Running:
        """A client without an SDK."""
        return Running(self.base_url)

    def calls(self, where: str = "true") -> list[dict[str, Any]]:
        """The ledger's calls, oldest first."""
        return calls(self.ledger_path, f"call_id > '{self.after}' AND {where}")

    def settled(self) -> list[dict[str, Any]]:
        """The ledger's calls once each has its ending."""
        eventually(lambda: self.calls("ending IS NULL"), until=lambda found: not found)
        return self.calls()

    def fresh(self) -> "RunningGateway":
        """The same gateway, its earlier calls left out."""
        return replace(self, after=max((call["call_id"] for call in self.calls()), default=self.after))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def running_gateway(
    folder: Path,
    base_url: str,
    *,
    policy: str = TWO_TIERS,
    key: str | None = None,
    openai_key: str | None = None,
    drain_s: int = 5,
    port: int = 0,
    clock: Callable[[], int] = now_us,
    **upstream: object,
) -> Generator[RunningGateway]:
    """Serve from a thread while the block runs; its policy and its ledger are files of `folder`.

    Args:
        folder: of the files.
        base_url: the provider's.
        policy: its text, without `[upstream]`.
        key: the gateway's own credential.
        openai_key: its credential for the OpenAI-compatible server.
        drain_s: how long calls in flight may take at the end, in seconds.
        port: where it serves; 0 takes a free one.
        clock: tells microseconds since 1970 UTC.
        upstream: other settings of `[upstream]`.
    """
    policy_path = folder / "tierwise.toml"
    policy_path.write_text(with_upstream(policy, base_url, **upstream))
    settings = Settings(
        book=load_book(policy_path),
        policy_path=policy_path,
        ledger=folder / "ledger.sqlite3",
        key=key,
        openai_key=openai_key,
        drain_s=drain_s,
        clock=clock,
    )
    listener = listen("127.0.0.1", port)
    server = _Server(server_config(settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="gateway", daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()

    try:
        assert server.up.wait(10), "the gateway did not start"
        yield RunningGateway(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            policy_path=policy_path,
            ledger_path=folder / "ledger.sqlite3",
            stop=stop,
        )
    finally:
        stop()
