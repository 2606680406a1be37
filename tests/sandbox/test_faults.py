import json
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection, IncompleteRead
from typing import Any

import pytest

from tierwise.sandbox.server import Running

OPUS = "claude-opus-5-5"
HEADERS = {"x-api-key": "any", "anthropic-version": "2023-06-01", "content-type": "application/json"}
LONG = "[[sandbox prompt_tokens=993 output_tokens=280]]"  # 14 deltas of 20 tokens, after three other events


def body(*, stream: bool = False, content: str = LONG, **more: Any) -> dict[str, Any]:
    return {
        "model": OPUS,
        "max_tokens": 1_000,
        "stream": stream,
        "messages": [{"role": "user", "content": content}],
        **more,
    }


def read_until_closed(sandbox: Running, fault: str, *, stream: bool = True) -> tuple[bytes, bool]:
    """What arrives of a reply, and whether it arrived whole."""
    connection = HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=20)
    try:
        sent = {**HEADERS, "x-sandbox-fault": fault}
        connection.request("POST", "/v1/messages", json.dumps(body(stream=stream)).encode(), sent)
        return connection.getresponse().read(), True
    except IncompleteRead as error:
        return error.partial, False
    finally:
        connection.close()


def events(data: bytes) -> list[str]:
    return [part.split(b"\n")[0].decode().removeprefix("event: ") for part in data.split(b"\n\n") if part]


def wait_for(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("status:529", 529, "overloaded_error"),
        ("status:500", 500, "api_error"),
        ("status:429,retry-after=2", 429, "rate_limit_error"),
        ("status:402", 402, "billing_error"),
        ("status:429,type=billing_error,should-retry=false", 429, "billing_error"),
    ],
)
def test_an_error_is_answered_and_not_billed(sandbox: Running, fault: str, status: int, kind: str) -> None:
    answer = sandbox.messages(body(), {"x-sandbox-fault": fault})

    assert (answer.status, answer.json()["error"]["type"]) == (status, kind)
    assert answer.headers.get("retry-after") == ("2" if "retry-after" in fault else None)
    assert answer.headers.get("x-should-retry") == ("false" if "should-retry" in fault else None)
    assert sandbox.billing()["calls"] == 0


def test_a_directive_asks_for_a_fault_like_the_header_does(served: Running) -> None:
    answer = served.messages(body(content="[[sandbox fault=status:429,retry-after=2]]"))

    assert (answer.status, answer.headers["retry-after"]) == (429, "2")


def test_an_error_has_the_code_and_message_it_is_given(served: Running) -> None:
    answer = served.messages(
        body(), {"x-sandbox-fault": "status:429,code=ramp_limit_exceeded,message=Slowly."}
    )

    error = answer.json()["error"]
    assert (error["message"], error["details"]) == ("Slowly.", {"error_code": "ramp_limit_exceeded"})


def test_a_fault_may_happen_a_number_of_times(sandbox: Running) -> None:
    fault = {"x-sandbox-fault": "status:529,times=2"}

    assert [sandbox.messages(body(), fault).status for _ in range(4)] == [529, 529, 200, 200]
    assert sandbox.messages(body(content="Another"), fault).status == 529


@pytest.mark.parametrize("fault", ["status:many", "thunder", "cut-after", "slow:1,times"])
def test_an_unknown_fault_is_refused(served: Running, fault: str) -> None:
    answer = served.messages(body(), {"x-sandbox-fault": fault})

    assert answer.status == 400
    assert answer.json()["error"]["message"].startswith("x-sandbox-fault: ")


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_before_output_shows_usage_and_is_not_billed(sandbox: Running, stream: bool) -> None:
    answer = sandbox.messages(body(stream=stream), {"x-sandbox-fault": "refusal,category=cyber"})

    assert b'"stop_reason":"refusal"' in answer.body
    assert b'"category":"cyber"' in answer.body
    assert b'"input_tokens":1000' in answer.body
    assert sandbox.billing()["total_nanos"] == 0
    assert sandbox.billing()["unbilled"] == {"calls": 1}


def test_a_refusal_after_output_is_billed_for_it(sandbox: Running) -> None:
    reply = sandbox.messages(body(), {"x-sandbox-fault": "refusal-midstream"}).json()

    assert (reply["stop_reason"], reply["usage"]["output_tokens"]) == ("refusal", 140)
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 140 * 20_000


