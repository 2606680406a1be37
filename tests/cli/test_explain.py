"""`tierwise explain`: what it says of a request is what the gateway records of it."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from support.entries import acted
from support.gateways import running_gateway
from support.policies import TWO_TIERS, with_openai
from tierwise.cli import app
from tierwise.config import parse_book
from tierwise.core.ledger import Decided, Failed, Fault, Posted, Settled, Timings
from tierwise.engine.shadowing import line_key
from tierwise.sandbox.server import Running
from tierwise.stores.ledger.rows import DECIDED
from tierwise.stores.ledger.sqlite import open_ledger
from tierwise.usage import Usage

runner = CliRunner()

POLICY = """\
[tiers.frontier]
model = "claude-opus-5-5"
effort = "medium"

[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"

[task_types.extraction]
tier = "fast"
max_tokens = 512

[task_types.evaluation]
tier = "frontier"
max_tokens = 4096
mode = "observe"

[[match]]
task_type = "evaluation"
headers.x-team = "judges*"
"""

ASKED: dict[str, Any] = {
    "model": "claude-sonnet-5",
    "max_tokens": 9000,
    "messages": [{"role": "user", "content": "hello"}],
}

CALLS: tuple[tuple[dict[str, Any], dict[str, str]], ...] = (
    (ASKED | {"model": "task/extraction"}, {}),
    (ASKED | {"model": "task-extraction", "temperature": 0.2, "stream": True}, {}),
    (
        ASKED | {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"x-tierwise-task-type": "extraction", "x-tierwise-run-id": "run-7", "x-tierwise-agent": "reader"},
    ),
    (ASKED, {"x-team": "judges-2", "x-tierwise-task-id": "t1"}),
    (ASKED, {}),
    (ASKED, {"x-tierwise-task-type": "extractoin"}),
    (ASKED | {"model": "task/extractoin"}, {}),
    (
        ASKED | {"messages": [*ASKED["messages"], {"role": "assistant", "content": "The answer is"}]},
        {"x-tierwise-task-type": "extraction"},
    ),
)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "tierwise.toml"
    path.write_text(POLICY)
    return path


def recorded_by_gateway(address: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("POST", "/v1/messages", json.dumps(body), {**WIRE, **headers})
    reply = connection.getresponse()
    reply.read()
    connection.close()
    shown = runner.invoke(app, ["explain", "--json", "--call", str(reply.headers["x-tierwise-call-id"])])
    return json.loads(shown.stdout)


WIRE = {"x-api-key": "secret", "anthropic-version": "2023-06-01", "content-type": "application/json"}


def explained(body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    options = [option for name, value in headers.items() for option in ("--header", f"{name}: {value}")]
    shown = runner.invoke(app, ["explain", "-", "--json", *options], input=json.dumps(body))
    return json.loads(shown.stdout)


def test_what_is_explained_of_a_request_is_what_the_gateway_records_of_it(serve: Any):
    served = serve()
    columns = [*(name for name in DECIDED if name not in {"call_id", "kind", "at_us", "key_id"}), "error"]

    for body, headers in CALLS:
        recorded = recorded_by_gateway(served.address, body, headers)
        told = explained(body, {**WIRE, **headers})
        assert {name: told[name] for name in columns} == {name: recorded[name] for name in columns}


CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 900,
    "temperature": 0.2,
}
OPENAIS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("chat", "/v1/chat/completions", CHAT | {"model": "task/extraction", "stream": True}),
    ("chat", "/v1/chat/completions", CHAT | {"model": "sandbox-small"}),
    ("responses", "/v1/responses", {"model": "task/synthesis", "input": "hello", "temperature": 0.2}),
    ("responses", "/v1/responses", {"model": "task/extraction", "input": "hello"}),
)


def test_what_is_explained_of_a_request_of_openais_clients_is_what_the_gateway_records_of_it(
    tmp_path: Path, sandbox: Running
):
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1", 'cap_field = "max_tokens"')
    columns = [*(name for name in DECIDED if name not in {"call_id", "kind", "at_us", "key_id"}), "error"]
    with running_gateway(tmp_path, sandbox.base_url, policy=policy) as gateway:
        for api, path, body in OPENAIS:
            raw = json.dumps(body)
            reply = gateway.http.send("POST", path, raw.encode(), {"authorization": "Bearer sk-any"})
            options = ["--policy", str(gateway.policy_path), "--ledger", str(gateway.ledger_path)]
            call_id = reply.headers["x-tierwise-call-id"]
            shown = runner.invoke(app, ["explain", "--json", "--call", call_id, *options])
            told = runner.invoke(app, ["explain", "-", "--json", "--api", api, *options], input=raw)

            assert reply.status == 200
            recorded, explained = json.loads(shown.stdout), json.loads(told.stdout)
            assert {name: explained[name] for name in columns} == {name: recorded[name] for name in columns}


@pytest.mark.usefixtures("policy")
def test_a_request_of_openais_clients_is_explained_where_the_policy_serves_them():
    shown = runner.invoke(app, ["explain", "-", "--api", "chat"], input=json.dumps(CHAT))

    assert shown.exit_code == 2
    assert "[openai]" in shown.stderr


@pytest.fixture
def request_file(policy: Path) -> str:
    path = policy.with_name("request.json")
    path.write_text(json.dumps(ASKED | {"temperature": 0.2}))
    return str(path)


def test_a_request_is_explained_for_people(request_file: str):
    shown = runner.invoke(app, ["explain", request_file, "--type", "extraction"])

    lines = [line.strip() for line in shown.stdout.splitlines()]
    assert shown.exit_code == 0
    assert "task type      extraction, declared by the header" in lines
    assert "model          claude-sonnet-5 -> claude-haiku-5-5" in lines
    assert "max_tokens     9000 -> 512" in lines
    assert "thinking       off" in lines
    assert "- Capped at the contract's 512; the caller asked for 9000." in lines
    assert "- model: claude-sonnet-5 -> claude-haiku-5-5 (decision.model)" in lines
    assert "The tier's model is claude-haiku-5-5." in lines


def test_the_type_option_is_the_header(request_file: str):
    by_option = runner.invoke(app, ["explain", request_file, "--json", "--type", "extraction"])
    by_header = runner.invoke(
        app, ["explain", request_file, "--json", "-H", "X-Tierwise-Task-Type: extraction"]
    )

    assert by_option.stdout == by_header.stdout


def test_a_call_that_is_only_observed_is_said_to_go_as_asked(request_file: str):
    shown = runner.invoke(app, ["explain", request_file, "--type", "evaluation"])

    assert "acts           no: the call goes as it was asked" in shown.stdout


def test_a_refusal_is_explained_and_is_an_exit_code(policy: Path):
    policy.with_name("request.json").write_text(json.dumps(ASKED | {"model": "task/extractoin"}))

    shown = runner.invoke(app, ["explain", "request.json"])

    assert shown.exit_code == 1
    assert (
        "Refused (unknown-task-type): The policy has no task type 'extractoin'. Did you mean 'extraction'?"
        in (shown.stdout)
    )


def test_credentials_are_not_looked_at(request_file: str):
    shown = runner.invoke(app, ["explain", request_file, "--json", "-H", "x-api-key: secret-7"])

    assert shown.exit_code == 0
    assert "secret-7" not in shown.stdout


@pytest.mark.usefixtures("policy")
def test_a_model_name_cannot_command_the_terminal():
    shown = runner.invoke(app, ["explain", "-"], input=json.dumps(ASKED | {"model": "x\x1b[2Jy"}))

    assert "model          x�[2Jy" in shown.stdout


@pytest.mark.usefixtures("policy")
def test_a_body_that_cannot_be_read_is_wrong():
    shown = runner.invoke(app, ["explain", "-"], input='{"model": "claude-opus-5-5"}')

    assert shown.exit_code == 1
    assert shown.stderr == "tierwise: messages: Field required\n"


@pytest.mark.usefixtures("policy")
def test_a_request_that_is_no_file_is_the_environments_fault():
    shown = runner.invoke(app, ["explain", "nowhere.json"])

    assert shown.exit_code == 3
    assert shown.stderr == "tierwise: nowhere.json: No such file or directory\n"


@pytest.mark.parametrize(
    "arguments",
    [[], ["request.json", "--call", "c1"], ["request.json", "--header", "no colon"], ["-", "-H", ":value"]],
)
def test_what_is_asked_must_be_clear(arguments: list[str], request_file: str):
    assert request_file.endswith("request.json")
    assert runner.invoke(app, ["explain", *arguments]).exit_code == 2


DECISION = Decided(
    call_id="c1",
    at_us=1,
    task_type="extraction",
    declared="model",
    unknown_type=None,
    nearest_type=None,
    task_id=None,
    run_id="run-7",
    agent=None,
    key_id="3f2a9c000000",
    requested_model="task/extraction",
    tier="fast",
    decided_model="claude-haiku-5-5",
    acts=True,
    stream=False,
    max_tokens_asked=9000,
    max_tokens_sent=512,
    policy_version="abc",
    selection_probability=1.0,
    reasons=("The model name declares the task type extraction.",),
    changes=("max_tokens: 9000 -> 512 (decision.max_tokens)",),
)
TIMINGS = Timings(until_sent_us=250, until_first_byte_us=4_500, until_end_us=1_000_000)
POSTED = Posted(
    call_id="c1",
    at_us=2,
    served_model="claude-haiku-5-5",
    stop_reason="end_turn",
    usage=Usage(input_tokens=1_200, output_tokens=300),
    thinking_tokens=0,
    cost_nanos=270_000,
    price_version="2026",
    at_frontier_nanos=10_800_000,
    as_asked_nanos=270_000,
    as_decided_nanos=270_000,
    timings=TIMINGS,
    request_id="req_1",
)
FAILED = Failed(
    call_id="c2",
    at_us=2,
    fault=Fault.PROVIDER,
    error="overloaded_error",
    status=529,
    served_model=None,
    usage=None,
    cost_nanos=0,
    at_least_nanos=None,
    price_version="2026",
    timings=TIMINGS,
    request_id=None,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A finished call, a failed one, one cut with an unknown cost, one without an ending, and one settled later."""
    path = tmp_path / "tierwise.sqlite3"
    store = open_ledger(path)
    store.write([replace(DECISION, call_id=call_id) for call_id in ("c1", "c2", "c3", "c4", "c5")])
    cut = replace(FAILED, call_id="c3", error="caller-left", fault=Fault.CALLER, status=200)
    store.write([POSTED, FAILED, replace(cut, cost_nanos=None, at_least_nanos=1_500)])
    store.write([replace(cut, call_id="c5", cost_nanos=None, at_least_nanos=1_500)])
    store.write([Settled(call_id="c5", at_us=3, cost_nanos=2_000, basis="reconciled", note="the report")])
    store.close()
    return path


@pytest.mark.usefixtures("ledger")
def test_a_recorded_call_is_explained_with_its_ending_and_exact_cost():
    lines = [
        " ".join(line.split()) for line in runner.invoke(app, ["explain", "--call", "c1"]).stdout.splitlines()
    ]

    for told in (
        "run id run-7",
        "key id 3f2a9c000000",
        "max_tokens 9000 -> 512",
        "- The model name declares the task type extraction.",
        "ended finished, stop reason end_turn",
        "took the gateway 0.2 ms, first byte 4.5 ms, the rest 1,000.0 ms",
        "cost $0.000270000",
        "at frontier $0.010800000",
        "input tokens 1,200",
        "output tokens 300",
    ):
        assert told in lines
    assert not any(line.startswith("cache read tokens") for line in lines)


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("call_id", "told"),
    [
        ("c2", "ended failed: overloaded_error (the provider's, HTTP 529)"),
        ("c2", "cost $0.000000000"),
        ("c3", "cost unknown, at least $0.000001500"),
        ("c4", "ended not yet: in flight, or lost with its gateway"),
        ("c5", "cost $0.000002000, reconciled: the report"),
    ],
)
def test_an_unhappy_ending_is_told_as_it_was(call_id: str, told: str):
    shown = runner.invoke(app, ["explain", "--call", call_id]).stdout

    assert told in [" ".join(line.split()) for line in shown.splitlines()]


