"""A tier of the same model at a lower effort, compared beside a cheaper model: the real app over the sandbox."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.asgi import KEYED, gateway_in_memory, post
from support.policies import book
from support.providers import SandboxUpstream
from tierwise.audit.standings import Standing
from tierwise.cli import app as tierwise
from tierwise.cli.console import out
from tierwise.engine.auditor import Auditor
from tierwise.engine.clock import now_us
from tierwise.engine.standing import audit_of
from tierwise.stores.ledger.sqlite import read_ledger

POLICY = """
[tiers.frontier]
model = "claude-opus-5-5"
effort = "high"

[tiers.frontier-low]
model = "claude-opus-5-5"
effort = "low"

[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"

[audit]
share = 50
most_of_day = 100
sample = 100

[task_types.synthesis]
tier = "frontier"
shadow = true
shadow_on = ["frontier", "frontier-low", "fast"]
quality.check = "regex:^answer: "
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"

    async def talk() -> None:
        auditors: list[Auditor] = []
        async with gateway_in_memory(path, SandboxUpstream(), policy=book(POLICY), auditors=auditors) as app:
            for number in range(60):
                prompt = f"Do it. [[sandbox type=synthesis task=t{number}]]"
                body = {
                    "model": "task/synthesis",
                    "max_tokens": 32_000,
                    "messages": [{"role": "user", "content": prompt}],
                }
                assert (await post(app, body, headers=KEYED)).status == 200
                await auditors[0].idle()

    asyncio.run(talk())
    return path


def standings(path: Path) -> dict[str, Standing]:
    with closing(read_ledger(path)) as ledger:
        audit = audit_of(ledger, book(POLICY).policy, at_us=now_us())
    return {one.line.tiers[1]: one for one in audit.standings}


def test_a_type_has_pairs_with_each_of_its_alternatives_and_one_of_a_conversation(path: Path) -> None:
    found = standings(path)

    assert set(found) == {"frontier-low", "fast"}
    assert all(one.line.pairs > 15 for one in found.values())
    assert sum(one.line.pairs for one in found.values()) <= 60
    assert all(one.line.on_dear for one in found.values())


def test_less_effort_is_measured_by_what_it_saves_like_any_tier(path: Path) -> None:
    low = standings(path)["frontier-low"]

    assert low.line.parts["cheap.model"] == low.line.parts["dear.model"]
    assert (low.line.parts["dear.effort"], low.line.parts["cheap.effort"]) == (
        "high, thinking keep",
        "low, thinking keep",
    )
    assert low.ratio is not None
    assert low.ratio.high < 1
    assert low.line.counts.same == low.line.pairs


def test_the_audit_shows_a_row_for_each_alternative(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out, "width", 300)
    policy = tmp_path / "tierwise.toml"
    policy.write_text(POLICY, "utf-8")
    options = ["--policy", str(policy), "--ledger", str(path)]

    shown = CliRunner().invoke(tierwise, ["audit", "list", *options]).output
    lines = json.loads(CliRunner().invoke(tierwise, ["audit", "list", "--json", *options]).output)["lines"]

    assert "frontier → frontier-low" in shown
    assert "frontier → fast" in shown
    assert {(line["task_type"], line["cheap"]["tier"]) for line in lines} == {
        ("synthesis", "frontier-low"),
        ("synthesis", "fast"),
    }
