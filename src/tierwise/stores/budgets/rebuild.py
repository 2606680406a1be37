"""The shared balances made anew from the ledger, by one gateway while the others wait.

Nothing that the server holds is the truth. Where it was emptied, restarted or replaced, its balances are given up
before anything else is asked: from then on nobody sets money aside. What was set aside before is durable in the
ledger after a grace, or its call was not sent; so after the grace the ledger holds every call that may cost money.
Its balances are written under the keys of a new epoch, which becomes the current one in the last step, and only if
nobody else has taken over meanwhile. Settlements that came in the meantime wait in their gateways and are applied
then, without effect where the ledger had them already.
"""

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol, TypeVar

import msgspec

from tierwise.core.budgets import Balance, OpenReservation
from tierwise.money import Nanos
from tierwise.stores.budgets.link import Link, Word
from tierwise.stores.budgets.names import Names

AT_ONCE: Final = 500
"""Accounts or reservations that are written together."""

log = logging.getLogger("tierwise.budgets")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the ledger says of all accounts, read at one moment."""

    balances: Mapping[str, Balance]
    """By account."""
    open_reservations: Iterable[OpenReservation]
    top_ups: Collection[str]
    """The top-ups that the balances count in, by entry: one that is told again later has no effect."""


class Truth(Protocol):
    """The ledger, as the shared balances need it. Called on a thread of theirs, one call at a time."""

    def load(self) -> Loaded:
        """Return what all accounts hold, from one snapshot of the ledger."""
        ...

    def endings(self, call_ids: Sequence[str]) -> Mapping[str, Nanos | None]:
        """Return the cost of those calls that have ended; None where it is not known."""
        ...

    def known(self, call_ids: Sequence[str]) -> Collection[str]:
        """Return those calls that have a reservation in the ledger."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilder:
    """What one rebuilding needs."""

    link: Link
    names: Names
    gateway: str
    truth: Truth
    pause: Callable[[float], None]
    """Waits for so many seconds; raises where the process ends."""
    grace_s: float
    """How long after a reservation the ledger may take to hold it."""
    beat_s: float
    """How often gateways say that they live."""

    def rebuild(self, *, is_first: bool) -> bool:
        """Make the balances anew; False where another gateway is at it, or has taken over.

        Args:
            is_first: whether this process has not seen any balances yet. Where no other gateway says within a beat
                that it lives, nobody has money set aside, and there is no grace to wait for.

        Raises:
            BudgetStoreUnavailable: the server failed.
            LedgerUnavailable: the ledger failed.
        """
        token = secrets.token_hex(8)
        if not self._take(token):
            return False
        log.warning("the shared balances are rebuilt from the ledger")
        self._wait(is_first=is_first)
        loaded = self.truth.load()
        self._write(token, loaded)
        if not self._finish(token):
            self._forget(token)
            return False
        log.warning("the shared balances are rebuilt: %d accounts", len(loaded.balances))
        self._forget_others(token)
        return True

    def _take(self, token: str) -> bool:
        """Become the one that rebuilds, unless a living gateway is it; from here on there are no balances."""
        script = ("EVAL", _TAKE, 3, self.names.rebuilding, self.names.epoch, self.names.alive(self.gateway))
        return bool(self.link.ask_one(*script, self.gateway, token, self.link.run_id, self.names.alive("")))

    def _wait(self, *, is_first: bool) -> None:
        waited = min(self.grace_s, 1.5 * self.beat_s) if is_first else 0.0
        self.pause(waited)
        others = set(self.link.scan(self.names.alive("*"))) - {self.names.alive(self.gateway)}
        if not is_first or others:
            self.pause(self.grace_s - waited)

    def _write(self, token: str, loaded: Loaded) -> None:
        for accounts in _batches(loaded.balances.items()):
            self.link.ask(*(self._account(token, key, balance) for key, balance in accounts))
        for reservations in _batches(loaded.open_reservations):
            packed = [word for each in reservations for word in (each.call_id, _pack(each))]
            self.link.ask_one("HSET", self.names.open(token), *packed)
        for entries in _batches(loaded.top_ups):
            self.link.ask_one("SADD", self.names.topped_up(token), *entries)

    def _account(self, token: str, key: str, balance: Balance) -> Sequence[Word]:
        fields = {
            "reserved": balance.reserved_nanos,
            "pending": balance.pending_nanos,
            "posted": balance.posted_nanos,
            "released": balance.released_nanos,
            "overrun": balance.overrun_nanos,
            "topped_up": balance.topped_up_nanos,
        }
        return (
            "HSET",
            self.names.account(token, key),
            *(word for field in fields.items() for word in field),
        )

    def _finish(self, token: str) -> bool:
        """Make the new balances the current ones, if nobody else has taken over."""
        words = (self.names.rebuilding, self.names.epoch, f"{self.gateway} {token}")
        return bool(self.link.ask_one("EVAL", _FINISH, 2, *words, f"{token} {self.link.run_id}"))

    def _forget(self, token: str) -> None:
        self._unlink(self.link.scan(f"{self.names.of_epochs(token)}*"))

    def _forget_others(self, token: str) -> None:
        keys = self.link.scan(f"{self.names.of_epochs()}*")
        self._unlink([key for key in keys if not key.startswith(self.names.of_epochs(token))])

    def _unlink(self, keys: Sequence[str]) -> None:
        for some in _batches(keys):
            self.link.ask_one("UNLINK", *some)


_TAKE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder then
  holder = string.match(holder, '^%S+')
  if holder ~= ARGV[1] and redis.call('EXISTS', ARGV[4] .. holder) == 1 then return 0 end
end
local epoch = redis.call('GET', KEYS[2])
if epoch and string.match(epoch, '%S+$') == ARGV[3] then return 0 end
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
redis.call('DEL', KEYS[2])
return 1
"""
"""A gateway that has stopped saying that it lives has given its rebuilding up: so this one must have said it."""

_FINISH: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[1])
return 1
"""


def _pack(each: OpenReservation) -> bytes:
    """As the script packs one. No living gateway's: who holds it is not in the ledger."""
    state = "kept" if each.ended else "pending"
    return msgspec.msgpack.encode((state, each.amount_nanos, "", each.at_us, each.accounts))


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, AT_ONCE)):
        yield some
