"""Entries, whole, with what a test is about as arguments."""

from typing import Any

from tierwise.core.ledger import (
    NO_TIMINGS,
    Act,
    Acted,
    Decided,
    Failed,
    Fault,
    Outcome,
    Posted,
    SetAside,
    Settled,
    Timings,
    ToppedUp,
)
from tierwise.usage import Usage


def decided(call_id: str = "c1", **changes: Any) -> Decided:
    values: dict[str, Any] = {
        "call_id": call_id,
        "at_us": 1_000_000,
        "task_type": "extraction",
        "declared": "header",
        "unknown_type": None,
        "nearest_type": None,
        "task_id": "t1",
        "run_id": "r1",
        "agent": "reader",
        "key_id": "k1",
        "requested_model": "claude-opus-5-5",
        "tier": "fast",
        "decided_model": "claude-haiku-5-5",
        "acts": True,
        "stream": False,
        "max_tokens_asked": 32_000,
        "max_tokens_sent": 512,
        "policy_version": "0123456789ab",
        "selection_probability": 1.0,
        "reasons": ("Because.",),
        "changes": ("max_tokens: 32000 -> 512 (decision.max_tokens)",),
    }
    return Decided(**(values | changes))


def set_aside(call_id: str = "c1", **changes: Any) -> SetAside:
    values: dict[str, Any] = {
        "call_id": call_id,
        "at_us": 1_000_100,
        "accounts": ("run-lifetime|k1|r1|lifetime",),
        "reserved_nanos": 5_000,
    }
    return SetAside(**(values | changes))


def posted(call_id: str = "c1", **changes: Any) -> Posted:
    values: dict[str, Any] = {
        "call_id": call_id,
        "at_us": 2_000_000,
        "served_model": "claude-haiku-5-5",
        "stop_reason": "end_turn",
        "usage": Usage(
            input_tokens=100,
            cache_write_5m_tokens=20,
            cache_write_1h_tokens=3,
            cache_read_tokens=40,
            output_tokens=50,
        ),
        "thinking_tokens": 7,
        "cost_nanos": 1_000,
        "price_version": "p1",
        "at_frontier_nanos": 40_000,
        "as_asked_nanos": 30_000,
        "as_decided_nanos": 1_000,
        "timings": Timings(until_sent_us=100, until_first_byte_us=2_000, until_end_us=300),
        "request_id": "req_1",
    }
    return Posted(**(values | changes))


def failed(call_id: str = "c1", **changes: Any) -> Failed:
    values: dict[str, Any] = {
        "call_id": call_id,
        "at_us": 2_000_000,
        "fault": Fault.PROVIDER,
        "error": "overloaded_error",
        "status": 529,
        "served_model": None,
        "usage": None,
        "cost_nanos": 0,
        "at_least_nanos": None,
        "price_version": "p1",
        "timings": NO_TIMINGS,
        "request_id": None,
    }
    return Failed(**(values | changes))


def settled(call_id: str = "c1", **changes: Any) -> Settled:
    values: dict[str, Any] = {
        "call_id": call_id,
        "at_us": 3_000_000,
        "cost_nanos": 1_000,
        "basis": "reconciled",
        "note": "the provider's report",
    }
    return Settled(**(values | changes))


def topped_up(entry_id: str = "t1", **changes: Any) -> ToppedUp:
    values: dict[str, Any] = {
        "entry_id": entry_id,
        "at_us": 3_000_000,
        "account": "run-lifetime|k1|r1|lifetime",
        "amount_nanos": 1_000,
        "who": "ops",
        "why": "more work",
    }
    return ToppedUp(**(values | changes))


def outcome(outcome_id: str = "o1", **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "outcome_id": outcome_id,
        "at_us": 4_000_000,
        "run_id": "r1",
        "task_id": "t1",
        "quality": 1.0,
        "key_id": None,
    }
    return Outcome(**(values | changes))


def acted(act_id: str = "a1", **changes: Any) -> Acted:
    values: dict[str, Any] = {
        "act_id": act_id,
        "at_us": 1_000_000,
        "act": Act.MOVED,
        "task_type": "synthesis",
        "line": "0123",
        "verdict": "provisional",
        "from_tier": "frontier",
        "to_tier": "fast",
        "share": 0.9,
        "who": "autopilot",
        "why": "60 pairs",
    }
    return Acted(**values | changes)
