"""What a finished task costs, end to end: an agent that takes more turns on one tier, outcomes told, and the audit."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from support.asgi import KEYED, call, gateway_in_memory, post
from support.policies import book
from support.providers import SandboxUpstream
from tierwise.audit.standings import Audit, Standing
from tierwise.audit.verdicts import Verdict
from tierwise.cli.audit_moves import moves_of
from tierwise.config import Book
from tierwise.engine.auditor import Auditor
from tierwise.engine.autopilot import acts_due
from tierwise.engine.clock import now_us
from tierwise.engine.standing import audit_of
from tierwise.gateway.app import Gateway
from tierwise.sandbox.fleet import is_right
from tierwise.stores.ledger.sqlite import read_ledger

MID = "claude-sonnet-5-5"
"""Three fifths of the frontier's price a token."""


def policy(tier: str) -> Book:
    return book(f"""
[tiers.frontier]
model = "claude-opus-5-5"

[tiers.mid]
model = "{MID}"

[audit]
share = 50
most_of_day = 100
sample = 100
autopilot = true

[task_types.synthesis]
tier = "{tier}"
shadow = true
quality.check = "regex:^answer: "
quality.margin = 10
""")


async def do(app: Gateway, run: str, *, turns: dict[str, int], tells: bool) -> None:
    """An agent does a task in as many turns as it takes with the model that it gets, and its outcome is told."""
    name, conversation, turn = f"{run}/t0", list[Any](), 0
    while True:
        prompt = (
            f"Go on. [[sandbox type=synthesis task={name} seq={turn} prompt_tokens=2000 output_tokens=400]]"
        )
        conversation.append({"role": "user", "content": prompt})
        body = {"model": "task/synthesis", "max_tokens": 8000, "messages": conversation}
        names = ((b"x-tierwise-run-id", run.encode()), (b"x-tierwise-task-id", name.encode()))
        got = await post(app, body, headers=(*KEYED, *names))
        assert got.status == 200, got.body
        reply = got.json()
        conversation.append({"role": "assistant", "content": reply["content"]})
        turn += 1
        if turn >= turns.get(reply["model"], 1):
            break
    if tells:
        right = is_right(reply["content"][-1]["text"], 0, "synthesis", name)
        told = json.dumps({"run_id": run, "task_id": name, "success": right}).encode()
        assert (await call(app, "POST", "/tierwise/outcomes", body=told, headers=())).status == 200


def fleet(path: Path, chosen: Book, runs: list[str], *, turns: dict[str, int], tells: bool = True) -> None:
    async def talk() -> None:
        auditors: list[Auditor] = []
        async with gateway_in_memory(path, SandboxUpstream(), policy=chosen, auditors=auditors) as app:
            for run in runs:
                await do(app, run, turns=turns, tells=tells)
                await auditors[0].idle()

    asyncio.run(talk())


def audited(path: Path, chosen: Book) -> tuple[Audit, Standing]:
    with closing(read_ledger(path)) as ledger:
        audit = audit_of(ledger, chosen.policy, at_us=now_us())
    (standing,) = audit.standings
    return audit, standing


def two_phases(path: Path, *, turns: dict[str, int], tells: bool = True) -> tuple[Audit, Standing]:
    """A type is on the mid tier for some runs, and then on the frontier."""
    fleet(path, policy("mid"), [f"mid-{number}" for number in range(25)], turns=turns, tells=tells)
    fleet(path, policy("frontier"), [f"top-{number}" for number in range(45)], turns=turns, tells=tells)
    return audited(path, policy("frontier"))


def test_a_tier_whose_calls_are_cheaper_and_whose_tasks_are_dearer_makes_no_spend_needless(
    tmp_path: Path,
) -> None:
    audit, standing = two_phases(tmp_path / "ledger", turns={MID: 3})

    assert standing.verdict is Verdict.PROVEN
    assert standing.line.costs.cheap_nanos < standing.line.costs.dear_nanos
    assert standing.by_tasks
    assert standing.tasks.tasks == 70
    assert standing.stake is not None
    assert standing.stake.high_nanos < 0
    assert standing.surely_costs_more
    assert not [*moves_of(audit, policy("frontier").policy, provisional=True)]
    assert acts_due(audit, policy("frontier").policy, (), at_us=now_us()) == []


def test_a_tier_whose_tasks_are_cheaper_too_is_proposed_on_the_grounds_of_finished_tasks(
    tmp_path: Path,
) -> None:
    audit, standing = two_phases(tmp_path / "ledger", turns={})

    assert standing.by_tasks
    assert standing.stake is not None
    assert standing.stake.low_nanos > 0
    assert [move.to_tier for move in moves_of(audit, policy("frontier").policy, provisional=False)] == ["mid"]


def test_tasks_that_may_go_on_are_not_counted_until_their_outcome_is_told(tmp_path: Path) -> None:
    _, standing = two_phases(tmp_path / "ledger", turns={MID: 3}, tells=False)

    assert not standing.by_tasks
    assert standing.tasks.tasks == 0
    assert standing.stake is not None
    assert standing.stake.low_nanos > 0


def test_outcomes_of_tasks_that_nobody_drew_are_told_as_that(tmp_path: Path) -> None:
    _, standing = two_phases(tmp_path / "ledger", turns={})

    assert not standing.tasks.drawn
    assert (standing.tasks.dear.told, standing.tasks.cheap.told) == (45, 25)
    assert standing.tasks.difference() is not None
