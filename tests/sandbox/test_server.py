import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tierwise.sandbox.server import Answer, Running, running, running_process

VERSION = {"anthropic-version": "2023-06-01"}
BODY = {"model": "claude-opus-5-5", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}


def post(sandbox: Running, headers: dict[str, str], body: object = BODY) -> Answer:
    return sandbox.send("POST", "/v1/messages", json.dumps(body).encode(), headers)


@pytest.mark.parametrize("credentials", [{"x-api-key": "any"}, {"authorization": "Bearer any"}])
def test_a_key_is_taken_in_either_header(served: Running, credentials: dict[str, str]) -> None:
    assert post(served, {**VERSION, **credentials}).status == 200


@pytest.mark.parametrize(
    "credentials", [{}, {"x-api-key": ""}, {"authorization": "Bearer "}, {"authorization": "any"}]
)
def test_without_a_key_the_answer_is_401(served: Running, credentials: dict[str, str]) -> None:
    answer = post(served, {**VERSION, **credentials})

    assert answer.status == 401
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("version", [{}, {"anthropic-version": "2024-01-01"}])
def test_the_api_version_is_required_and_known(served: Running, version: dict[str, str]) -> None:
    answer = post(served, {"x-api-key": "any", **version})

    assert answer.status == 400
    assert answer.json()["error"]["message"].startswith("anthropic-version: ")


def test_an_error_names_its_request_in_the_body_and_the_header(served: Running) -> None:
    answer = post(served, VERSION)

    assert answer.json()["type"] == "error"
    assert answer.json()["request_id"] == answer.headers["request-id"]


def test_every_reply_carries_the_organization_and_the_rate_limits(served: Running) -> None:
    headers = served.messages(BODY).headers

    assert headers["request-id"].startswith("req_")
    assert headers["anthropic-organization-id"]
    for kind in ("requests", "tokens", "input-tokens", "output-tokens"):
        for part in ("limit", "remaining", "reset"):
            assert headers[f"anthropic-ratelimit-{kind}-{part}"]


@pytest.mark.parametrize(
    "name", ["task/extraction", "claude-opus-9", "claude-opus-4-1-20250805", "claude-opus-5-5-20260901", ""]
)
def test_a_model_that_does_not_answer_is_not_found(served: Running, name: str) -> None:
    answer = served.messages({**BODY, "model": name})

    assert answer.status == 404
    assert answer.json()["error"] == {"type": "not_found_error", "message": f"model: {name}"}


@pytest.mark.parametrize("name", ["claude-haiku-4-5", "claude-haiku-4-5-20251001"])
def test_a_4_5_model_answers_to_its_dated_id_and_its_alias(served: Running, name: str) -> None:
    assert served.messages({**BODY, "model": name}).json()["model"] == "claude-haiku-4-5-20251001"


def test_a_query_string_is_accepted(served: Running) -> None:
    signed = {**VERSION, "x-api-key": "any"}

    assert served.send("POST", "/v1/messages?beta=true", json.dumps(BODY).encode(), signed).status == 200


def test_a_body_that_is_no_json_object_is_refused(served: Running) -> None:
    signed = {**VERSION, "x-api-key": "any"}

    assert served.send("POST", "/v1/messages", b"{", signed).status == 400
    assert served.send("POST", "/v1/messages", b"[]", signed).status == 400


def test_a_body_over_32_megabytes_is_too_large(served: Running) -> None:
    signed = {**VERSION, "x-api-key": "any"}

    answer = served.send("POST", "/v1/messages", b" " * 32_000_001, signed)

    assert answer.status == 413
    assert answer.json()["error"]["type"] == "request_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/api/hello", 200),
        ("POST", "/v1/messages/batches", 400),
        ("GET", "/v1/messages/batches/none", 404),
        ("GET", "/v1/messages", 404),
        ("GET", "/nowhere", 404),
    ],
)
def test_other_paths(served: Running, method: str, path: str, status: int) -> None:
    assert served.send(method, path, headers={**VERSION, "x-api-key": "any"}).status == status


def get(sandbox: Running, path: str) -> Answer:
    return sandbox.send("GET", path, headers={**VERSION, "x-api-key": "any"})


def test_the_catalogue_says_what_a_model_takes_and_no_price(served: Running) -> None:
    model = get(served, "/v1/models/claude-sonnet-5-5").json()

    assert (model["line"], model["lifecycle"], model["display_name"]) == (
        "sonnet",
        "active",
        "Claude Sonnet 5.5",
    )
    assert (model["max_input_tokens"], model["max_tokens"]) == (1_000_000, 128_000)
    types = model["capabilities"]["thinking"]["types"]
    assert {name for name, support in types.items() if support["supported"]} == {"adaptive", "between_tools"}
    assert model["capabilities"]["effort"]["max"] == {"supported": True}
    assert "price" not in json.dumps(model)


