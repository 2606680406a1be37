"""What goes in and what must come out, through both drivers: the bytes, the ledger, and the order of things."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.ledgers import Lock
from support.plays import BODY, READ_US, Driver, Played, play
from support.policies import TWO_TIERS, book
from support.transcripts import (
    BLOCK,
    EVENTS,
    JSON,
    OVERLOADED,
    START,
    STOP,
    STREAM,
    USAGE,
    WORD,
    Transcript,
    error,
    message,
)
from tierwise.core.effects import Answer
from tierwise.errors import UpstreamDropped, UpstreamTimeout, UpstreamUnreachable
from tierwise.stores.ledger import writer
from tierwise.upstream.port import Outgoing

FAST_NANOS = 1000 * 100 + 200 * 500
"""1,000 tokens in and 200 out on claude-haiku-5-5: $0.10 and $0.50 a million."""
FRONTIER_NANOS = 1000 * 4_000 + 200 * 20_000
"""The same on claude-opus-5-5: $4 and $20 a million."""
BEGUN_NANOS = 1000 * 100 + 1 * 500
"""What `message_start` alone says."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture(params=["coroutine", "thread"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


def ending(played: Played) -> dict[str, Any]:
    """What the ledger says of a call's end, as far as it says anything."""
    names = ("ending", "fault", "error", "status", "cost_nanos", "at_least_nanos", "output_tokens")
    return {name: played.call[name] for name in names if played.call[name] is not None}


def test_a_finished_reply_comes_whole_and_is_in_the_ledger_before_it_is_released(
    driver: Driver, path: Path
) -> None:
    played = play(driver, Transcript(chunks=(message()[:40], message()[40:])), path)

    assert (played.taken.status, played.taken.parts, played.taken.finished) == (200, [message()], True)
    assert played.notes == [
        "decision handed in",
        "sent",
        "ending handed in",
        "ending durable",
        "last part taken, ledger has ['posted']",
    ]
    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}


def test_an_entry_says_what_was_asked_what_was_decided_and_where_the_time_went(
    driver: Driver, path: Path
) -> None:
    call = play(driver, Transcript(chunks=(message(),)), path).call

    assert (call["task_type"], call["declared"], call["tier"]) == ("extraction", "model", "fast")
    assert (call["requested_model"], call["decided_model"]) == ("task/extraction", "claude-haiku-5-5")
    assert (call["served_model"], call["stop_reason"]) == ("claude-haiku-5-5", "end_turn")
    assert (call["max_tokens_asked"], call["max_tokens_sent"]) == (4096, 512)
    assert call["policy_version"] == book().policy.version
    assert (call["input_tokens"], call["output_tokens"], call["request_id"]) == (1000, 200, "req_1")
    assert (call["at_frontier_nanos"], call["as_decided_nanos"]) == (FRONTIER_NANOS, FAST_NANOS)
    assert (call["at_us"], call["ended_us"]) == (READ_US, READ_US + 3000)
    assert (call["until_sent_us"], call["until_first_byte_us"], call["until_end_us"]) == (1000, 1000, 1000)


def test_the_request_that_leaves_names_the_decided_model_and_cap(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(chunks=(message(),)), path)

    (request,) = played.requests
    assert b'"model":"claude-haiku-5-5"' in request.body
    assert b'"max_tokens":512' in request.body
    assert b'"thinking":{"type":"disabled"}' in request.body


def test_an_undeclared_call_goes_and_comes_as_it_is_and_is_priced(driver: Driver, path: Path) -> None:
    body = {**BODY, "model": "claude-opus-5-5", "future_field": {"of": ["a", 1.50]}}
    played = play(driver, Transcript(chunks=(message(model="claude-opus-5-5"),)), path, body=body)

    assert played.requests[0].body == played.opened.body.raw
    assert (played.call["tier"], played.call["acts"], played.call["declared"]) == (None, 0, "undeclared")
    assert played.call["cost_nanos"] == FRONTIER_NANOS


def test_an_observed_call_goes_as_asked_and_the_ledger_says_what_it_would_have_cost(
    driver: Driver, path: Path
) -> None:
    policy = book('mode = "observe"\n' + TWO_TIERS + '[[match]]\nmodel = "*"\ntask_type = "extraction"\n')
    body = {**BODY, "model": "claude-opus-5-5"}
    played = play(
        driver, Transcript(chunks=(message(model="claude-opus-5-5"),)), path, body=body, policy=policy
    )

    assert played.requests[0].body == played.opened.body.raw
    assert (played.call["tier"], played.call["acts"], played.call["max_tokens_sent"]) == ("fast", 0, 4096)
    assert (played.call["cost_nanos"], played.call["as_asked_nanos"]) == (FRONTIER_NANOS, FRONTIER_NANOS)
    assert played.call["as_decided_nanos"] == FAST_NANOS


