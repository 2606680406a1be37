"""One thread sends what has gathered to the shared balances, and delivers a batch's answers at once.

Operations that arrive while a batch is on its way make the next one, and all are applied in the order in which they
were put. When the balances cannot be used, whoever asks is answered `Lost` at once; what was told (a settlement, a
top-up) is kept, in order, until it is applied.

A batch without a reply may have been applied, or may be later, from a connection that nobody reads. Settlements and
top-ups are sent again, since applying one twice has no effect; a claim is answered `Lost`, and undone. A connection
opens with a new session, and the script refuses batches of an earlier one, so that a late batch cannot set aside
money after its claims were undone.
"""

import logging
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeAlias

from tierwise.core.budgets import Lost
from tierwise.errors import BudgetStoreError, BudgetStoreUnavailable
from tierwise.stores.budgets import operations
from tierwise.stores.budgets.link import Link, Word
from tierwise.stores.budgets.names import Epoch, Names, run_id_of
from tierwise.stores.budgets.operations import Answer, Packed

LARGEST_BATCH: Final = 256
"""Operations: the server does nothing else for the two or three milliseconds that they take."""
RETRY_S: Final = 0.2
LOOK_S: Final = 0.05
"""How often to look whether the balances are rebuilt."""
FAREWELL_S: Final = 5.0
"""How long an end waits for balances that cannot be used."""

SCRIPT: Final = files("tierwise.stores.budgets").joinpath("script.lua").read_bytes()

REBUILDING: Final = "the balances are being rebuilt from the ledger"
CLOSED: Final = "the gateway stops"

log = logging.getLogger("tierwise.budgets")


class Post(Protocol):
    """Brings answers to those who wait for them."""

    def deliver(self, answered: "Sequence[Answered]") -> None:
        """Bring a batch's answers; called on the thread of the batches."""
        ...


class Operation:
    """One operation on its way."""

    __slots__ = ("is_sent", "packed", "post", "told", "undo", "waiter")

    def __init__(
        self,
        packed: Packed,
        *,
        post: Post | None = None,
        waiter: object = None,
        told: bool = False,
        undo: Packed | None = None,
    ) -> None:
        """Describe it.

        Args:
            packed: what the script reads.
            post: brings the answer; None where nobody waits.
            waiter: who waits, as `post` knows them.
            told: whether it is applied however long that takes; else it is dropped where the balances are lost.
            undo: what undoes it, where nobody knows whether it was applied.
        """
        self.packed = packed
        self.post = post
        self.waiter = waiter
        self.told = told
        self.undo = undo
        self.is_sent = False


Answered: TypeAlias = tuple[object, Answer | Lost]
"""A waiter and its answer."""


class _NotReady(Exception):
    """The server is there, and its balances are not."""


