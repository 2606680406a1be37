"""Cascades: the cheaper tier first, its reply checked, and the type's own where it fails."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.test_attempts import OVERLOADED, Run, play
from support.policies import TWO_TIERS, book
from support.transcripts import Transcript
from tierwise.errors import PolicyError
from tierwise.stores.ledger.cascades import cascades
from tierwise.stores.ledger.sqlite import read_ledger

CASCADE = TWO_TIERS.replace(
    'tier = "frontier"', 'tier = "frontier"\ncascade = true\nquality.check = "json:total"'
)
BODY = {
    "model": "task/synthesis",
    "max_tokens": 1_000,
    "messages": [{"role": "user", "content": "Add it up."}],
}


def reply(text: str, model: str, **fields: Any) -> Transcript:
    message = {
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1_000, "output_tokens": 200},
    }
    return Transcript(chunks=(json.dumps(message | fields).encode(),))


GOOD_FAST = reply('{"total": 3}', "claude-haiku-5-5")
BAD_FAST = reply("three", "claude-haiku-5-5")
FRONTIER = reply('{"total": 3}', "claude-opus-5-5")


def run(path: Path, *script: Transcript, body: Any = BODY, types: str = CASCADE) -> Run:
    return play(path, *script, types=types, body=body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


def test_a_reply_that_passes_on_the_cheaper_tier_is_the_callers(path: Path) -> None:
    played = run(path, GOOD_FAST)

    assert played.got.json()["model"] == "claude-haiku-5-5"
    assert played.column("tier", "attempt", "selection_probability") == [("fast", 1, 1.0)]


def test_a_reply_that_fails_its_check_is_made_again_on_the_types_own_tier(path: Path) -> None:
    played = run(path, BAD_FAST, FRONTIER)

    assert played.got.json()["model"] == "claude-opus-5-5"
    assert played.column("tier", "attempt", "ending") == [("fast", 1, "posted"), ("frontier", 2, "posted")]
    assert "The reply of fast failed its check: once more on frontier." in played.calls[1]["reasons"]


def test_where_the_second_attempt_fails_the_caller_gets_the_first_reply(path: Path) -> None:
    played = run(path, BAD_FAST, OVERLOADED)

    assert played.got.status == 200
    assert played.got.json()["model"] == "claude-haiku-5-5"


def test_a_reply_that_calls_tools_cannot_be_checked_and_is_passed_on(path: Path) -> None:
    tool: dict[str, Any] = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}

    played = run(path, reply("", "claude-haiku-5-5", content=[tool], stop_reason="tool_use"))

    assert played.column("tier") == [("fast",)]


def test_a_reply_that_fails_on_its_own_tier_is_passed_on(path: Path) -> None:
    played = run(path, BAD_FAST, reply("three", "claude-opus-5-5"))

    assert (len(played.calls), played.got.json()["model"]) == (2, "claude-opus-5-5")


def test_a_stream_goes_to_its_own_tier(path: Path) -> None:
    played = run(path, FRONTIER, body={**BODY, "stream": True})

    assert played.column("tier") == [("frontier",)]


def test_a_type_that_only_observes_has_no_cascade(path: Path) -> None:
    headers_only = CASCADE.replace("cascade = true", 'cascade = true\nmode = "observe"')
    matched = headers_only + '\n[[match]]\ntask_type = "synthesis"\nmodel = "claude-opus-5-5"\n'

    played = run(path, BAD_FAST, FRONTIER, body={**BODY, "model": "claude-opus-5-5"}, types=matched)

    assert len(played.calls) == 1


def test_what_a_cascade_saves_is_known_once_one_reply_failed(path: Path) -> None:
    run(path, GOOD_FAST)
    run(path, BAD_FAST, FRONTIER)

    with closing(read_ledger(path)) as ledger:
        (found,) = cascades(ledger, book(CASCADE).policy, since_us=0)

    fast, frontier = found.tried_nanos // 2, found.escalated_nanos
    assert (found.tried, found.escalated) == (2, 1)
    assert found.saved_nanos == 2 * frontier - 2 * fast - frontier
    assert found.pays_above == fast / frontier


def test_without_a_failed_reply_nobody_knows_what_it_saves(path: Path) -> None:
    run(path, GOOD_FAST)

    with closing(read_ledger(path)) as ledger:
        (found,) = cascades(ledger, book(CASCADE).policy, since_us=0)

    assert (found.saved_nanos, found.pays_above) == (None, None)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('quality.check = "json:total"', "", "has nothing to check the first reply by"),
        ('tier = "frontier"', 'tier = "fast"', "finds no cheaper tier: fast is the last"),
    ],
)
def test_a_cascade_that_cannot_work_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(PolicyError, match=told):
        book(CASCADE.replace(old, new, 1))
