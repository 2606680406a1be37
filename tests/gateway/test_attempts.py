"""Several attempts at one request: what its caller gets, the provider is asked, and the ledger and budgets say."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anthropic
import pytest

from support.asgi import Got, gateway_in_memory, post
from support.gateways import RunningGateway, running_gateway
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.transcripts import EVENTS, JSON, STREAM, MemoryUpstream, Transcript, error, message
from tierwise.errors import UpstreamDropped, UpstreamTimeout, UpstreamUnreachable
from tierwise.sandbox.server import Running, running
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.upstream.port import Outgoing

USER = {"role": "user", "content": "Hi"}
MESSAGE = {"model": "task/extraction", "max_tokens": 4096, "messages": [USER]}
BUDGET = '[[budgets]]\nname = "all"\nscope = "all"\nlimit_usd = "1"\n'
OVERLOADED = error("overloaded_error", 529)
WHOLE = Transcript(chunks=(message(),))
CUT = Transcript(chunks=(message(stop_reason="max_tokens", output_tokens=512),))
LONGER = Transcript(chunks=(message(output_tokens=900),))


@dataclass(slots=True)
class Run:
    """One request through the real app, and what it came to."""

    got: Got
    waits: list[float]
    requests: list[Outgoing]
    calls: list[dict[str, Any]]
    budgets: MemoryBudgets = field(default_factory=MemoryBudgets)

    def column(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(call[name] for name in names) for call in self.calls]


def play(
    path: Path, *script: Transcript, policy: str = "", types: str = TWO_TIERS, body: Any = MESSAGE
) -> Run:
    """Send one request to a provider that answers as the script says, the last line again and again."""
    lines = [*script]
    upstream = MemoryUpstream(lambda _: lines.pop(0) if len(lines) > 1 else lines[0])
    waits: list[float] = []
    budgets = MemoryBudgets()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def talk() -> Got:
        running = gateway_in_memory(
            path, upstream, policy=book(f"{types}\n{policy}\n"), budgets=budgets, sleep=sleep
        )
        async with running as app:
            return await post(app, body)

    got = asyncio.run(talk())
    return Run(
        got=got,
        waits=[wait for wait in waits if wait > 0],
        requests=upstream.requests,
        calls=calls(path),
        budgets=budgets,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
def test_an_error_that_passes_is_tried_again_and_the_caller_sees_the_reply_alone(
    path: Path, status: int
) -> None:
    played = play(path, error("overloaded_error", status), WHOLE)

    assert (played.got.status, played.got.body) == (200, message())
    first, second = played.calls
    assert (first["ending"], first["status"], first["cost_nanos"]) == ("failed", status, 0)
    assert (second["ending"], second["cost_nanos"]) == ("posted", 1000 * 100 + 200 * 500)
    assert (second["attempt"], second["first_call_id"]) == (2, first["call_id"])
    assert (first["attempt"], first["first_call_id"]) == (1, None)
    assert played.got.header(b"x-tierwise-call-id") == second["call_id"].encode()
    assert played.got.header(b"x-tierwise-attempt") == b"2"
    assert played.requests[0].body == played.requests[1].body


def test_a_reply_of_a_first_attempt_says_nothing_of_attempts(path: Path) -> None:
    assert play(path, WHOLE).got.header(b"x-tierwise-attempt") is None


def test_a_stream_is_tried_again_before_its_first_byte_and_never_after(path: Path) -> None:
    stream = Transcript(headers=EVENTS, chunks=STREAM)
    broken = Transcript(headers=EVENTS, chunks=STREAM[:2], breaks=UpstreamDropped(why="reset"))
    body = {**MESSAGE, "stream": True}
    before = play(path, OVERLOADED, stream, body=body)
    after = play(path.with_name("b"), broken, stream, body=body)

    assert before.got.body == b"".join(STREAM)
    assert (after.got.body, after.got.ended, len(after.requests)) == (b"".join(STREAM[:2]), False, 1)


def test_the_last_error_comes_as_the_provider_sent_it_and_says_that_no_more_is_to_be_tried(
    path: Path,
) -> None:
    last = replace(OVERLOADED, headers=(*JSON, (b"x-should-retry", b"true"), (b"retry-after", b"1")))
    played = play(path, OVERLOADED, OVERLOADED, last)

    assert (played.got.status, played.got.body) == (529, b"".join(last.chunks))
    assert played.got.header(b"x-should-retry") == b"false"
    assert played.got.header(b"retry-after") == b"1"
    assert played.column("attempt", "error", "cost_nanos") == [
        (1, "overloaded_error", 0),
        (2, "overloaded_error", 0),
        (3, "overloaded_error", 0),
    ]


def test_without_retries_an_error_passes_as_it_is(path: Path) -> None:
    played = play(path, OVERLOADED, policy="[upstream]\nretries = 0")

    assert (played.got.status, len(played.requests)) == (529, 1)
    assert played.got.header(b"x-should-retry") is None


def test_the_providers_wait_is_kept_and_one_that_is_too_long_is_passed_on(path: Path) -> None:
    def limited(seconds: bytes) -> Transcript:
        return replace(error("rate_limit_error", 429), headers=(*JSON, (b"retry-after", seconds)))

    kept = play(path, limited(b"3"), WHOLE)
    passed_on = play(path.with_name("b"), limited(b"90"), WHOLE)

    assert kept.got.status == 200
    assert kept.waits == [pytest.approx(3, abs=0.5)]
    assert (passed_on.got.status, passed_on.waits, len(passed_on.requests)) == (429, [], 1)
    assert passed_on.got.header(b"x-should-retry") is None


@pytest.mark.parametrize(
    ("no_reply", "policy", "tries", "cost"),
    [
        (UpstreamUnreachable(why="refused"), "", 3, 0),
        (UpstreamDropped(why="closed"), "", 3, None),
        (UpstreamTimeout(why="late"), "", 3, None),
        (UpstreamTimeout(why="late"), "[upstream]\nretry_timeouts = false", 1, None),
    ],
)
def test_where_there_is_no_reply_another_is_asked_for_and_what_may_be_billed_stays_unknown(
    path: Path, no_reply: Any, policy: str, tries: int, cost: int | None
) -> None:
    played = play(path, Transcript(no_reply=no_reply), policy=policy)

    assert played.got.header(b"x-should-retry") == b"false"
    assert played.column("attempt", "cost_nanos") == [(n, cost) for n in range(1, tries + 1)]


def test_each_attempt_is_reserved_and_settled_by_itself(path: Path) -> None:
    unbilled = play(path, OVERLOADED, WHOLE, policy=BUDGET)
    dropped = play(path.with_name("b"), Transcript(no_reply=UpstreamDropped(why="")), WHOLE, policy=BUDGET)
    late = play(path.with_name("c"), Transcript(no_reply=UpstreamTimeout(why="")), WHOLE, policy=BUDGET)
    spent = 1000 * 100 + 200 * 500

    for played, kept in ((unbilled, 0), (dropped, 1), (late, 1)):
        balance = played.budgets.balance("all|lifetime")
        assert (balance.posted_nanos, balance.pending_nanos * 2) == (spent, balance.reserved_nanos * kept)
        assert balance.reserved_nanos + balance.overrun_nanos == (
            balance.pending_nanos + balance.posted_nanos + balance.released_nanos
        )


def test_an_attempt_for_which_the_kept_worst_case_of_a_late_one_leaves_no_room_is_not_sent(
    path: Path,
) -> None:
    tight = BUDGET.replace('"1"', '"0.0005"') + 'when_short = ["refuse"]\npending_share = 100\n'
    played = play(path, Transcript(no_reply=UpstreamTimeout(why="late")), WHOLE, policy=tight)

    assert (played.got.status, len(played.requests)) == (429, 1)
    assert played.column("attempt", "error", "cost_nanos") == [(1, "timeout", None), (2, "budget", 0)]
    balance = played.budgets.balance("all|lifetime")
    assert (balance.posted_nanos, balance.pending_nanos) == (0, balance.reserved_nanos)


def test_a_retry_stays_on_its_tier_unless_the_contract_names_a_fallback(path: Path) -> None:
    stays = play(path, OVERLOADED)
    moves = play(
        path.with_name("b"), *[OVERLOADED] * 3, WHOLE, policy="", types=_type('fallback = "frontier"')
    )

    assert stays.column("tier") == [("fast",)] * 3
    assert moves.column("tier", "attempt") == [("fast", 1), ("fast", 2), ("fast", 3), ("frontier", 4)]
    assert moves.got.status == 200
    assert moves.got.header(b"x-tierwise-tier") == b"frontier"


def _type(line: str) -> str:
    return TWO_TIERS.replace("max_tokens = 512", f"max_tokens = 512\n{line}")


def test_retries_go_from_one_address_to_the_next_and_round(path: Path) -> None:
    played = play(path, OVERLOADED, policy='[upstream]\nfallback_urls = ["https://b.example"]\nretries = 3')

    assert [request.address for request in played.requests] == [0, 1, 2, 3]
    assert len(played.waits) == 1


RAISE = _type('on_truncation = "raise-cap"')


def test_a_cut_reply_is_made_longer_and_both_are_in_the_ledger(path: Path) -> None:
    played = play(path, CUT, LONGER, types=RAISE)

    assert (played.got.status, played.got.body) == (200, b"".join(LONGER.chunks))
    assert [json.loads(request.body)["max_tokens"] for request in played.requests] == [512, 2048]
    assert played.column("attempt", "stop_reason", "output_tokens") == [
        (1, "max_tokens", 512),
        (2, "end_turn", 900),
    ]
    assert played.got.header(b"x-tierwise-max-tokens") == b"2048"


def test_a_reply_that_is_cut_again_is_passed_on(path: Path) -> None:
    again = Transcript(chunks=(message(stop_reason="max_tokens", output_tokens=2048),))
    played = play(path, CUT, again, types=RAISE)

    assert (played.got.body, len(played.requests)) == (b"".join(again.chunks), 2)


@pytest.mark.parametrize(
    "then",
    [
        error("invalid_request_error", 400),
        OVERLOADED,
        Transcript(no_reply=UpstreamTimeout(why="late")),
        Transcript(chunks=(b"{",), breaks=UpstreamDropped(why="reset")),
    ],
)
def test_where_the_longer_reply_does_not_come_the_cut_one_does(path: Path, then: Transcript) -> None:
    played = play(path, CUT, then, types=RAISE)

    assert (played.got.status, played.got.body) == (200, b"".join(CUT.chunks))
    assert played.got.header(b"x-tierwise-call-id") == played.calls[0]["call_id"].encode()
    assert played.got.header(b"x-tierwise-attempt") is None
    assert played.calls[1]["ending"] == "failed"


def test_where_a_budget_has_nothing_left_for_a_longer_reply_the_cut_one_comes(path: Path) -> None:
    tight = BUDGET.replace('"1"', '"0.0005"') + "pending_share = 100\n"
    played = play(path, CUT, LONGER, types=RAISE, policy=tight)

    assert (played.got.status, played.got.body) == (200, b"".join(CUT.chunks))
    assert played.column("attempt", "error") == [(1, None), (2, "budget")]


def test_a_stream_that_its_cap_cut_passes_as_it_is(path: Path) -> None:
    cut = tuple(chunk.replace(b"end_turn", b"max_tokens") for chunk in STREAM)
    played = play(path, Transcript(headers=EVENTS, chunks=cut), types=RAISE, body={**MESSAGE, "stream": True})

    assert played.got.body == b"".join(cut)
    assert played.column("stop_reason") == [("max_tokens",)]


def test_a_caller_that_leaves_while_its_call_waits_is_not_served_and_no_more_is_sent(tmp_path: Path) -> None:
    with (
        running(seed=1) as sandbox,
        running_gateway(tmp_path, sandbox.base_url, policy=TWO_TIERS + BUDGET) as gateway,
    ):
        with (
            anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=0, timeout=1) as client,
            pytest.raises(anthropic.APITimeoutError),
        ):
            client.messages.create(**_fault("status:529,retry-after=20"))
        gateway.stop()

    (call,) = gateway.calls()
    assert (call["error"], call["cost_nanos"]) == ("overloaded_error", 0)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


def _fault(fault: str, *, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {
        "model": "task/extraction",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": text}],
        "extra_headers": {"x-sandbox-fault": fault},
        **fields,
    }


@pytest.fixture
def gateway(tmp_path: Path, sandbox: Running) -> Iterator[RunningGateway]:
    sandbox.reset()
    with running_gateway(tmp_path, sandbox.base_url, policy=RAISE + BUDGET) as gateway:
        yield gateway


def test_the_sdk_makes_one_request_of_a_call_that_the_gateway_gave_up(gateway: RunningGateway) -> None:
    with (
        anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=5) as client,
        pytest.raises(anthropic.InternalServerError) as raised,
    ):
        client.messages.create(**_fault("status:529"))

    assert raised.value.status_code == 529
    assert [call["attempt"] for call in gateway.calls()] == [1, 2, 3]


def test_an_overload_that_passes_is_never_seen_by_the_sdk(gateway: RunningGateway, sandbox: Running) -> None:
    with anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
        reply = client.messages.create(stream=False, **_fault("status:529,times=2"))

    assert reply.stop_reason == "end_turn"
    assert [(call["attempt"], call["status"]) for call in gateway.calls()][:2] == [(1, 529), (2, 529)]
    assert sum(call["cost_nanos"] for call in gateway.calls()) == sandbox.billing()["total_nanos"]


def test_a_reply_that_the_cap_cut_comes_whole_and_the_waste_is_what_the_provider_billed(
    gateway: RunningGateway, sandbox: Running
) -> None:
    with anthropic.Anthropic(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
        reply = client.messages.create(
            model="task/extraction",
            max_tokens=4096,
            messages=[{"role": "user", "content": "List all. [[sandbox output_tokens=900]]"}],
        )

    first, second = gateway.calls()
    assert (reply.stop_reason, reply.usage.output_tokens) == ("end_turn", 900)
    assert (first["stop_reason"], first["output_tokens"], second["first_call_id"]) == (
        "max_tokens",
        512,
        first["call_id"],
    )
    assert first["cost_nanos"] + second["cost_nanos"] == sandbox.billing()["total_nanos"]