@pytest.mark.usefixtures("ledger")
def test_a_recorded_call_has_the_names_of_the_ledgers_columns():
    told = json.loads(runner.invoke(app, ["explain", "--call", "c1", "--json"]).stdout)

    assert told["cost_nanos"] == 270_000
    assert told["reasons"] == ["The model name declares the task type extraction."]
    assert (told["acts"], told["stream"]) == (True, False)


@pytest.mark.usefixtures("ledger")
def test_a_call_that_is_not_recorded_is_wrong():
    shown = runner.invoke(app, ["explain", "--call", "c9"])

    assert shown.exit_code == 1
    assert shown.stderr == "tierwise: the ledger tierwise.sqlite3 has no call 'c9'\n"


def test_a_ledger_that_is_not_there_is_the_environments_fault():
    shown = runner.invoke(app, ["explain", "--call", "c1"])

    assert shown.exit_code == 3
    assert "the ledger tierwise.sqlite3 cannot be used: there is no such file" in shown.stderr


def test_a_request_of_a_type_that_the_autopilot_moved_says_so(tmp_path: Path) -> None:
    text = STEERED
    policy = parse_book(text, file="x").policy
    line = line_key(policy, policy.contracts["synthesis"], dear="frontier", cheap="fast").id
    (tmp_path / "tierwise.toml").write_text(text)
    (tmp_path / "body.json").write_text('{"model":"task/synthesis","max_tokens":9,"messages":[]}')
    with closing(open_ledger(tmp_path / "ledger")) as ledger:
        ledger.write([acted(line=line, share=1.0)])

    result = CliRunner().invoke(
        app,
        ["explain", str(tmp_path / "body.json"), "--policy", str(tmp_path / "tierwise.toml"), "--ledger",
         str(tmp_path / "ledger")],
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "the autopilot sends 100% of its runs and conversations to fast" in result.output


STEERED = (
    TWO_TIERS.replace('tier = "frontier"', 'tier = "frontier"\nshadow = true') + "[audit]\nautopilot = true\n"
)