def test_a_streams_parts_go_past_as_they_come_and_only_its_last_event_waits_for_the_ledger(
    driver: Driver, path: Path
) -> None:
    played = play(driver, Transcript(headers=EVENTS, chunks=STREAM), path)

    assert played.taken.parts == list(STREAM)
    assert played.notes == [
        "decision handed in",
        "sent",
        *["part taken"] * 4,
        "ending handed in",
        "ending durable",
        "last part taken, ledger has ['posted']",
    ]
    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}


@pytest.mark.parametrize("size", [1, 7, 64, 10**6])
def test_a_stream_is_read_the_same_however_its_bytes_are_cut(driver: Driver, path: Path, size: int) -> None:
    whole = b"".join(STREAM)
    chunks = tuple(whole[at : at + size] for at in range(0, len(whole), size))
    played = play(driver, Transcript(headers=EVENTS, chunks=chunks), path)

    assert b"".join(played.taken.parts) == whole
    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}


def test_what_follows_a_streams_last_event_is_held_with_it_and_comes_in_order(
    driver: Driver, path: Path
) -> None:
    later = (b": a comment\n\n", b"event: later\ndata: {}\n\n")
    played = play(driver, Transcript(headers=EVENTS, chunks=(*STREAM, *later)), path)

    assert played.taken.parts == [*STREAM[:-1], STOP + b"".join(later)]
    assert ending(played)["ending"] == "posted"


def test_an_error_of_the_provider_is_passed_on_and_costs_nothing(driver: Driver, path: Path) -> None:
    refused = error("overloaded_error", 529)
    played = play(driver, refused, path)

    assert (played.taken.status, played.taken.parts) == (529, list(refused.chunks))
    assert played.notes[-1] == "last part taken, ledger has ['failed']"
    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "overloaded_error",
        "status": 529,
        "cost_nanos": 0,
    }


def test_an_error_that_breaks_off_costs_nothing_all_the_same(driver: Driver, path: Path) -> None:
    played = play(
        driver,
        Transcript(status=529, chunks=(b'{"type":"er',), breaks=UpstreamDropped(why="reset")),
        path,
    )

    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "stream-broke",
        "status": 529,
        "cost_nanos": 0,
    }


def test_an_unreachable_provider_is_answered_for_and_costs_nothing(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(no_reply=UpstreamUnreachable(why="connection refused")), path)

    assert played.taken.answered == Answer(
        code="unreachable", sentence="The provider could not be reached: connection refused"
    )
    assert played.notes[-2:] == ["ending durable", "answered unreachable"]
    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "unreachable",
        "cost_nanos": 0,
    }


def test_a_connection_that_drops_before_the_reply_is_answered_for_and_its_cost_is_unknown(
    driver: Driver, path: Path
) -> None:
    played = play(driver, Transcript(no_reply=UpstreamDropped(why="reset")), path)

    assert played.taken.answered is not None
    assert played.taken.answered.code == "dropped"
    assert ending(played) == {"ending": "failed", "fault": "provider", "error": "dropped"}


def test_a_timeout_is_answered_for_and_its_cost_is_unknown(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(no_reply=UpstreamTimeout(why="no reply")), path)

    assert played.taken.answered is not None
    assert played.taken.answered.code == "timeout"
    assert ending(played) == {"ending": "failed", "fault": "provider", "error": "timeout"}


def test_a_reply_that_breaks_off_has_an_unknown_cost_and_no_end(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(chunks=(message()[:40],), breaks=UpstreamDropped(why="reset")), path)

    assert (played.taken.parts, played.taken.finished, played.taken.broken) == ([], False, True)
    assert played.notes[-2:] == ["ending durable", "broken off"]
    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "stream-broke",
        "status": 200,
    }


@pytest.mark.parametrize("why", [UpstreamDropped(why="reset"), UpstreamTimeout(why="silence")])
def test_a_stream_that_breaks_in_the_middle_of_an_event_costs_at_least_what_was_counted(
    driver: Driver, path: Path, why: UpstreamTimeout | UpstreamDropped
) -> None:
    parts = (START, BLOCK, WORD[:20])
    played = play(driver, Transcript(headers=EVENTS, chunks=parts, breaks=why), path)

    assert (played.taken.parts, played.taken.finished, played.taken.broken) == ([*parts], False, True)
    assert played.closed == [True]
    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "stream-broke",
        "status": 200,
        "at_least_nanos": BEGUN_NANOS,
        "output_tokens": 1,
    }


