"""The audit end to end: calls through the real app are made again on another tier, graded, and judged."""

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from support.asgi import KEYED, Pairs, gateway_in_memory, post
from support.policies import book
from support.transcripts import EVENTS, MemoryUpstream, Transcript, error, event
from tierwise.audit.counts import LineKey
from tierwise.audit.standings import Audit
from tierwise.audit.verdicts import Verdict
from tierwise.config import Book
from tierwise.core.ledger import Paired
from tierwise.engine import auditor
from tierwise.engine.auditor import Auditor
from tierwise.engine.batches import BatchDesk
from tierwise.engine.budgets import LocalBudgets, Warnings
from tierwise.engine.checking import Checker
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.desk import Desk
from tierwise.engine.ledger import LoopLedger
from tierwise.engine.listening import LONGEST_REPLY
from tierwise.engine.looking import new_claims
from tierwise.engine.shadowing import line_key
from tierwise.engine.standing import audit_of
from tierwise.errors import UpstreamDropped
from tierwise.money import usd
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.pairs import DAY_US, evidence
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reports import report
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger
from tierwise.upstream.port import Outgoing

TIERS = """
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
"""

SHADOWED = (
    TIERS
    + """
[task_types.synthesis]
tier = "frontier"
max_tokens = 2048
shadow = true

[task_types.extraction]
tier = "fast"
max_tokens = 512
shadow = true
"""
)
PLAIN = book(SHADOWED.replace("shadow = true\n", ""))


def always(request: Outgoing) -> Transcript:
    """The same answer of every model."""
    return saying("42", request)


def right(request: Outgoing) -> Transcript:
    return saying("right", request)


def saying(text: str, request: Outgoing) -> Transcript:
    body = {
        "type": "message",
        "role": "assistant",
        "model": model_of(request),
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1000, "output_tokens": 200},
    }
    return Transcript(chunks=(json.dumps(body).encode(),))


def body(task_type: str, text: str = "Do it.", **fields: Any) -> dict[str, Any]:
    return {
        "model": f"task/{task_type}",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": text}],
    } | fields


def model_of(request: Outgoing) -> str:
    return json.loads(request.body)["model"]


def pairs_of(
    path: Path,
    script: Callable[[Outgoing], Transcript],
    bodies: list[dict[str, Any]],
    *,
    policy: Book | None = None,
    headers: Pairs = KEYED,
) -> tuple[Paired, ...]:
    """Make calls one after the other, and return the pairs that the ledger has then."""
    auditors: list[Auditor] = []

    async def talk() -> None:
        chosen = policy or book(SHADOWED)
        async with gateway_in_memory(path, script, policy=chosen, auditors=auditors) as app:
            for each in bodies:
                got = await post(app, each, headers=headers)
                assert got.status == 200
                await auditors[0].idle()

    asyncio.run(talk())
    return recorded(path)


def recorded(path: Path) -> tuple[Paired, ...]:
    with closing(read_ledger(path)) as ledger:
        return evidence(ledger).pairs


