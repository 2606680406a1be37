from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tierwise.sandbox.server import Running, running

OPUS = "claude-opus-5-5"
LONG = "A shared opening. " * 200  # 3,600 bytes: 1,000 tokens of the new tokenizer, 770 of the old


@dataclass
class Clock:
    at: float = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cached(clock: Clock) -> Iterator[Running]:
    with running(seed=1, now=clock) as sandbox:
        yield sandbox


def marked(text: str, ttl: str | None = None) -> dict[str, Any]:
    control = {"type": "ephemeral"} if ttl is None else {"type": "ephemeral", "ttl": ttl}
    return {"type": "text", "text": text, "cache_control": control}


def usage_of(sandbox: Running, *, model: str = OPUS, prompt: Any = "Hello", **more: Any) -> dict[str, int]:
    body = {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": prompt}], **more}
    answer = sandbox.messages(body)
    assert answer.status == 200, answer.body
    usage = answer.json()["usage"]
    written = usage["cache_creation"]
    assert usage["cache_creation_input_tokens"] == sum(written.values())
    return {
        "fresh": usage["input_tokens"],
        "5m": written["ephemeral_5m_input_tokens"],
        "1h": written["ephemeral_1h_input_tokens"],
        "read": usage["cache_read_input_tokens"],
    }


def test_the_first_call_writes_a_marked_prefix_and_the_next_reads_it(cached: Running) -> None:
    first = usage_of(cached, system=[marked(LONG)])
    second = usage_of(cached, system=[marked(LONG)], prompt="Goodbye")

    assert first == {"fresh": 9, "5m": 1_000, "1h": 0, "read": 0}
    assert second == {"fresh": 9, "5m": 0, "1h": 0, "read": 1_000}


def test_both_calls_are_billed_at_the_prices_of_writing_and_reading(cached: Running) -> None:
    usage_of(cached, system=[marked(LONG)], prompt="Hello [[sandbox output_tokens=10]]")
    written = cached.billing()["total_nanos"]
    usage_of(cached, system=[marked(LONG)], prompt="Hello [[sandbox output_tokens=10]]")

    fresh = cached.billing()["by_model"][OPUS]["input_tokens"] // 2
    assert written == fresh * 4_000 + 1_000 * 5_000 + 10 * 20_000
    assert cached.billing()["total_nanos"] - written == fresh * 4_000 + 1_000 * 200 + 10 * 20_000


def test_every_model_has_a_cache_of_its_own(cached: Running) -> None:
    usage_of(cached, system=[marked(LONG)])

    assert usage_of(cached, system=[marked(LONG)], model="claude-sonnet-5-5")["read"] == 0


def test_a_prefix_below_the_models_minimum_is_not_cached(cached: Running) -> None:
    usage_of(cached, system=[marked(LONG)], model="claude-opus-4-7")

    second = usage_of(cached, system=[marked(LONG)], model="claude-opus-4-7")
    assert (second["read"], second["5m"], second["fresh"]) == (0, 0, 1_009)


def test_a_prefix_expires_after_its_time_to_live(cached: Running, clock: Clock) -> None:
    usage_of(cached, system=[marked(LONG)])
    clock.at += 301

    assert usage_of(cached, system=[marked(LONG)])["5m"] == 1_000


def test_reading_keeps_a_prefix_alive(cached: Running, clock: Clock) -> None:
    usage_of(cached, system=[marked(LONG)])
    clock.at += 200
    usage_of(cached, system=[marked(LONG)])
    clock.at += 200

    assert usage_of(cached, system=[marked(LONG)])["read"] == 1_000


def test_an_hours_prefix_is_written_at_its_own_price_and_lives_an_hour(cached: Running, clock: Clock) -> None:
    first = usage_of(cached, system=[marked(LONG, "1h")])
    clock.at += 3_500

    assert first["1h"] == 1_000
    assert usage_of(cached, system=[marked(LONG, "1h")])["read"] == 1_000


def test_what_lies_between_two_markers_is_written_at_the_second_ones_price(cached: Running) -> None:
    usage = usage_of(cached, system=[marked(LONG, "1h"), marked("x" * 360)])

    assert usage == {"fresh": 9, "5m": 100, "1h": 1_000, "read": 0}


def test_a_changed_prefix_is_not_read(cached: Running) -> None:
    usage_of(cached, system=[marked(LONG)])

    assert usage_of(cached, system=[marked("B" + LONG[1:])])["read"] == 0


def test_moving_the_marker_in_a_growing_conversation_reads_what_was_written(cached: Running) -> None:
    usage_of(cached, prompt=[marked(LONG)])
    body = {
        "model": OPUS,
        "max_tokens": 200,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": LONG}]},
            {"role": "assistant", "content": "Well."},
            {"role": "user", "content": [marked("x" * 3_600)]},
        ],
    }

    usage = cached.messages(body).json()["usage"]

    assert usage["cache_read_input_tokens"] == 1_007
    assert usage["cache_creation_input_tokens"] == 1_008  # "Well.", the last turn, and two turns' overhead


def test_the_top_level_marker_ends_a_prefix_at_the_prompts_end(cached: Running) -> None:
    first = usage_of(cached, system=LONG, cache_control={"type": "ephemeral"})
    second = usage_of(cached, system=LONG, cache_control={"type": "ephemeral"})

    assert first == {"fresh": 0, "5m": 1_009, "1h": 0, "read": 0}
    assert second == {"fresh": 0, "5m": 0, "1h": 0, "read": 1_009}


def test_a_cap_of_nothing_fills_the_cache_and_answers_nothing(cached: Running) -> None:
    body = {
        "model": OPUS,
        "max_tokens": 0,
        "system": [marked(LONG)],
        "messages": [{"role": "user", "content": "."}],
    }

    reply = cached.messages(body).json()

    assert (reply["content"], reply["stop_reason"], reply["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    assert usage_of(cached, system=[marked(LONG)])["read"] == 1_000
    assert cached.billing()["truncated"]["calls"] == 0


@pytest.mark.parametrize(
    ("system", "wrong"),
    [
        ([marked("x")] * 5, "A maximum of 4 blocks with cache_control may be provided. Found 5."),
        ([marked("x", "2h")], "ttl"),
        ([marked("x", "5m"), marked("y", "1h")], "must not come after"),
    ],
)
def test_wrong_markers_are_refused(cached: Running, system: list[dict[str, Any]], wrong: str) -> None:
    body = {
        "model": OPUS,
        "max_tokens": 9,
        "system": system,
        "messages": [{"role": "user", "content": "Hello"}],
    }

    answer = cached.messages(body)

    assert answer.status == 400
    assert wrong in answer.json()["error"]["message"]
