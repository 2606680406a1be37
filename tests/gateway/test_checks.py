"""Checks by a schema, a program and a function, through a real gateway to the sandbox and back."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gateway.test_audit import SHADOWED, body, model_of, pairs_of, saying
from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, book
from support.transcripts import Transcript
from support.waiting import eventually
from tierwise.audit.watching import BATCH
from tierwise.core.ledger import Checked, Paired
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.acts import checks
from tierwise.stores.ledger.pairs import evidence
from tierwise.stores.ledger.sqlite import read_ledger
from tierwise.upstream.port import Outgoing

INVOICE: dict[str, Any] = {
    "type": "object",
    "required": ["total"],
    "properties": {"total": {"type": "integer"}},
    "additionalProperties": False,
}
OTHER: dict[str, Any] = {**INVOICE, "required": ["sum"], "properties": {"sum": {"type": "integer"}}}

PASSING = (
    'check = "schema:invoice.json"',
    'check = ["command:./judge.sh", "total"]',
    'check = "python:judging_by_keys:has_total"',
)
"""Each passes what `INVOICE` describes, and fails what `OTHER` does."""

RUNS = count()
EVERY_CALL = "[audit]\nsample = 100\nshare = 50\nmost_of_day = 100\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "invoice.json").write_text(json.dumps(INVOICE))
    (tmp_path / "judge.sh").write_text('#!/bin/sh\nenv >> seen\ngrep -q "\\"$1\\""\n')
    (tmp_path / "judge.sh").chmod(0o755)
    (tmp_path / "judging_by_keys.py").write_text(
        "import json\n\nimport tierwise\n\n\n"
        "def has_total(reply: tierwise.Reply) -> float:\n"
        "    return 0.9 if 'total' in json.loads(reply.text) else 0.1\n"
    )
    return tmp_path


def policy(check: str, *lines: str) -> str:
    own = "\n".join(("", f"quality.{check}", *lines))
    return TWO_TIERS.replace('tier = "frontier"', f'tier = "frontier"{own}') + EVERY_CALL


def call(gateway: RunningGateway, schema: dict[str, Any], *, model: str = "task/synthesis") -> str:
    """Have a reply of a shape, and return the model that it is from."""
    asked = {
        "model": model,
        "max_tokens": 8000,
        "messages": [{"role": "user", "content": "Add it up."}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    headers = {"x-api-key": "sk-canary", "x-tierwise-run-id": f"run-{next(RUNS)}"}
    answer = gateway.http.messages(asked, headers)
    assert answer.status == 200
    return answer.json()["model"]


@pytest.mark.parametrize("check", PASSING)
def test_a_cascade_escalates_the_reply_that_fails_and_no_other(
    folder: Path, sandbox: Running, check: str
) -> None:
    with running_gateway(folder, sandbox.base_url, policy=policy(check, "cascade = true")) as gateway:
        models = [call(gateway, INVOICE), call(gateway, OTHER)]
        attempts = [(each["tier"], each["attempt"]) for each in gateway.settled()]

    assert ["haiku" in model for model in models] == [True, False]
    assert attempts == [("fast", 1), ("fast", 1), ("frontier", 2)]


@pytest.mark.parametrize(
    "check",
    [
        'check = ["command:sh", "-c", "exit 3"]',
        'check = ["command:sleep", "60"]\nquality.check_timeout = "1s"',
    ],
)
def test_a_check_that_cannot_tell_escalates_nothing(folder: Path, sandbox: Running, check: str) -> None:
    with running_gateway(folder, sandbox.base_url, policy=policy(check, "cascade = true")) as gateway:
        assert "haiku" in call(gateway, INVOICE)


@pytest.mark.parametrize("check", PASSING)
def test_a_pair_is_graded_by_the_check(folder: Path, sandbox: Running, check: str) -> None:
    with running_gateway(folder, sandbox.base_url, policy=policy(check, "shadow = true")) as gateway:
        pair = first_pair(gateway, INVOICE)

    assert (pair.how, pair.difference) == ("check", 0)


def test_a_pair_whose_check_cannot_tell_stays_open(tmp_path: Path) -> None:
    broken = SHADOWED.replace(
        "shadow = true", 'shadow = true\nquality.check = ["command:sh", "-c", "exit 3"]', 1
    )

    def differently(request: Outgoing) -> Transcript:
        return saying(model_of(request), request)

    (pair,) = pairs_of(tmp_path / "l", differently, [body("synthesis")], policy=book(broken))

    assert (pair.how, pair.difference) == ("unchecked", None)


@pytest.mark.parametrize("check", PASSING)
def test_replies_of_the_cheaper_tier_are_counted_by_the_check(
    folder: Path, sandbox: Running, check: str
) -> None:
    watched = TWO_TIERS + f"shadow = true\nquality.{check}\n{EVERY_CALL}"

    with running_gateway(folder, sandbox.base_url, policy=watched) as gateway:
        for _ in range(BATCH // 2):
            call(gateway, INVOICE, model="task/extraction")
            call(gateway, OTHER, model="task/extraction")
        (count,) = eventually(lambda: counts(gateway), until=bool)

    assert (count.passed, count.failed) == (BATCH // 2, BATCH // 2)


def test_a_program_of_the_policy_gets_no_key(
    folder: Path, sandbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "ANTHROPIC_API_KEY", "sk-canary-of-the-environment")
    cascade = policy(PASSING[1], "cascade = true")

    with running_gateway(folder, sandbox.base_url, policy=cascade, key="sk-canary-own") as gateway:
        call(gateway, INVOICE)

    seen = (folder / "seen").read_text()
    assert "PATH=" in seen
    assert "canary" not in seen


def first_pair(gateway: RunningGateway, schema: dict[str, Any]) -> Paired:
    """Make calls until one of them is compared."""

    def made() -> tuple[Paired, ...]:
        call(gateway, schema)
        return pairs(gateway)

    return eventually(made, until=bool)[0]


def pairs(gateway: RunningGateway) -> tuple[Paired, ...]:
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        return evidence(ledger).pairs


def counts(gateway: RunningGateway) -> tuple[Checked, ...]:
    with closing(read_ledger(gateway.ledger_path)) as ledger:
        return checks(ledger)
