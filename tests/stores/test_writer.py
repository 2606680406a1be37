import threading
from collections.abc import Sequence

import pytest

from support.entries import decided
from tierwise.core.ledger import Decided, Entry
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger import writer
from tierwise.stores.ledger.writer import GroupCommit


class Store:
    """A store whose disk can be full: it fails as often as it is told."""

    path = "a store"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[list[Entry]] = []
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def write(self, entries: Sequence[Entry]) -> None:
        self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise LedgerUnavailable(path=self.path, why="database or disk is full")
        self.batches.append(list(entries))

    def close(self) -> None:
        self.closed = True


class Acknowledged:
    def __init__(self) -> None:
        self.calls: list[tuple[list[str], bool]] = []
        self.came = threading.Semaphore(0)

    def __call__(self, waiters: Sequence[str], durable: bool) -> None:
        self.calls.append((list(waiters), durable))
        self.came.release()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.001)


def test_what_gathers_while_a_batch_is_written_becomes_the_next_one() -> None:
    store, acknowledged = Store(), Acknowledged()
    store.gate.clear()
    commits: GroupCommit[str] = GroupCommit(store, acknowledge=acknowledged)
    for n in range(5):
        commits.put(decided(f"c{n}"), f"w{n}")
    store.gate.set()
    commits.close()

    assert [entry for batch in store.batches for entry in batch] == [decided(f"c{n}") for n in range(5)]
    assert len(store.batches) <= 2
    assert [waiter for waiters, _ in acknowledged.calls for waiter in waiters] == [f"w{n}" for n in range(5)]
    assert len(acknowledged.calls) == len(store.batches)


def test_closing_writes_what_is_left_and_closes_the_store() -> None:
    store = Store()
    commits: GroupCommit[str] = GroupCommit(store, acknowledge=Acknowledged())
    for n in range(1000):
        commits.put(decided(f"c{n}"))
    commits.close()

    assert sum(map(len, store.batches)) == 1000
    assert max(map(len, store.batches)) <= writer.LARGEST_BATCH
    assert store.closed


def test_a_store_that_fails_is_tried_again_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    store, acknowledged = Store(failures=3), Acknowledged()
    commits: GroupCommit[str] = GroupCommit(store, acknowledge=acknowledged)
    commits.put(decided("c1"), "w1")
    acknowledged.came.acquire(timeout=10)
    commits.close()

    assert acknowledged.calls == [(["w1"], True)]
    assert commits.trouble is None
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_waiter_is_told_when_its_entry_is_not_durable_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.02)
    store, acknowledged = Store(failures=10**9), Acknowledged()
    commits: GroupCommit[str] = GroupCommit(store, acknowledge=acknowledged)
    commits.put(decided("c1"), "w1")
    acknowledged.came.acquire(timeout=10)
    commits.put(decided("c2"), "w2")
    acknowledged.came.acquire(timeout=10)

    assert acknowledged.calls == [(["w1"], False), (["w2"], False)]
    assert commits.trouble is not None
    assert "disk is full" in commits.trouble
    monkeypatch.setattr(writer, "PATIENCE_S", 10.0)
    store.failures = 0
    commits.close()
    assert commits.trouble is None
    assert [entry.call_id for batch in store.batches for entry in batch if isinstance(entry, Decided)] == [
        "c1",
        "c2",
    ]


def test_closing_a_store_that_stays_full_ends_and_says_what_is_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.0)
    store = Store(failures=10**9)
    store.gate.clear()
    commits: GroupCommit[str] = GroupCommit(store, acknowledge=Acknowledged())
    commits.put(decided("c1"))
    closing = threading.Thread(target=commits.close)
    closing.start()
    store.gate.set()
    closing.join(20)

    assert not closing.is_alive()
    assert "1 entries could not be written" in caplog.text
    assert store.closed


def test_what_became_durable_after_the_patience_is_not_told_as_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.0)
    store, acknowledged = Store(), Acknowledged()
    commits: GroupCommit[str] = GroupCommit(store, acknowledge=acknowledged)
    commits.put(decided("c1"), "w1")
    commits.close()

    assert acknowledged.calls == [(["w1"], False)]
    assert store.batches == [[decided("c1")]]
