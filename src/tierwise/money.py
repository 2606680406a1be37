"""Money is a whole number of nanodollars; a price is a Decimal; a cost is rounded once."""

from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Final, TypeAlias

from tierwise.errors import MoneyError

Nanos: TypeAlias = int
"""Whole nanodollars: 10⁻⁹ US dollars. 63 bits hold nine billion dollars."""

Attos: TypeAlias = int
"""Whole attodollars: 10⁻¹⁸ US dollars. Sums of a call's buckets are kept in it, exactly, until they are rounded."""

NANOS_PER_USD: Final = 10**9
ATTOS_PER_NANO: Final = 10**9

_EXACT: Final = Context(prec=40, Emax=39, traps=[InvalidOperation, Overflow, Inexact])


def usd(amount: str | int | Decimal) -> Nanos:
    """Convert dollars to nanodollars, exactly.

    Raises:
        MoneyError: the amount is not a number below 10³¹, or is finer than a nanodollar.
    """
    try:
        return int(Decimal(amount).scaleb(9, _EXACT).to_integral_exact(context=_EXACT))
    except (InvalidOperation, ValueError, OverflowError, Overflow) as error:
        raise MoneyError(amount=str(amount), why="is not an amount of dollars") from error
    except Inexact as error:
        raise MoneyError(amount=str(amount), why="is finer than a nanodollar") from error


def round_half_even(attos: Attos) -> Nanos:
    """Round an exact sum to whole nanodollars, ties to the even one: what a cost does, once a call."""
    nanos, rest = divmod(attos, ATTOS_PER_NANO)
    double = 2 * rest
    if double > ATTOS_PER_NANO or (double == ATTOS_PER_NANO and nanos % 2):
        return nanos + 1
    return nanos


def round_up(attos: Attos) -> Nanos:
    """Round an exact sum up to whole nanodollars: what an estimate of a worst case does."""
    return -(-attos // ATTOS_PER_NANO)


def format_usd(nanos: Nanos | None, *, places: int = 2) -> str:
    """Write an amount for people: `$1,234.56`; `unknown` for None, which is never zero.

    An amount below one unit of the last place is given as many places as its first two figures need.
    """
    if nanos is None:
        return "unknown"
    sign = "-" if nanos < 0 else ""
    amount = Decimal(abs(nanos)).scaleb(-9)
    if 0 < amount < Decimal(1).scaleb(-places):
        places = min(9, 1 - amount.adjusted())
    return f"{sign}${amount:,.{places}f}"
