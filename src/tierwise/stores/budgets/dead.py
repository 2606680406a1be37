"""Reservations of gateways that died: settled where the ledger knows how their calls ended.

A gateway that dies between the ledger's commit of an ending and the settlement leaves a reservation that nobody will
settle, and one that dies before the reservation is in the ledger leaves one whose call was never sent. Settling is
without effect the second time, so several gateways may look at once, and at reservations of one that only seemed
dead.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tierwise.money import Nanos
from tierwise.stores.budgets.link import Link
from tierwise.stores.budgets.names import Names, token_of
from tierwise.stores.budgets.rebuild import Truth

AT_ONCE: Final = 500
HOPE_US: Final = 3_600_000_000
"""How long after its reservation a call may still end, when its gateway seems dead."""

Settle = Callable[[str, Nanos | None], None]


@dataclass(frozen=True, slots=True)
class _Held:
    call_id: str
    gateway: str
    at_us: int


def settle_for_the_dead(
    link: Link, names: Names, *, truth: Truth, settle: Settle, never_sent_s: float
) -> None:
    """Look at all open reservations whose gateway has not said lately that it lives.

    A call that has ended is settled at its cost. One that the ledger knows without an ending stays pending, and is
    kept in the end. One that the ledger does not know was never sent, if it is old enough, and is voided.

    Args:
        link: where the balances are.
        names: the keys.
        truth: the ledger.
        settle: settles a reservation.
        never_sent_s: age at which a call whose reservation is not in the ledger is known not to be sent.

    Raises:
        BudgetStoreUnavailable: the server failed.
        LedgerUnavailable: the ledger failed.
    """
    epoch = link.ask_one("GET", names.epoch)
    if epoch is None:
        return
    seconds, _ = link.ask_one("TIME")
    now_us = 1_000_000 * int(seconds)
    for page in _pages(link, names.open(token_of(epoch.decode()))):
        held = _of_the_dead(link, names, page)
        for start in range(0, len(held), AT_ONCE):
            some = held[start : start + AT_ONCE]
            _settle(some, truth, settle, never_sent_us=now_us - round(1e6 * never_sent_s), now_us=now_us)


def _pages(link: Link, key: str) -> Iterator[Sequence[_Held]]:
    cursor = b"0"
    while True:
        cursor, flat = link.ask_one("HSCAN", key, cursor, "COUNT", AT_ONCE)
        yield [
            _Held(call_id.decode(), gateway, at_us)
            for call_id, packed in zip(flat[::2], flat[1::2], strict=True)
            for state, _, gateway, at_us, _ in (_unpack(packed),)
            if state == "pending"
        ]
        if cursor == b"0":
            return


def _of_the_dead(link: Link, names: Names, held: Sequence[_Held]) -> Sequence[_Held]:
    gateways = sorted({each.gateway for each in held})
    if not gateways:
        return ()
    living = link.ask(*(("EXISTS", names.alive(gateway)) for gateway in gateways))
    dead = {gateway for gateway, lives in zip(gateways, living, strict=True) if not lives}
    return [each for each in held if each.gateway in dead]


def _settle(held: Sequence[_Held], truth: Truth, settle: Settle, *, never_sent_us: int, now_us: int) -> None:
    ended: Mapping[str, Nanos | None] = truth.endings([each.call_id for each in held])
    unknown = {each.call_id for each in held if each.call_id not in ended and each.at_us <= never_sent_us}
    unknown -= set(truth.known(sorted(unknown))) if unknown else set()
    for each in held:
        if each.call_id in ended:
            settle(each.call_id, ended[each.call_id])
        elif each.call_id in unknown:
            settle(each.call_id, 0)
        elif each.at_us <= now_us - HOPE_US:
            settle(each.call_id, None)


_unpack = msgspec.msgpack.Decoder(tuple[str, int, str, int, list[str]]).decode