class Batches:
    """Takes operations from any thread and applies them in order, in batches."""

    def __init__(
        self,
        connect: Callable[[], Link],
        names: Names,
        *,
        gateway: str,
        beat_s: float,
        alive_s: float,
        when_lost: Callable[[], None],
    ) -> None:
        """Prepare; `start` starts.

        Args:
            connect: makes a connection.
            names: the keys.
            gateway: names this process among all that share the balances.
            beat_s: how often to say that this process lives.
            alive_s: how long it counts as living after it has said so.
            when_lost: called where the server holds no current balances.
        """
        self.trouble: str | None = "not connected yet"
        """Why the balances cannot be used; None where they can."""
        self.has_adopted = False
        """Whether balances were ever found, so that this process may have money set aside."""
        self.ready = threading.Event()
        self._connect = connect
        self._names = names
        self._gateway = gateway
        self._beat_s = beat_s
        self._alive_ms = round(1000 * alive_s)
        self._when_lost = when_lost
        self._queue: SimpleQueue[Operation | None] = SimpleQueue()
        self._waiting: deque[Operation] = deque()
        self._link: Link | None = None
        self._sha: Word = b""
        self._session = ""
        self._epoch: Epoch | None = None
        self._beat_at = 0.0
        self._try_at = 0.0
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="tierwise-budgets", daemon=True)

    def start(self) -> None:
        """Begin to take operations."""
        self._thread.start()

    def put(self, operation: Operation) -> None:
        """Hand in an operation. After the end it is answered `Lost`."""
        if self._ends_at is None:
            self._queue.put(operation)
        else:
            _answer([(operation, Lost(why=CLOSED))])

    def close(self) -> None:
        """Apply what is left, for a while where that cannot be done, and end."""
        self._ends_at = time.monotonic() + FAREWELL_S
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._gather()
            self._apply()
            if self._ends_at is not None and (not self._waiting or self._ends_at <= time.monotonic()):
                break
        self._gather()
        self._lose(CLOSED)
        if self._waiting:
            log.critical(
                "%d settlements of the budgets could not be applied before the end", len(self._waiting)
            )
        if self._link is not None:
            with suppress(BudgetStoreUnavailable):
                self._link.ask_one("DEL", self._names.alive(self._gateway))
            self._give_up_link()

    def _gather(self) -> None:
        """Wait for operations, as long as nothing else is due, and take all that are there."""
        with suppress(Empty):
            if self._ends_at is None:
                due_at = self._beat_at if self.trouble is None else self._try_at
                item = self._queue.get(timeout=max(0.0, due_at - time.monotonic()))
                if item is not None:
                    self._waiting.append(item)
            elif self.trouble is not None:
                time.sleep(RETRY_S)
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    self._waiting.append(item)

    def _apply(self) -> None:
        if self.trouble is not None and time.monotonic() < self._try_at:
            self._lose(self.trouble)
            return
        try:
            link = self._reach()
            while self._waiting:
                self._send(link)
        except _NotReady:
            self._when_lost()
            self._fail(REBUILDING, LOOK_S)
        except BudgetStoreError as error:
            self._give_up_link()
            self._fail(str(error))
        except Exception as error:
            log.exception("a batch of the budgets failed")
            self._give_up_link()
            self._fail(f"{type(error).__name__}: {error}")

    def _reach(self) -> Link:
        """Connect and find the current balances; say that this process lives, where that is due."""
        link = self._link or self._connected()
        if self._beat_at <= time.monotonic():
            self._greet(link)
        if self._epoch is None:
            self._adopt(link)
        if self.trouble is not None:
            log.warning("the shared balances can be used")
            self.trouble = None
            self.ready.set()
        return link

    def _connected(self) -> Link:
        self._link = self._connect()
        self._sha = self._link.ask_one("SCRIPT", "LOAD", SCRIPT)
        self._session = secrets.token_hex(8)
        self._beat_at = 0.0
        return self._link

    def _greet(self, link: Link) -> None:
        link.ask_one("SET", self._names.alive(self._gateway), self._session, "PX", self._alive_ms)
        self._beat_at = time.monotonic() + self._beat_s
        self._epoch = None  # looked at once a beat, so that an idle process notices a loss

    def _adopt(self, link: Link) -> None:
        found = link.ask_one("GET", self._names.epoch)
        epoch = "" if found is None else found.decode()
        if not epoch or run_id_of(epoch) != link.run_id:
            raise _NotReady
        self._epoch = epoch
        self.has_adopted = True

    def _send(self, link: Link) -> None:
        batch = list(islice(self._waiting, LARGEST_BATCH))
        self._mark(batch, is_sent=True)
        payload = operations.batch([operation.packed for operation in batch])
        where = (self._names.base, self._epoch or "", self._gateway, self._session)
        reply = operations.answers(link.ask_one("EVALSHA", self._sha, 1, *where, payload))
        if isinstance(reply, str):
            self._mark(batch, is_sent=False)
            self._greet(link)
            self._adopt(link)
            return
        for _ in batch:
            self._waiting.popleft()
        _answer(list(zip(batch, reply, strict=True)))

    def _mark(self, batch: Sequence[Operation], *, is_sent: bool) -> None:
        for operation in batch:
            operation.is_sent = is_sent

    def _give_up_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _fail(self, why: str, retry_s: float = RETRY_S) -> None:
        self._epoch = None
        self._try_at = time.monotonic() + retry_s
        if self.trouble != why:
            log.warning("%s; calls under a budget cannot ask what is left", why)
        self.trouble = why
        self.ready.clear()
        self._lose(why)

    def _lose(self, why: str) -> None:
        """Answer whoever asks, drop what may be dropped, and keep what was told."""
        lost = [operation for operation in self._waiting if not operation.told]
        self._waiting = deque(filter(None, map(_kept, self._waiting)))
        _answer([(operation, Lost(why=why)) for operation in lost])


def _kept(operation: Operation) -> Operation | None:
    """What is left to apply of an operation whose asker is answered."""
    if operation.told:
        return operation
    if operation.is_sent and operation.undo is not None:
        return Operation(operation.undo, told=True)
    return None


def _answer(answered: Sequence[tuple[Operation, Answer | Lost]]) -> None:
    """Deliver answers, all of one post together."""
    by_post: defaultdict[Post, list[Answered]] = defaultdict(list)
    for operation, answer in answered:
        if operation.post is not None:
            by_post[operation.post].append((operation.waiter, answer))
    for post, answers in by_post.items():
        post.deliver(answers)
