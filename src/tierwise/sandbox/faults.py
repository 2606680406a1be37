"""Failures on demand, asked for by the header `x-sandbox-fault` or the directive's `fault=`.

Several are joined by `;`, and each is a name, `:` and its value, and options after commas:

- `status:429,retry-after=2` answers an error; also `type=`, `message=`, `code=`, `should-retry=`.
- `refusal` refuses before any output, unbilled; `refusal-midstream` after some, billed; `category=` names why.
- `error-after:3` sends an error event after three events; `cut-after:3` closes the connection there;
  `half-event:3` closes it in the middle of the fourth.
- `stall-after:3,seconds=60` falls silent; `slow-first:2` waits before the first byte; `slow:20` waits 20 ms
  before every event.
- `no-usage` leaves the usage out; `unknown-fields` adds fields, events and headers of a later API.

`times=2` on any of them lets it happen twice and then no more, counted by the text of the last user turn.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from tierwise.sandbox.errors import ApiError, invalid

Break = Literal["error-after", "cut-after", "half-event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one reply."""

    error: ApiError | None = None
    refusal: Literal["refusal", "refusal-midstream"] | None = None
    category: str | None = None
    break_kind: Break | None = None
    break_after: int = 0
    """How many events arrive before the break."""
    stall_after: int | None = None
    stall_seconds: float = 0.0
    first_seconds: float = 0.0
    gap_seconds: float = 0.0
    no_usage: bool = False
    unknown_fields: bool = False
    times: int | None = None
    """How often it happens; None for always."""


NO_FAULT: Final = Fault()


def parse(text: str) -> Fault:
    """Read a fault's text. Raises ApiError (400) for one that the sandbox does not know."""
    fault = NO_FAULT
    for part in text.split(";"):
        head, *options = part.strip().split(",")
        name, _, value = head.partition(":")
        try:
            pairs = dict(option.strip().split("=", 1) for option in options)
            fault = _with(fault, name, value, pairs)
            if "times" in pairs:
                fault = replace(fault, times=int(pairs["times"]))
        except ValueError as error:
            raise invalid(f"x-sandbox-fault: cannot read {part!r}") from error
    return fault


def _with(fault: Fault, name: str, value: str, options: Mapping[str, str]) -> Fault:
    match name:
        case "status":
            return replace(fault, error=_error(int(value), options))
        case "refusal" | "refusal-midstream":
            return replace(fault, refusal=name, category=options.get("category"))
        case "error-after" | "cut-after" | "half-event":
            return replace(fault, break_kind=name, break_after=int(value))
        case "stall-after":
            seconds = float(options.get("seconds", "30"))
            return replace(fault, stall_after=int(value), stall_seconds=seconds)
        case "slow-first":
            return replace(fault, first_seconds=float(value))
        case "slow":
            return replace(fault, gap_seconds=float(value) / 1000)
        case "no-usage":
            return replace(fault, no_usage=True)
        case "unknown-fields":
            return replace(fault, unknown_fields=True)
        case _:
            raise invalid(f"x-sandbox-fault: unknown fault {name!r}")


def _error(status: int, options: Mapping[str, str]) -> ApiError:
    headers = [
        (header, options[option].encode())
        for option, header in (("retry-after", b"retry-after"), ("should-retry", b"x-should-retry"))
        if option in options
    ]
    return ApiError(
        status=status,
        message=options.get("message", _MESSAGES.get(status, "The sandbox was asked to fail.")),
        type=options.get("type"),
        code=options.get("code"),
        headers=tuple(headers),
    )


_MESSAGES: Final[Mapping[int, str]] = {
    429: "This request would exceed your rate limit.",
    500: "Internal server error",
    529: "Overloaded",
}