def test_a_call_of_a_shadowed_type_is_made_again_on_the_cheaper_tier(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(request: Outgoing) -> Transcript:
        asked.append(model_of(request))
        return always(request)

    (pair,) = pairs_of(tmp_path / "ledger", script, [body("synthesis")])

    assert asked == ["claude-opus-5-5", "claude-haiku-5-5"]
    assert (pair.on_dear, pair.difference, pair.how, pair.probability) == (True, 0, "equal", 1.0)
    assert pair.dear_nanos is not None
    assert pair.cheap_nanos is not None
    assert pair.dear_nanos > pair.cheap_nanos > 0


def test_a_call_of_a_type_on_the_cheapest_tier_is_compared_with_the_frontier(tmp_path: Path) -> None:
    def script(request: Outgoing) -> Transcript:
        return saying("right" if model_of(request) == "claude-opus-5-5" else "wrong", request)

    checked = book(SHADOWED + 'quality.check = "exact:right"\n')
    many = [body("synthesis", f"Do {number}.") for number in range(40)]
    *_, pair = pairs_of(tmp_path / "ledger", script, [*many, body("extraction")], policy=checked)

    assert (pair.task_type, pair.on_dear, pair.difference, pair.how) == ("extraction", False, -1, "check")


def test_the_audits_call_names_the_first_one_and_no_run_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    (pair,) = pairs_of(path, always, [body("synthesis")])

    with closing(read_ledger(path)) as ledger:
        query = "SELECT purpose, first_call_id, run_id, ending, key_id FROM calls WHERE call_id = ?"
        (row,) = ledger.rows(query, (pair.shadow_call_id,))
        (key,) = ledger.rows("SELECT key_id FROM calls WHERE call_id = ?", (pair.call_id,))
    assert row == {
        "purpose": "audit",
        "first_call_id": pair.call_id,
        "run_id": None,
        "ending": "posted",
        "key_id": key["key_id"],
    }


def test_by_type_the_audits_calls_count_apart_and_have_no_baselines(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    pairs_of(path, always, [body("synthesis")])

    with closing(read_ledger(path)) as ledger:
        lines = {line.key: line.totals for line in report(ledger, by="type").lines}
    assert {name: totals.calls for name, totals in lines.items()} == {"synthesis": 1, "(audit)": 1}
    assert lines["(audit)"].cost_nanos > 0
    assert lines["(audit)"].at_frontier_nanos is None


def test_a_conversation_gives_one_pair_a_day(tmp_path: Path) -> None:
    twice = [body("synthesis"), body("synthesis")]

    assert len(pairs_of(tmp_path / "ledger", always, twice)) == 1


def test_a_type_that_is_not_shadowed_is_never_compared(tmp_path: Path) -> None:
    assert not pairs_of(tmp_path / "ledger", always, [body("synthesis")], policy=PLAIN)


def test_a_call_that_is_only_observed_is_not_compared(tmp_path: Path) -> None:
    observing = book('mode = "observe"\n' + SHADOWED)
    asked = body("synthesis") | {"model": "claude-opus-5-5"}
    headers = (*KEYED, (b"x-tierwise-task-type", b"synthesis"))
    assert not pairs_of(tmp_path / "ledger", always, [asked], policy=observing, headers=headers)


def test_streams_are_compared_by_what_they_say(tmp_path: Path) -> None:
    def script(request: Outgoing) -> Transcript:
        words = ("4", "2") if model_of(request) == "claude-opus-5-5" else ("42",)
        return Transcript(
            headers=EVENTS,
            chunks=(
                event(
                    "message_start",
                    message={"model": "claude-opus-5-5", "usage": {"input_tokens": 9, "output_tokens": 1}},
                ),
                event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
                *(
                    event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
                    for word in words
                ),
                event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2000}),
                event("message_stop"),
            ),
        )

    (pair,) = pairs_of(tmp_path / "ledger", script, [body("synthesis", stream=True)])

    assert (pair.difference, pair.how) == (0, "equal")


def test_answers_that_differ_stay_undecided_without_a_check(tmp_path: Path) -> None:
    (pair,) = pairs_of(
        tmp_path / "ledger", lambda request: saying(model_of(request), request), [body("synthesis")]
    )

    assert (pair.difference, pair.how) == (None, "differs")


def failing(reply: Transcript) -> Callable[[Outgoing], Transcript]:
    """The frontier answers, and the fast tier fails so."""
    return lambda request: always(request) if model_of(request) == "claude-opus-5-5" else reply


def test_an_error_of_the_request_on_the_cheaper_tier_is_a_loss(tmp_path: Path) -> None:
    script = failing(error("invalid_request_error", 400))

    (pair,) = pairs_of(tmp_path / "ledger", script, [body("synthesis")])

    assert (pair.difference, pair.how) == (-1, "failure")