def test_an_error_in_a_stream_comes_after_its_events_with_status_200(sandbox: Running) -> None:
    data, whole = read_until_closed(sandbox, "error-after:5")

    assert whole
    assert events(data) == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta", "error",
    ]  # fmt: skip
    assert b'"type":"overloaded_error"' in data
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 40 * 20_000


def test_a_cut_stream_ends_after_whole_events_and_is_billed_for_them(sandbox: Running) -> None:
    data, whole = read_until_closed(sandbox, "cut-after:4")

    assert not whole
    assert events(data) == ["message_start", "content_block_start", "ping", "content_block_delta"]
    assert data.endswith(b"\n\n")
    assert sandbox.calls()[0]["ending"] == "cut"
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 20 * 20_000


def test_a_stream_cut_at_its_first_event_is_billed_for_the_token_that_it_told(sandbox: Running) -> None:
    read_until_closed(sandbox, "cut-after:1")

    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 20_000


def test_a_half_event_is_followed_by_nothing(sandbox: Running) -> None:
    data, whole = read_until_closed(sandbox, "half-event:4")

    assert not whole
    assert len(events(data)) == 5
    assert not data.endswith(b"\n\n")
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 20 * 20_000


def test_a_whole_reply_that_is_cut_is_billed_whole(sandbox: Running) -> None:
    data, whole = read_until_closed(sandbox, "cut-after:3", stream=False)

    assert not whole
    assert data.startswith(b'{"id":')
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 280 * 20_000


def test_a_break_after_the_last_event_breaks_nothing(sandbox: Running) -> None:
    data, whole = read_until_closed(sandbox, "cut-after:500")

    assert whole
    assert events(data)[-1] == "message_stop"
    assert sandbox.calls()[0]["ending"] == "end_turn"


def left_by_the_client(sandbox: Running, fault: str, events_read: int) -> None:
    host, port = sandbox.base_url.removeprefix("http://").split(":")
    sent = json.dumps(body(stream=True)).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "x-sandbox-fault": fault}.items())
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(
            f"POST /v1/messages HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(sent)}\r\n\r\n".encode()
        )
        client.sendall(sent)
        read = b""
        while read.count(b"\n\n") < events_read:
            read += client.recv(4_096)


def test_a_stream_that_the_client_leaves_is_billed_for_what_was_sent(sandbox: Running) -> None:
    left_by_the_client(sandbox, "stall-after:5,seconds=60", 5)
    wait_for(lambda: sandbox.billing()["calls"] == 1)

    assert sandbox.calls()[0]["ending"] == "left"
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 40 * 20_000


def test_a_client_that_leaves_before_the_first_byte_is_billed_for_its_prompt(sandbox: Running) -> None:
    left_by_the_client(sandbox, "slow-first:60", 0)
    wait_for(lambda: sandbox.billing()["calls"] == 1)

    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000


def test_a_slow_stream_arrives_event_by_event_and_whole(sandbox: Running) -> None:
    data, whole = read_until_closed(sandbox, "slow:1;slow-first:0.01")

    assert whole
    assert events(data)[-1] == "message_stop"
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 280 * 20_000


@pytest.mark.parametrize("stream", [False, True])
def test_usage_may_be_missing_and_is_billed_all_the_same(sandbox: Running, stream: bool) -> None:
    answer = sandbox.messages(body(stream=stream), {"x-sandbox-fault": "no-usage"})

    assert b"usage" not in answer.body
    assert sandbox.billing()["total_nanos"] == 1_000 * 4_000 + 280 * 20_000


@pytest.mark.parametrize("stream", [False, True])
def test_a_later_api_adds_fields_headers_and_events(served: Running, stream: bool) -> None:
    answer = served.messages(body(stream=stream), {"x-sandbox-fault": "unknown-fields"})

    assert answer.headers["anthropic-sandbox-later"] == "kept"
    assert b'"sandbox_later":{"kept":true}' in answer.body
    assert b'"sandbox_later_tokens":7' in answer.body
    assert ("sandbox_later" in events(answer.body)) == stream
