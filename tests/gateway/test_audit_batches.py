"""The audit's calls as Message Batches: gathered, sent together at half price, and paired when they are back."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.asgi import KEYED, gateway_in_memory, post
from support.plays import calls
from support.policies import book
from support.transcripts import MemoryUpstream, Transcript, error
from tierwise.core.ledger import Paired
from tierwise.core.policy import Upstream as UpstreamConfig
from tierwise.engine.auditor import Auditor
from tierwise.engine.doors import BATCHES
from tierwise.errors import UpstreamDropped
from tierwise.sandbox.server import running
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger.pairs import evidence
from tierwise.stores.ledger.sqlite import read_ledger
from tierwise.upstream.direct import DirectUpstream
from tierwise.upstream.port import Outgoing

POLICY = """
[tiers.frontier]
model = "claude-opus-5-5"
effort = "medium"

[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"

[audit]
share = 50
most_of_day = 100
sample = 100
by_batch = true

[task_types.synthesis]
tier = "frontier"
max_tokens = 2048
shadow = true
"""
AT_ONCE = POLICY.replace("by_batch = true\n", "")


def body(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "task/synthesis", "max_tokens": 4096, "messages": messages} | fields


SPENT = [body(f"Count to {place}.", model="claude-opus-5-5") for place in range(10)]
"""Calls of no type, so that a day has a spend of which the audit gets a part."""


def recorded(path: Path) -> tuple[Paired, ...]:
    with closing(read_ledger(path)) as ledger:
        return evidence(ledger).pairs


def audit_calls(path: Path) -> list[dict[str, Any]]:
    return [each for each in calls(path) if each["purpose"] == "audit"]


def costs(pairs: tuple[Paired, ...]) -> Counter[tuple[int | None, int | None]]:
    return Counter((pair.dear_nanos, pair.cheap_nanos) for pair in pairs)


def test_calls_made_together_cost_half_and_compare_like_calls_made_alone(tmp_path: Path) -> None:
    bodies = [body(f"Tell story {place}.", stream=place % 2 == 0) for place in range(6)]

    async def talk(policy: str, path: Path, base_url: str) -> None:
        auditors: list[Auditor] = []
        upstream = DirectUpstream(UpstreamConfig(base_url=base_url))
        async with gateway_in_memory(path, upstream, policy=book(policy), auditors=auditors) as app:
            for each in (*SPENT, *bodies):
                assert (await post(app, each, headers=KEYED)).status == 200
            await auditors[0].idle()
        await upstream.close()

    for name, policy in (("alone", AT_ONCE), ("together", POLICY)):
        with running(seed=3) as sandbox:
            asyncio.run(talk(policy, tmp_path / name, sandbox.base_url))
            known = sum(each["cost_nanos"] for each in calls(tmp_path / name))
            assert known == sandbox.billing()["total_nanos"]

    alone, together = audit_calls(tmp_path / "alone"), audit_calls(tmp_path / "together")
    assert len(alone) == len(together) == len(bodies)
    assert all(each["batch_id"] for each in together)
    assert 2 * sum(each["cost_nanos"] for each in together) == sum(each["cost_nanos"] for each in alone)
    assert costs(recorded(tmp_path / "together")) == costs(recorded(tmp_path / "alone"))


Answer = Callable[[Outgoing], Transcript]


class Provider:
    """Answers calls, and takes one batch; what it says of the batch is each test's."""

    def __init__(self, created: Answer | None = None) -> None:
        self.created = created or taken
        self.results: Answer = self.succeeded
        self.requests: list[dict[str, Any]] = []
        self.asked = 0

    def __call__(self, request: Outgoing) -> Transcript:
        if not request.target.startswith(BATCHES):
            return saying(message(json.loads(request.body)["model"]))
        if request.method == "POST":
            self.requests += json.loads(request.body)["requests"]
            return self.created(request)
        self.asked += 1
        if request.target.endswith("/results"):
            return self.results(request)
        return saying({"id": "msgbatch_1", "processing_status": "ended" if self.asked > 2 else "in_progress"})

    def lines(self, kind: str = "succeeded") -> list[bytes]:
        found = [
            {
                "custom_id": each["custom_id"],
                "result": {"type": kind, "message": message(each["params"]["model"])}
                if kind == "succeeded"
                else {"type": kind},
            }
            for each in self.requests
        ]
        return [json.dumps(each).encode() + b"\n" for each in reversed(found)]

    def succeeded(self, _: Outgoing) -> Transcript:
        return Transcript(chunks=(b"".join(self.lines()),))


def message(model: str) -> dict[str, Any]:
    return {
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "42"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1000, "output_tokens": 200},
    }