@pytest.mark.parametrize(
    "reply",
    [
        error("overloaded_error", 529),
        error("api_error", 500),
        error("timeout_error", 504),
        error("not_found_error", 404),
        Transcript(chunks=(b'{"type"',), breaks=UpstreamDropped(why="reset")),
    ],
)
def test_a_failure_that_says_nothing_of_its_tier_leaves_no_pair(reply: Transcript, tmp_path: Path) -> None:
    assert not pairs_of(tmp_path / "ledger", failing(reply), [body("synthesis")])


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [{"type": "url", "url": "https://tools.example", "name": "tools"}]},
        {"container": "container_1"},
        {"fallbacks": [{"model": "claude-haiku-5-5"}]},
    ],
)
def test_a_call_whose_tools_would_run_twice_or_whose_model_may_change_is_not_compared(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    assert not pairs_of(tmp_path / "ledger", always, [body("synthesis", **fields)])


def test_nobody_pays_for_comparing_a_reply_that_is_too_long_to_keep(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(request: Outgoing) -> Transcript:
        asked.append(model_of(request))
        return saying("4" * LONGEST_REPLY, request)

    assert not pairs_of(tmp_path / "ledger", script, [body("synthesis")])
    assert asked == ["claude-opus-5-5"]


def test_calls_that_wait_to_be_compared_hold_no_more_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "ROOM", 1000)

    assert not pairs_of(tmp_path / "one", always, [body("synthesis", "Do it. " * 200)])
    assert len(pairs_of(tmp_path / "two", always, [body("synthesis", f"Do {n}.") for n in range(9)])) == 9


def test_the_ledger_is_read_only_once_a_type_is_shadowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "RETRY_S", 0.01)
    reads: list[Path] = []

    def read() -> Reader:
        reads.append(tmp_path)
        return read_ledger(tmp_path / "ledger")

    async def talk() -> None:
        ledger = LoopLedger(open_ledger(tmp_path / "ledger"), asyncio.get_running_loop())
        desk = Desk(PLAIN, conversations=Conversations(), clock=now_us, new_id=call_ids())
        budgets = LocalBudgets(MemoryBudgets())
        made = Auditor(
            desk=desk,
            upstream=MemoryUpstream(always),
            ledger=ledger,
            budgets=budgets,
            clock=now_us,
            new_id=call_ids(),
            read=read,
            checker=Checker(),
            batches=BatchDesk(
                desk=desk, ledger=ledger, budgets=budgets, warnings=Warnings(), read=read, clock=now_us
            ),
        )
        running = asyncio.create_task(made.run())
        await made.ready.wait()
        await asyncio.sleep(0.05)
        assert reads == []
        desk.book = book(SHADOWED)
        made.ready.clear()
        await made.ready.wait()
        assert len(reads) == 1
        running.cancel()
        await asyncio.wait({running})
        await asyncio.to_thread(ledger.close)

    asyncio.run(talk())


def test_a_shadow_that_hangs_delays_no_caller_and_ends_with_the_gateway(tmp_path: Path) -> None:
    def script(request: Outgoing) -> Transcript:
        if model_of(request) == "claude-opus-5-5":
            return always(request)
        return Transcript(hangs="before the reply")

    path = tmp_path / "ledger"

    async def talk() -> list[int]:
        async with gateway_in_memory(path, script, policy=book(SHADOWED), auditors=[]) as app:
            return [(await post(app, body("synthesis", f"Do {number}."))).status for number in range(100)]

    assert asyncio.run(talk()) == [200] * 100
    with closing(read_ledger(path)) as ledger:
        rows = list(ledger.rows("SELECT error FROM calls WHERE purpose = 'audit' AND ending = 'failed'"))
    assert {row["error"] for row in rows} == {"gateway-stopped"}
    assert not recorded(path)


