"""What a call costs, counted instead of timed: function calls that Python makes to see it through.

A count is the same on a busy machine and on a quiet one. Where a change is worth more calls than it is allowed, write
the number that the failing test tells into `RECORDED`; where a change saves calls, write the lower number, so that
they are not lost again. Other versions of Python count less, never more: they inline what 3.11 calls.
"""

import gc
import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from support.policies import TWO_TIERS, book
from tierwise.core.effects import (
    Claimed,
    Event,
    Record,
    Recorded,
    Relay,
    ReplyBegan,
    ReplyEnded,
    Reserve,
    Send,
    Settle,
)
from tierwise.core.ledger import Entry
from tierwise.engine.desk import Desk
from tierwise.engine.endings import ended, known
from tierwise.engine.headers import (
    betas_for,
    credential_id,
    outgoing_headers,
    own_headers,
    readable_headers,
    returned_headers,
)
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.rows import sorted_rows
from tierwise.wire.replies import ReplyFacts, read_reply
from tierwise.wire.requests import rewrite
from tierwise.wire.sse import StreamFacts

RECORDED: Final = {"whole": 458, "stream": 971}
"""Function calls of one call under two budgets, Python's own and the C functions that it calls."""

ROOM: Final = 1.05

POLICY: Final = f"""{TWO_TIERS}
[[budgets]]
scope = "all"
limit_usd = "1000"

[[budgets]]
scope = "run"
limit_usd = "100"
"""

HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"user-agent", b"an-agent"),
    (b"x-api-key", b"sk-1"),
    (b"anthropic-version", b"2023-06-01"),
    (b"x-tierwise-task-type", b"extraction"),
    (b"x-tierwise-run-id", b"run-7"),
    (b"x-tierwise-agent", b"reader"),
]
REPLY_HEADERS: Final = [(b"content-type", b"application/json"), (b"request-id", b"req_1")]
COUNTS: Final = {"input_tokens": 512, "output_tokens": 256}
MODEL: Final = "claude-haiku-5-5"
REQUEST: Final = json.dumps(
    {
        "model": "claude-opus-5-5",
        "max_tokens": 4096,
        "system": "You are careful.",
        "messages": [{"role": "user", "content": "Which firm signed?"}],
    }
).encode()
WHOLE: Final = json.dumps(
    {
        "type": "message",
        "model": MODEL,
        "content": [{"type": "text", "text": "Acme."}],
        "stop_reason": "end_turn",
        "usage": COUNTS,
    }
).encode()
EVENTS: Final = (
    {
        "type": "message_start",
        "message": {"model": MODEL, "usage": {"input_tokens": 512, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},) * 60,
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": COUNTS},
    {"type": "message_stop"},
)
STREAM: Final = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in EVENTS]


def function_calls(work: Callable[[], object]) -> int:
    """How many functions are called while `work` runs."""
    count = 0

    def note(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    gc.disable()  # a collection calls whoever asked to be told of it
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def read_whole() -> ReplyFacts:
    return read_reply(WHOLE, status=200)


def read_stream() -> ReplyFacts:
    facts = StreamFacts()
    for event in STREAM:
        facts.feed(event)
    return known(facts)


class House:
    """A desk with its budgets, that sees calls through as a driver does, without a network and a disk."""

    def __init__(self) -> None:
        numbers = iter(range(1_000_000))
        self.budgets = MemoryBudgets()
        self.entries: list[Entry] = []
        self.desk = Desk(
            book(POLICY),
            conversations=Conversations(),
            clock=lambda: 1_000,
            new_id=lambda: f"c{next(numbers)}",
        )

    def serve(self, read: Callable[[], ReplyFacts]) -> None:
        opened = self.desk.open(REQUEST, readable_headers(HEADERS), key_id=credential_id(HEADERS))
        effects = opened.exchange.begin(1_000)
        while effects:
            event: Event | None = None
            for effect in effects:
                match effect:
                    case Reserve(claim=claim):
                        event = Claimed(outcome=self.budgets.reserve(claim), at_us=1_000)
                    case Record(entry=entry, durable=durable):
                        self.entries.append(entry)
                        event = Recorded(at_us=1_000) if durable else None
                    case Send(changes=changes):
                        outgoing_headers(HEADERS, key=None, betas=betas_for(changes))
                        rewrite(opened.body, changes)
                        event = ReplyBegan(at_us=1_000)
                    case Relay():
                        returned_headers(REPLY_HEADERS)
                        own_headers(opened.call_id, opened.plan)
                        event = ReplyEnded(
                            ending=ended(read(), status=200, headers=REPLY_HEADERS, at_us=2_000)
                        )
                    case Settle(cost_nanos=cost):
                        self.budgets.settle(opened.call_id, cost)
                    case _:
                        event = None
            effects = () if event is None else opened.exchange.receive(event)
        sorted_rows(self.entries)
        self.entries.clear()


def calls_of(read: Callable[[], ReplyFacts]) -> int:
    """Function calls of one call, when what is remembered from earlier ones is warm."""
    house = House()
    for _ in range(3):
        house.serve(read)
    return function_calls(lambda: house.serve(read))


def test_a_call_takes_no_more_function_calls_than_were_recorded() -> None:
    assert calls_of(read_whole) <= ROOM * RECORDED["whole"]


def test_a_stream_takes_no_more_function_calls_than_were_recorded() -> None:
    assert calls_of(read_stream) <= ROOM * RECORDED["stream"]


def test_the_same_call_is_counted_the_same() -> None:
    assert calls_of(read_whole) == calls_of(read_whole)


def test_the_call_that_is_counted_reaches_its_end() -> None:
    house = House()

    house.serve(read_whole)

    assert house.budgets.open_reservations == 0
    assert sum(balance.posted_nanos for balance in house.budgets.balances().values()) > 0