def taken(_: Outgoing) -> Transcript:
    return saying({"id": "msgbatch_1"})


def saying(value: Any) -> Transcript:
    return Transcript(chunks=(json.dumps(value).encode(),))


def played(path: Path, provider: Provider, *, gather_s: float = 0.2) -> MemoryBudgets:
    """Have two calls audited, and return the balances then."""
    budgets = MemoryBudgets()

    async def talk() -> None:
        auditors: list[Auditor] = []
        upstream = MemoryUpstream(provider)
        async with gateway_in_memory(
            path,
            upstream,
            policy=book(POLICY),
            auditors=auditors,
            budgets=budgets,
            gather_s=gather_s,
        ) as app:
            for text in ("One.", "Two."):
                assert (await post(app, body(text), headers=KEYED)).status == 200
            if gather_s < 1:
                await auditors[0].idle()
            else:
                await asyncio.sleep(0.1)

    asyncio.run(talk())
    return budgets


def test_items_are_fitted_to_the_other_tier_and_matched_in_any_order(tmp_path: Path) -> None:
    provider = Provider()

    played(tmp_path / "ledger", provider)

    assert {each["params"]["model"] for each in provider.requests} == {"claude-haiku-5-5"}
    assert all("stream" not in each["params"] for each in provider.requests)
    pairs = recorded(tmp_path / "ledger")
    assert [pair.difference for pair in pairs] == [0, 0]
    assert {pair.shadow_call_id for pair in pairs} == {each["custom_id"] for each in provider.requests}


def forbidden(_: Outgoing) -> Transcript:
    return error("permission_error", 403)


def unanswered(_: Outgoing) -> Transcript:
    return Transcript(no_reply=UpstreamDropped(why="gone"))


@pytest.mark.parametrize("turned_down", [forbidden, unanswered])
def test_a_batch_that_is_not_taken_leaves_no_pair_and_its_calls_an_ending(
    tmp_path: Path, turned_down: Answer
) -> None:
    played(tmp_path / "ledger", Provider(turned_down))

    assert recorded(tmp_path / "ledger") == ()
    assert [each["ending"] for each in audit_calls(tmp_path / "ledger")] == ["failed", "failed"]


@pytest.mark.parametrize("kind", ["expired", "canceled", "errored"])
def test_an_item_that_was_not_done_leaves_no_pair_and_costs_nothing(tmp_path: Path, kind: str) -> None:
    provider = Provider()

    def results(_: Outgoing) -> Transcript:
        return Transcript(chunks=tuple(provider.lines(kind)))

    provider.results = results
    played(tmp_path / "ledger", provider)

    assert recorded(tmp_path / "ledger") == ()
    assert [each["cost_nanos"] for each in audit_calls(tmp_path / "ledger")] == [0, 0]


def test_results_that_break_off_are_fetched_again_and_counted_once(tmp_path: Path) -> None:
    provider = Provider()
    fetched: list[Outgoing] = []

    def results(request: Outgoing) -> Transcript:
        fetched.append(request)
        if len(fetched) == 1:
            return Transcript(chunks=(provider.lines()[0],), breaks=UpstreamDropped(why="cut"))
        return provider.succeeded(request)

    provider.results = results
    played(tmp_path / "ledger", provider)

    assert len(fetched) == 2
    assert len(recorded(tmp_path / "ledger")) == 2


def test_a_gateway_that_stops_before_its_batch_leaves_takes_nothing(tmp_path: Path) -> None:
    provider = Provider()

    budgets = played(tmp_path / "ledger", provider, gather_s=60)

    assert provider.requests == []
    assert audit_calls(tmp_path / "ledger") == []
    assert budgets.open_reservations == 0
    assert sum(balance.reserved_nanos for balance in budgets.balances().values()) > 0