def test_the_audit_spends_no_more_than_its_part_of_the_day(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    little = book(SHADOWED.replace("most_of_day = 100", "most_of_day = 1"))
    many = [body("synthesis", f"Do {number}.") for number in range(60)]
    pairs_of(path, always, many, policy=little)

    with closing(read_ledger(path)) as ledger:
        lines = {line.key: line.totals.cost_nanos for line in report(ledger, by="type").lines}
    assert lines.get("(audit)", 0) <= lines["synthesis"] // 100


FLEET = TIERS + "".join(
    f"""
[task_types.{name}]
tier = "{tier}"
max_tokens = 2048
shadow = true
quality.check = "regex:^right"
quality.margin = 5
"""
    for name, tier in (("triage", "frontier"), ("synthesis", "frontier"), ("moderation", "fast"))
)
RIGHT = {"triage": (0.96, 0.96), "synthesis": (0.95, 0.60), "moderation": (0.95, 0.40)}
"""How often the frontier's answer is right, and the fast tier's."""


def _audit(path: Path, policy: Book) -> Audit:
    with closing(read_ledger(path)) as ledger:
        return audit_of(ledger, policy.policy, at_us=now_us())


def fleet_reply(request: Outgoing) -> Transcript:
    """An answer that depends on the task and the model alone; mostly, both are right on the same tasks."""
    asked = json.loads(request.body)
    name, task = asked["messages"][0]["content"].split()
    own = RIGHT[name][0 if asked["model"] == "claude-opus-5-5" else 1]
    draw = int.from_bytes(blake2b(f"{name} {task}".encode(), digest_size=4).digest()) / 2**32
    return saying("right" if draw < own else "wrong", request)


def test_types_that_do_not_need_their_tier_are_found_and_those_that_do_are_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    policy = book(FLEET)
    names = ["triage", "triage", "synthesis"] * 150 + ["moderation"] * 100
    calls = [body(name, f"{name} {number}") for number, name in enumerate(names)]

    pairs_of(path, fleet_reply, calls, policy=policy)

    audit = _audit(path, policy)
    found = {standing.line.task_type: standing for standing in audit.standings}
    assert found["triage"].verdict is Verdict.PROVEN
    assert found["triage"].stake is not None
    assert found["triage"].stake.low_nanos > 0
    assert found["synthesis"].verdict is Verdict.NEEDED
    assert found["moderation"].verdict is Verdict.NEEDED
    assert not found["moderation"].line.on_dear


def test_what_is_proven_is_declared_with_the_evidence_that_it_has_then(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    auditors: list[Auditor] = []

    async def talk() -> None:
        async with gateway_in_memory(path, right, policy=book(FLEET), auditors=auditors) as app:
            for number in range(130):
                await post(app, body("triage", f"triage {number}"))
                await auditors[0].idle()

    asyncio.run(talk())
    with closing(read_ledger(path)) as ledger:
        (declared,) = new_claims(ledger, book(FLEET).policy, at_us=now_us())

    (standing,) = _audit(path, book(FLEET)).standings
    assert declared.line == standing.line.line
    assert declared.log_e > 3


def test_pairs_are_made_at_the_rate_that_was_planned_before_the_day(tmp_path: Path) -> None:
    path, policy = tmp_path / "ledger", book(SHADOWED)
    contract = policy.policy.contracts["synthesis"]
    key = line_key(policy.policy, contract, dear="frontier", cheap="fast")
    with closing(open_ledger(path)) as ledger:
        ledger.write([_of_the_day_before(number, key) for number in range(300)])

    async def talk() -> None:
        auditors: list[Auditor] = []
        async with gateway_in_memory(path, always, policy=policy, auditors=auditors) as app:
            for number in range(60):
                await post(app, body("synthesis", f"Do {number}."))
                await auditors[0].idle()

    asyncio.run(talk())

    made = [pair for pair in recorded(path) if not pair.pair_id.startswith("before-")]
    assert {round(pair.probability * 300) for pair in made} <= {10}  # ten pairs of 300 conversations a day
    assert len(made) < 12


def _of_the_day_before(number: int, key: LineKey) -> Paired:
    return Paired(
        pair_id=f"before-{number}",
        at_us=(now_us() // DAY_US - 1) * DAY_US + number,
        call_id="c1",
        shadow_call_id="c2",
        task_type=key.task_type,
        line=key.id,
        line_parts=key.parts,
        on_dear=True,
        difference=0,
        how="check",
        probability=1.0,
        cluster=f"k{number}",
        dear_nanos=usd("0.10"),
        cheap_nanos=usd("0.01"),
    )