def test_a_stream_that_ends_too_early_is_passed_on_as_it_is_and_recorded_as_broken(
    driver: Driver, path: Path
) -> None:
    played = play(driver, Transcript(headers=EVENTS, chunks=(START, BLOCK, WORD)), path)

    assert (b"".join(played.taken.parts), played.taken.finished) == (START + BLOCK + WORD, True)
    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "stream-broke",
        "status": 200,
        "at_least_nanos": BEGUN_NANOS,
        "output_tokens": 1,
    }


def test_an_error_event_after_a_good_status_is_passed_on_and_recorded_as_the_provider_names_it(
    driver: Driver, path: Path
) -> None:
    parts = (START, BLOCK, OVERLOADED)
    played = play(driver, Transcript(headers=EVENTS, chunks=parts), path)

    assert (played.taken.parts, played.taken.finished) == ([*parts], True)
    assert ending(played) == {
        "ending": "failed",
        "fault": "provider",
        "error": "overloaded_error",
        "status": 200,
        "at_least_nanos": BEGUN_NANOS,
        "output_tokens": 1,
    }


def test_an_error_event_reaches_the_caller_even_if_the_connection_breaks_right_after_it(
    driver: Driver, path: Path
) -> None:
    parts = (START, BLOCK, OVERLOADED)
    played = play(driver, Transcript(headers=EVENTS, chunks=parts, breaks=UpstreamDropped(why="reset")), path)

    assert (played.taken.parts, played.taken.broken) == ([*parts], True)
    assert played.notes[-3:] == ["ending durable", "part taken", "broken off"]
    assert ending(played)["error"] == "overloaded_error"


def test_a_stream_that_breaks_after_its_last_event_is_a_finished_one(driver: Driver, path: Path) -> None:
    played = play(
        driver, Transcript(headers=EVENTS, chunks=STREAM, breaks=UpstreamDropped(why="reset")), path
    )

    assert (played.taken.parts, played.taken.broken) == ([*STREAM], True)
    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}


@pytest.mark.parametrize("after", [1, 3])
def test_a_caller_that_leaves_in_the_middle_of_a_stream_closes_the_call_and_leaves_a_lower_bound(
    driver: Driver, path: Path, after: int
) -> None:
    played = play(driver, Transcript(headers=EVENTS, chunks=STREAM), path, leaves_after=after)

    assert (played.taken.parts, played.taken.finished) == ([*STREAM[:after]], False)
    assert (played.closed, played.cancelled) == ([True], False)
    assert played.notes[-1] == "ending durable"
    known = {"at_least_nanos": BEGUN_NANOS, "output_tokens": 1}
    usage_read = {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}
    left = {"ending": "failed", "fault": "caller", "error": "caller-left", "status": 200, **known}
    assert ending(played) == (usage_read if after == 3 else left)


def test_a_caller_that_leaves_when_the_last_event_has_come_owes_the_whole_call(
    driver: Driver, path: Path
) -> None:
    played = play(driver, Transcript(headers=EVENTS, chunks=STREAM), path, leaves_after=4)

    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}


def test_a_caller_that_leaves_a_refusal_before_its_first_word_leaves_an_unknown_cost(
    driver: Driver, path: Path
) -> None:
    refusal = USAGE.replace(b"end_turn", b"refusal")
    kept = play(driver, Transcript(headers=EVENTS, chunks=(START, refusal, STOP)), path)
    left = play(
        driver,
        Transcript(headers=EVENTS, chunks=(START, refusal, STOP)),
        path.with_name("left.sqlite3"),
        leaves_after=1,
    )

    assert ending(kept) == {"ending": "posted", "output_tokens": 200}
    assert ending(left) == ending(kept)


def test_a_caller_that_leaves_a_thread_before_the_first_byte_closes_the_call(path: Path) -> None:
    played = play("thread", Transcript(headers=EVENTS, chunks=STREAM), path, leaves_after=0)

    assert (played.taken.parts, played.closed) == ([], [True])
    assert ending(played) == {"ending": "failed", "fault": "caller", "error": "caller-left", "status": 200}