def test_an_alias_names_its_model_in_the_catalogue(served: Running) -> None:
    assert get(served, "/v1/models/claude-opus-4-5").json()["id"] == "claude-opus-4-5-20251101"
    assert get(served, "/v1/models/task-triage").status == 404


def test_retired_models_stay_in_the_catalogue_as_retired(served: Running) -> None:
    retired = get(served, "/v1/models?lifecycle[]=retired&limit=1000").json()["data"]

    assert "claude-opus-4-1-20250805" in {model["id"] for model in retired}
    assert {model["lifecycle"] for model in retired} == {"retired"}
    assert all(model["retires_at"] for model in retired)


def test_pages_of_the_catalogue_join_to_the_whole(served: Running) -> None:
    whole = [model["id"] for model in get(served, "/v1/models?limit=1000").json()["data"]]
    pages: list[str] = []
    page = get(served, "/v1/models?limit=7").json()
    pages += [model["id"] for model in page["data"]]
    while page["has_more"]:
        page = get(served, f"/v1/models?limit=7&after_id={page['last_id']}").json()
        pages += [model["id"] for model in page["data"]]

    assert pages == whole
    before = get(served, f"/v1/models?limit=2&before_id={whole[4]}").json()
    assert [model["id"] for model in before["data"]] == whole[2:4]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "after_id=nobody"])
def test_a_wrong_page_is_refused(served: Running, query: str) -> None:
    assert get(served, f"/v1/models?{query}").status == 400


def test_beyond_the_rate_limit_the_answer_is_429_until_the_minute_has_passed() -> None:
    at = [1_000.0]
    with running(rpm=2, now=lambda: at[0]) as sandbox:
        assert [sandbox.messages(BODY).status for _ in range(3)] == [200, 200, 429]
        refused = sandbox.messages(BODY)
        at[0] += 61

        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert refused.headers["retry-after"] == "60"
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert sandbox.messages(BODY).status == 200
        assert sandbox.billing()["calls"] == 3


def test_latency_and_gaps_change_neither_the_reply_nor_the_bill() -> None:
    streamed = {**BODY, "stream": True}
    with running(seed=1) as quick, running(seed=1, latency_ms=5, event_gap_ms=1) as slow:
        assert quick.messages(BODY).json() == slow.messages(BODY).json()
        assert quick.messages(streamed).body == slow.messages(streamed).body
        assert quick.billing() == slow.billing()


def test_two_sandboxes_run_side_by_side() -> None:
    with running(seed=1) as one, running(seed=2) as other:
        one.messages(BODY)

        assert (one.billing()["calls"], other.billing()["calls"]) == (1, 0)


def test_a_process_serves_like_a_thread() -> None:
    with running(seed=7) as thread, running_process("--seed", "7") as process:
        assert thread.messages(BODY).json()["content"] == process.messages(BODY).json()["content"]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_its_address_when_it_is_ready_and_stops_on_a_signal(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "tierwise.sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.removeprefix("sandbox provider at ").strip()
        billing = Running(url).billing()
        process.send_signal(stop)
        _, errors = process.communicate(timeout=20)

    assert billing["calls"] == 0
    assert process.returncode == 0
    assert errors == ""


def test_a_command_that_cannot_start_says_why(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tierwise.sandbox",
        "--port",
        "0",
        "--fleet",
        str(tmp_path / "none.toml"),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "none.toml: cannot be read" in done.stderr


def test_its_clock_may_be_a_file_that_somebody_moves(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    with clock.open("wb") as file:
        file.write((1_800_000_000 * 1_000_000).to_bytes(8, sys.byteorder))
    cached = [{"type": "text", "text": "word " * 5_000, "cache_control": {"type": "ephemeral"}}]
    body = {**BODY, "system": cached}

    with running_process("--clock", str(clock)) as sandbox:
        read = [sandbox.messages(body).json()["usage"]["cache_read_input_tokens"] for _ in range(2)]
        with clock.open("r+b") as file:
            file.write((1_800_000_301 * 1_000_000).to_bytes(8, sys.byteorder))
        read.append(sandbox.messages(body).json()["usage"]["cache_read_input_tokens"])

    assert read[0] == read[2] == 0
    assert read[1] > 0
