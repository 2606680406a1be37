"""The autopilot end to end: a gateway looks at its evidence, moves a type, keeps a holdback, and remembers it."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from support.entries import acted
from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS
from support.waiting import eventually
from tierwise.audit.watching import BATCH
from tierwise.config import parse_book
from tierwise.core.ledger import Act, Acted, Checked, Paired
from tierwise.engine import auditor
from tierwise.engine.clock import now_us
from tierwise.engine.shadowing import line_key
from tierwise.money import usd
from tierwise.sandbox.server import running
from tierwise.stores.ledger.acts import acts, checks
from tierwise.stores.ledger.pairs import evidence
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger

POLICY = (
    TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true')
    + "[audit]\nautopilot = true\nsample = 100\nshare = 50\nmost_of_day = 100\n"
)


def sixty_pairs(difference: int = 0, *, first: int = 0) -> list[Paired]:
    policy = parse_book(POLICY, file="x").policy
    key = line_key(policy, policy.contracts["synthesis"], dear="frontier", cheap="fast")
    return [
        Paired(
            pair_id=f"pair-{number}",
            at_us=now_us(),
            call_id="c1",
            shadow_call_id="c2",
            task_type="synthesis",
            line=key.id,
            line_parts=key.parts,
            on_dear=True,
            difference=difference,
            how="check",
            probability=0.1,
            cluster=f"k{number}",
            dear_nanos=usd("0.10"),
            cheap_nanos=usd("0.01"),
        )
        for number in range(first, first + 60)
    ]


def call(gateway: RunningGateway, run: str) -> str:
    body = {
        "model": "task/synthesis",
        "max_tokens": 8000,
        "messages": [{"role": "user", "content": f"Say {run}."}],
    }
    answer = gateway.http.messages(body, {"x-tierwise-run-id": run})
    assert answer.status == 200
    return answer.json()["model"]


def recorded(path: Path) -> tuple[Acted, ...]:
    with closing(read_ledger(path)) as ledger:
        return acts(ledger)


def test_a_gateway_moves_a_provisional_type_and_a_restarted_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "LOOK_S", 0.05)
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        ledger.write(sixty_pairs())
    with running(seed=1) as sandbox:
        with running_gateway(tmp_path, sandbox.base_url, policy=POLICY) as gateway:
            (act,) = eventually(lambda: recorded(path), until=bool)
            numbers = iter(range(1_000))
            eventually(lambda: call(gateway, f"first-{next(numbers)}"), until=lambda model: "haiku" in model)
            for number in range(40):
                call(gateway, f"run-{number}")
            by_run = {
                each["run_id"]: (each["tier"], each["selection_probability"], each["reasons"])
                for each in gateway.settled()
                if each["run_id"] and each["run_id"].startswith("run-")
            }
        with running_gateway(tmp_path, sandbox.base_url, policy=POLICY) as gateway:
            eventually(lambda: call(gateway, f"again-{next(numbers)}"), until=lambda model: "haiku" in model)
            again = [call(gateway, f"run-{number}") for number in range(40)]

    assert (act.act, act.share) == (Act.MOVED, 0.9)
    assert {(tier, probability) for tier, probability, _ in by_run.values()} == {
        ("fast", 0.9),
        ("frontier", 0.1),
    }
    assert all("autopilot" in reasons or "stay on frontier" in reasons for _, _, reasons in by_run.values())
    assert ["haiku" in model for model in again] == [
        by_run[f"run-{number}"][0] == "fast" for number in range(40)
    ]
    with closing(read_ledger(path)) as ledger:
        made = [pair for pair in evidence(ledger).pairs if not pair.pair_id.removeprefix("pair-").isdigit()]
    assert {pair.on_dear for pair in made} == {True}


def test_a_gateway_takes_a_type_back_when_its_pairs_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "LOOK_S", 0.05)
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        ledger.write(sixty_pairs())
        ledger.write([acted(at_us=now_us(), line=sixty_pairs()[0].line)])
        ledger.write(sixty_pairs(-1, first=60))
    with running(seed=1) as sandbox, running_gateway(tmp_path, sandbox.base_url, policy=POLICY) as gateway:
        _, alarm = eventually(lambda: recorded(path), until=lambda found: len(found) > 1)
        runs = iter(range(1_000))
        in_a_row = eventually(
            lambda: [call(gateway, f"run-{next(runs)}") for _ in range(10)],
            until=lambda models: not any("haiku" in model for model in models),
        )

    assert (alarm.act, alarm.verdict, alarm.to_tier) == (Act.ALARMED, "re-opened", "frontier")
    assert len(in_a_row) == 10


CHECKING = POLICY.replace("shadow = true", 'shadow = true\nquality.check = "regex:."')


def line_of(text: str) -> str:
    policy = parse_book(text, file="x").policy
    return line_key(policy, policy.contracts["synthesis"], dear="frontier", cheap="fast").id


def counted(path: Path) -> tuple[Checked, ...]:
    with closing(read_ledger(path)) as ledger:
        return checks(ledger)


def test_replies_on_the_cheaper_tier_are_checked_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(open_ledger(path)) as ledger:
        ledger.write([acted(line=line_of(CHECKING), share=1.0)])
    with running(seed=1) as sandbox, running_gateway(tmp_path, sandbox.base_url, policy=CHECKING) as gateway:
        runs = iter(range(1_000))
        eventually(lambda: call(gateway, f"run-{next(runs)}"), until=lambda model: "haiku" in model)
        for _ in range(BATCH):
            call(gateway, f"run-{next(runs)}")
        (count,) = eventually(lambda: counted(path), until=bool)

    assert (count.line, count.passed, count.failed) == (line_of(CHECKING), BATCH, 0)


def test_replies_that_pass_their_check_less_often_take_a_type_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditor, "LOOK_S", 0.05)
    path, line = tmp_path / "ledger.sqlite3", line_of(CHECKING)
    passing = [BATCH] * 30 + [0] * 30
    with closing(open_ledger(path)) as ledger:
        ledger.write([acted(line=line, share=0.9)])
        ledger.write(
            [
                Checked(
                    checked_id=f"n{number}",
                    at_us=now_us(),
                    task_type="synthesis",
                    line=line,
                    passed=passed,
                    failed=BATCH - passed,
                )
                for number, passed in enumerate(passing)
            ]
        )
        ledger.write([replace(pair, line=line) for pair in sixty_pairs()])
    with running(seed=1) as sandbox, running_gateway(tmp_path, sandbox.base_url, policy=CHECKING):
        _, alarm = eventually(lambda: recorded(path), until=lambda found: len(found) > 1)

    assert (alarm.act, alarm.share) == (Act.ALARMED, 0)
    assert "replies" in alarm.why