def test_a_caller_that_leaves_before_the_reply_begins_leaves_an_unknown_cost(path: Path) -> None:
    played = play("coroutine", Transcript(hangs="before the reply"), path)

    assert played.notes == ["decision handed in", "sent", "ending handed in", "ending durable"]
    assert not played.cancelled
    assert ending(played) == {"ending": "failed", "fault": "caller", "error": "caller-left"}


def test_a_caller_that_leaves_after_the_usage_has_come_owes_the_whole_call(path: Path) -> None:
    chunks = (START, BLOCK, WORD, USAGE)
    played = play("coroutine", Transcript(headers=EVENTS, chunks=chunks, hangs="after the chunks"), path)

    assert (played.taken.parts, played.closed) == ([*chunks], [True])
    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}


def test_a_gateway_that_stops_in_the_middle_of_a_call_records_it_and_passes_the_cancellation_on(
    path: Path,
) -> None:
    played = play(
        "coroutine",
        Transcript(headers=EVENTS, chunks=(START, BLOCK), hangs="after the chunks"),
        path,
        stops=True,
    )

    assert (played.cancelled, played.closed, played.taken.finished) == (True, [True], False)
    assert ending(played) == {
        "ending": "failed",
        "fault": "gateway",
        "error": "gateway-stopped",
        "status": 200,
        "at_least_nanos": BEGUN_NANOS,
        "output_tokens": 1,
    }


def test_a_gateway_that_stops_before_the_reply_begins_records_that_too(path: Path) -> None:
    played = play("coroutine", Transcript(hangs="before the reply"), path, stops=True)

    assert played.cancelled
    assert ending(played) == {"ending": "failed", "fault": "gateway", "error": "gateway-stopped"}


def test_a_call_that_no_tier_takes_is_refused_and_nothing_is_sent(driver: Driver, path: Path) -> None:
    body = {**BODY, "messages": [*BODY["messages"], {"role": "assistant", "content": "{"}]}
    played = play(driver, Transcript(chunks=(message(),)), path, body=body)

    assert played.requests == []
    assert played.notes == ["decision handed in", "ending handed in", "ending durable", "answered ineligible"]
    assert ending(played) == {"ending": "failed", "fault": "gateway", "error": "ineligible", "cost_nanos": 0}
    assert (played.call["tier"], played.call["max_tokens_sent"]) == (None, None)


def test_an_unknown_type_under_a_strict_policy_is_refused_with_what_was_probably_meant(
    driver: Driver, path: Path
) -> None:
    body = {**BODY, "model": "task/extractoin"}
    played = play(driver, Transcript(), path, body=body, policy=book("strict = true\n" + TWO_TIERS))

    assert played.taken.answered is not None
    assert played.taken.answered.code == "unknown-task-type"
    assert "Did you mean 'extraction'?" in played.taken.answered.sentence
    assert (played.call["unknown_type"], played.call["error"]) == ("extractoin", "unknown-task-type")


def test_a_model_without_a_price_is_recorded_as_unknown_and_not_as_free(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(chunks=(message(model="claude-later-9"),)), path)

    assert played.call["ending"] == "posted"
    assert (played.call["cost_nanos"], played.call["output_tokens"]) == (None, 200)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, b"<html>not the provider</html>"),
        (JSON, b'{"type":"message","model":"claude-haiku-5-5"}'),
        ((*JSON, (b"content-encoding", b"gzip")), message()),
        ((), b""),
    ],
)
def test_a_reply_whose_usage_cannot_be_read_is_passed_on_and_its_cost_is_unknown(
    driver: Driver, path: Path, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    played = play(driver, Transcript(headers=headers, chunks=(body,)), path)

    assert (b"".join(played.taken.parts), played.taken.finished) == (body, True)
    assert ending(played) == {"ending": "failed", "fault": "provider", "error": "no-usage", "status": 200}


def test_a_ledger_that_cannot_be_written_holds_a_reply_only_as_long_as_its_patience(
    driver: Driver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.02)
    monkeypatch.setattr(writer, "RETRY_S", 0.005)
    lock = Lock()
    threading.Timer(1.0, lock.free.set).start()

    def provider(_request: Outgoing) -> Transcript:
        lock.met.wait()  # the decision's entry is being tried when the ending's comes
        return Transcript(chunks=(message(),))

    played = play(driver, provider, path, store=lock.opened, then=lock.free.set)

    assert played.taken.parts == [message()]
    assert played.notes[-2:] == ["ending not durable yet", "last part taken, ledger has []"]
    assert ending(played) == {"ending": "posted", "cost_nanos": FAST_NANOS, "output_tokens": 200}
