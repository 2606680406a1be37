"""The operations of the shared balances, as the script reads them, and its answers as values.

An operation is packed where it is asked for, so that one that cannot be packed fails there and not in the batch of
others.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from tierwise.core.budgets import (
    AccountRef,
    Balance,
    Claim,
    Crossing,
    Denied,
    Lost,
    Outcome,
    Reserved,
    Shrunk,
    amount_on,
)
from tierwise.errors import AmountTooLarge
from tierwise.money import Nanos

LARGEST: Final = 2**53
"""Largest limit and largest amount of a shared balance, nine million dollars: the script counts exactly up to it."""

Answer: TypeAlias = int | str | list[int | str | bool | None] | bool | None
"""To one operation."""

Packed: TypeAlias = msgspec.Raw


def reserve(claim: Claim) -> Packed:
    """Set a claim aside.

    Raises:
        AmountTooLarge: the claim, or a limit, is above `LARGEST`.
    """
    check(claim.amount_nanos)
    refs = [_terms(ref) for ref in claim.accounts]
    return _pack(("reserve", claim.call_id, claim.amount_nanos, claim.least_nanos, refs))


def settle(call_id: str, cost_nanos: Nanos | None) -> Packed:
    """Settle a reservation; None keeps it."""
    return _pack(("settle", call_id, -1 if cost_nanos is None else cost_nanos))


def top_up(entry_id: str, account: str, amount: int) -> Packed:
    """Raise an account's limit.

    Raises:
        AmountTooLarge: the amount is above `LARGEST`.
    """
    check(amount)
    return _pack(("top_up", entry_id, account, amount))


def tier(key: str) -> Packed:
    """Ask for a conversation's tier."""
    return _pack(("tier", key))


def keep(key: str, name: str, ttl_s: float) -> Packed:
    """Keep a conversation's tier for a time, at least a second."""
    return _pack(("keep", key, name, max(1, round(ttl_s))))


def balance(account: str) -> Packed:
    """Ask what an account holds."""
    return _pack(("balance", account))


def count() -> Packed:
    """Ask how many reservations are open."""
    return _pack(("count",))


def batch(operations: Sequence[Packed]) -> bytes:
    """Join operations to what the script takes."""
    return _encoder.encode(operations)


def answers(reply: bytes) -> list[Answer] | str:
    """Read the script's reply: an answer for each operation, or the word with which it refused all."""
    return _decoder.decode(reply)


def outcome(claim: Claim, answer: Answer | Lost) -> Outcome:
    """Read the answer to a claim.

    Raises:
        ValueError: its call has a reservation that is not settled.
    """
    match answer:
        case Lost():
            return answer
        case int(granted):
            return Reserved(amount_nanos=granted)
        case ["reserved", int(granted), *rest]:
            return Reserved(amount_nanos=granted, crossings=_crossings(claim, rest))
        case ["shrunk", int(granted), *rest]:
            return Shrunk(amount_nanos=granted, crossings=_crossings(claim, rest))
        case ["denied", int(place), str(posted), str(pending), str(topped_up)]:
            account = claim.accounts[place]
            return Denied(
                account=account,
                posted_nanos=int(posted),
                pending_nanos=int(pending),
                asked_nanos=amount_on(account.key, claim.least_nanos),
                topped_up_nanos=int(topped_up),
            )
        case _:
            raise ValueError(claim.call_id)


def held(fields: Sequence[object]) -> Balance:
    """Read what an account holds: its six sums as text, empty where there is none."""
    return Balance(
        **{name: int(str(value)) if value else 0 for name, value in zip(_SUMS, fields, strict=True)}
    )


def check(amount: int) -> None:
    """Refuse an amount or a limit that the script cannot count exactly.

    Raises:
        AmountTooLarge: it is above `LARGEST`.
    """
    if amount > LARGEST:
        raise AmountTooLarge(amount=amount, largest=LARGEST)


def _terms(ref: AccountRef) -> tuple[str, int, int, int, int, tuple[int, ...]]:
    limit = ref.limit
    check(ref.budget.limit)
    return (
        ref.key,
        -1 if limit is None else limit,
        int(ref.pending_only),
        0 if ref.ends_us is None else max(1, -(-ref.ends_us // 1000)),
        ref.budget.limit,
        ref.budget.warn_at,
    )


def _crossings(claim: Claim, flat: Sequence[int | str | bool | None]) -> tuple[Crossing, ...]:
    numbers = [int(value or 0) for value in flat]
    return tuple(
        Crossing(account=claim.accounts[place], percent=percent, used_nanos=used)
        for place, percent, used in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    )


def _pack(operation: tuple[object, ...]) -> Packed:
    return msgspec.Raw(_encoder.encode(operation))


_SUMS: Final = (
    "reserved_nanos",
    "pending_nanos",
    "posted_nanos",
    "released_nanos",
    "overrun_nanos",
    "topped_up_nanos",
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Answer] | str)
