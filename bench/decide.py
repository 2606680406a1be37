"""What the decision costs a call, step by step, and with 1, 10, 100 and 1,000 task types. No network, no ledger."""

import json
from typing import Final

from measuring import Spread, arguments, show, timed, write
from tierwise.config import Book, parse_book, starter_policy
from tierwise.core.call import Call
from tierwise.core.effects import Recorded, ReplyBegan, ReplyEnded
from tierwise.core.exchange import Exchange
from tierwise.core.planning import Plan, plan
from tierwise.core.routing import decide
from tierwise.core.tasks import name_task
from tierwise.engine.endings import ended
from tierwise.wire.replies import read_reply
from tierwise.wire.requests import read_request, rewrite
from tierwise.wire.sse import StreamFacts

HEADERS: Final = {
    "anthropic-version": "2023-06-01",
    "x-tierwise-task-type": "extraction",
    "x-tierwise-run-id": "run-1",
    "x-tierwise-agent": "reader",
}
BODY: Final = json.dumps(
    {
        "model": "claude-opus-5-5",
        "max_tokens": 8192,
        "system": [{"type": "text", "text": "You are a careful assistant. " * 8}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Summarise the incident log. " * 18}]},
            {"role": "assistant", "content": [{"type": "text", "text": "Here is the first part. " * 11}]},
            {"role": "user", "content": [{"type": "text", "text": "Go on, and propose what to do. " * 16}]},
        ],
        "metadata": {"user_id": "user-123"},
    }
).encode()
REPLY: Final = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": "word " * 240}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 420, "output_tokens": 300, "cache_read_input_tokens": 0},
    }
).encode()
REPLY_HEADERS: Final = ((b"content-type", b"application/json"), (b"request-id", b"req_1"))


def stream(deltas: int) -> bytes:
    """A stream like the provider's, with `deltas` text deltas."""
    start = {
        "type": "message_start",
        "message": {"model": "claude-haiku-5-5", "usage": {"input_tokens": 420, "output_tokens": 1}},
    }
    delta = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": "some words "},
    }
    events = [
        start,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *([delta] * deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 300}},
        {"type": "message_stop"},
    ]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def book(types: int, rules: int = 10) -> Book:
    """A policy of so many task types and match rules; no rule holds, so that all are tried."""
    text = starter_policy()
    text += "".join(f'\n[task_types.kind-{n}]\ntier = "fast"\nmax_tokens = 512\n' for n in range(types))
    text += "".join(f'\n[[match]]\nmodel = "nothing-{n}"\ntask_type = "extraction"\n' for n in range(rules))
    return parse_book(text, file="bench")


def steps(found: Book, *, quick: bool) -> dict[str, Spread]:
    """Microseconds of each step of one non-streaming call, and of all of them together."""
    policy, prices = found.policy, found.prices
    call, body = read_request(BODY, HEADERS)
    task = name_task(call, policy=policy)
    planned = plan(call, task, policy=policy, kept=None)
    assert isinstance(planned, Plan)

    def settle() -> None:
        exchange = Exchange(planned, prices=prices, call_id="c", read_us=0)
        exchange.begin(1)
        exchange.receive(ReplyBegan(at_us=2))
        facts = read_reply(REPLY, status=200)
        exchange.receive(ReplyEnded(ending=ended(facts, status=200, headers=REPLY_HEADERS, at_us=3)))
        exchange.receive(Recorded(at_us=4))

    def whole() -> None:
        read_call, read_body = read_request(BODY, HEADERS)
        named = name_task(read_call, policy=policy)
        made = plan(read_call, named, policy=policy, kept=None)
        assert isinstance(made, Plan)
        rewrite(read_body, made.changes)
        settle()

    events = stream(60)
    return {
        "read the request (2 KB)": timed(lambda: read_request(BODY, HEADERS), quick=quick),
        "name the task": timed(lambda: name_task(call, policy=policy), quick=quick),
        "decide": timed(lambda: decide(call, task, policy=policy), quick=quick),
        "decide and fit": timed(lambda: plan(call, task, policy=policy, kept=None), quick=quick),
        "rewrite the body": timed(lambda: rewrite(body, planned.changes), quick=quick),
        "exchange: entries, usage, cost, baselines": timed(settle, quick=quick),
        "all of these": timed(whole, quick=quick),
        "read a stream of 65 events, one chunk": timed(lambda: StreamFacts().feed(events), quick=quick),
    }


def by_types(*, quick: bool) -> dict[str, Spread]:
    """Microseconds of naming and deciding with more and more task types."""
    call: Call = read_request(BODY, {**HEADERS, "x-tierwise-task-type": ""})[0]
    figures: dict[str, Spread] = {}
    for types in (1, 10, 100, 1000):
        policy = book(types).policy
        declared, _ = read_request(BODY, {**HEADERS, "x-tierwise-task-type": f"kind-{types - 1}"})
        figures[f"{types:,} types, declared"] = timed(
            lambda call=declared, policy=policy: decide(call, name_task(call, policy=policy), policy=policy),
            quick=quick,
        )
        figures[f"{types:,} types, undeclared: 10 rules tried"] = timed(
            lambda policy=policy: decide(call, name_task(call, policy=policy), policy=policy), quick=quick
        )
    return figures


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    parts = steps(book(1), quick=options.quick)
    types = by_types(quick=options.quick)
    show("One call, step by step", parts, unit="µs")
    show("Naming and deciding, by the size of the policy", types, unit="µs")
    write(options.json, {"us": {**parts, **types}})


if __name__ == "__main__":
    main()
