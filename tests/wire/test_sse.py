import json
from collections.abc import Iterable, Mapping
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.usage import Metered, Usage, UsageLine
from tierwise.wire.replies import ReplyFacts
from tierwise.wire.sse import LONGEST_EVENT, StreamFacts

MODEL = "claude-haiku-5-5"


def event(name: str, line: str = "data: {}", /, **fields: Any) -> str:
    data = json.dumps({"type": name} | fields, separators=(",", ":"))
    return f"event: {name}\n{line.format(data)}\n\n"


def start(usage: Mapping[str, Any] | None = None, **fields: Any) -> str:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": START_USAGE if usage is None else usage,
    }
    return event("message_start", message=message | fields)


def delta(usage: Mapping[str, Any] | None, stop_reason: str | None = "end_turn") -> str:
    fields = {} if usage is None else {"usage": usage}
    return event("message_delta", delta={"stop_reason": stop_reason, "stop_sequence": None}, **fields)


def text(words: str) -> str:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


START_USAGE = {
    "input_tokens": 2679,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 4000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 1,
    "service_tier": "standard",
    "speed": "fast",
    "inference_geo": "us",
}
PING = event("ping")
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
BLOCK_STOP = event("content_block_stop", index=0)
STOP = event("message_stop")
TRICKS = (
    'say "message_stop", message_delta, {"type":"error"}, content_block_start, data: {"type":"message_stop"}'
)

RECORDED = "".join(
    (
        start(),
        BLOCK,
        PING,
        text("Hello"),
        text(TRICKS),
        text(" wörld 🎉"),
        BLOCK_STOP,
        delta({"output_tokens": 15, "output_tokens_details": {"thinking_tokens": 4}}),
        STOP,
    )
)
FACTS = ReplyFacts(
    finished=True,
    served_model=MODEL,
    stop_reason="end_turn",
    metered=Metered(
        lines=(
            UsageLine(
                model=MODEL,
                usage=Usage(
                    input_tokens=2679,
                    cache_write_5m_tokens=100,
                    cache_write_1h_tokens=200,
                    cache_read_tokens=4000,
                    output_tokens=15,
                ),
                fast=True,
                us_only=True,
            ),
        ),
        thinking_tokens=4,
    ),
)
LINE_ENDS = ("\n", "\r\n", "\r")


def fed(*chunks: bytes) -> StreamFacts:
    stream = StreamFacts()
    for chunk in chunks:
        stream.feed(chunk)
    return stream


def facts_of(*events: str) -> ReplyFacts:
    return fed("".join(events).encode()).facts()


def usage_of(*events: str) -> Usage:
    found = facts_of(*events).metered
    assert found is not None
    return found.total


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def test_a_whole_stream_tells_what_a_whole_reply_tells() -> None:
    stream = fed(RECORDED.encode())

    assert stream.facts() == FACTS
    assert stream.at_end


def test_nothing_is_known_before_the_first_byte() -> None:
    stream = StreamFacts()

    assert stream.facts() == ReplyFacts(finished=False)
    assert not stream.at_end


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=repr)
def test_a_stream_says_the_same_wherever_it_is_cut_in_two(line_end: str) -> None:
    data = RECORDED.replace("\n", line_end).encode()

    for at in range(len(data) + 1):
        stream = fed(data[:at], data[at:])
        assert (stream.facts(), stream.at_end) == (FACTS, True), at


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=repr)
def test_a_stream_says_the_same_byte_by_byte(line_end: str) -> None:
    data = RECORDED.replace("\n", line_end).encode()

    assert fed(*(data[at : at + 1] for at in range(len(data)))).facts() == FACTS


@given(
    ends=st.lists(st.sampled_from(LINE_ENDS), min_size=RECORDED.count("\n"), max_size=RECORDED.count("\n")),
    places=st.lists(st.integers(0, len(RECORDED)), max_size=12),
)
def test_a_stream_says_the_same_in_any_pieces_and_with_line_ends_mixed(
    ends: list[str], places: list[int]
) -> None:
    # A return that ends one line and a newline that ends the next would be one line end: between them is text.
    lines = RECORDED.split("\n")
    data = "".join(line + end for line, end in zip(lines, [*tame(lines, ends), ""], strict=True)).encode()

    assert fed(*cut(data, places)).facts() == FACTS


def tame(lines: list[str], ends: list[str]) -> list[str]:
    tamed: list[str] = []
    for line, end in zip(lines, ends, strict=False):
        runs_together = not line and end == "\n" and tamed[-1:] == ["\r"]
        tamed.append("\r\n" if runs_together else end)
    return tamed


def test_a_line_end_that_is_cut_in_two_is_one_and_does_not_end_the_event() -> None:
    lines = ('data: {"type":', 'data: "error", "error":', 'data: {"type": "api_error"}}', "")

    for ends in product(LINE_ENDS, repeat=len(lines)):
        data = "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()
        ended = ends[-2:] != ("\r", "\n")  # together they are one line end, and no blank line follows
        pieces = [piece for at in range(len(data)) for piece in (data[at : at + 1], b"")]
        assert fed(*pieces).at_end == fed(data).at_end == ended, ends


def test_an_event_counts_once_its_blank_line_is_there() -> None:
    data = (start() + delta({"output_tokens": 9}) + STOP).encode()

    assert not fed(data[:-1]).at_end
    assert fed(data).at_end


def test_a_stream_without_event_lines_is_told_by_its_data() -> None:
    unnamed = RECORDED.replace("event: ", "x-event: ")

    assert fed(unnamed.encode()).facts() == FACTS


@pytest.mark.parametrize("noise", [": keep-alive\n\n", "\n\n", ":\n", "id: 7\nretry: 100\n\n", "data\n\n"])
def test_comments_and_other_fields_say_nothing(noise: str) -> None:
    noisy = noise + RECORDED.replace("event: message_delta", noise + "event: message_delta")

    assert fed(noisy.encode()).facts() == FACTS


@pytest.mark.parametrize("line", ["data:{}", "data: {}", "data:   {}", "id: 1\ndata: {}\nretry: 3"])
def test_the_data_of_an_event_may_be_spaced_and_stand_among_other_fields(line: str) -> None:
    message = {"model": MODEL, "usage": {"input_tokens": 1, "output_tokens": 1}}

    assert facts_of(event("message_start", line, message=message)).served_model == MODEL


def test_an_events_data_may_be_on_several_lines() -> None:
    spread = 'data: {"type":\ndata: "error", "error":\ndata: {"type": "api_error"}}\n\n'

    assert facts_of(spread).error == "api_error"


@pytest.mark.parametrize(
    "words", ["message_stop", "message_delta", "message_start", '"error"', TRICKS, '{"type": "message_stop"}']
)
def test_a_name_inside_a_text_changes_nothing(words: str) -> None:
    before = fed((start() + BLOCK).encode()).facts()

    stream = fed((start() + BLOCK + text(words)).encode())

    assert stream.facts() == before
    assert not stream.at_end


@pytest.mark.parametrize(
    "strange",
    [
        event("message_later", message={"model": "other", "usage": {}}),
        event("error_later", error={"type": "strange"}),
        "event: message_stop\ndata: not JSON\n\n",
        'event: message_stop\ndata: {"type":"message_delta","usage":"much"}\n\n',
        'data: {"type":"message_stop"\n\n',
        'data: "message_stop"\n\n',
        "data: message_" + "[" * 100_000 + "\n\n",
        event("message_start"),
    ],
    ids=(
        "later message",
        "later error",
        "no JSON",
        "odd usage",
        "unclosed",
        "a string",
        "deep",
        "empty start",
    ),
)
def test_an_event_that_is_not_known_or_cannot_be_read_changes_nothing(strange: str) -> None:
    known = start() + BLOCK

    assert facts_of(known, strange) == facts_of(known)
    assert fed((strange + RECORDED).encode()).facts() == FACTS


def test_an_event_that_is_no_text_changes_nothing() -> None:
    assert fed(b'data: {"type":"message_stop","x":"\xff\xfe"}\n\n').at_end is True
    assert fed(b'data: {"type":"error","error":{"type":"\xff"}}\n\n').facts().error is None


def test_an_error_may_come_after_the_stream_began_well() -> None:
    stream = fed(
        (start() + text("He") + event("error", error={"type": "overloaded_error", "message": "m"})).encode()
    )

    facts = stream.facts()

    assert stream.at_end
    assert (facts.error, facts.finished, facts.served_model) == ("overloaded_error", False, MODEL)
    assert facts.metered is not None
    assert facts.metered.total.output_tokens == 1


@pytest.mark.parametrize("fields", [{}, {"error": None}, {"error": {"message": "m"}}])
def test_an_error_without_a_type_is_an_api_error(fields: dict[str, Any]) -> None:
    assert facts_of(event("error", **fields)).error == "api_error"


def test_counts_are_cumulative_so_that_the_last_one_stands() -> None:
    usage = usage_of(start(), delta({"output_tokens": 5}, None), delta({"output_tokens": 9}), STOP)

    assert usage.output_tokens == 9


def test_a_later_delta_that_leaves_a_count_out_leaves_it_as_it_was() -> None:
    facts = facts_of(
        start(), delta({"output_tokens": 9}), event("message_delta", delta={}), event("message_delta")
    )

    assert facts.stop_reason == "end_turn"
    assert facts.metered is not None
    assert facts.metered.total.output_tokens == 9


def test_the_last_counts_of_input_stand_for_tools_of_the_provider_make_them_grow() -> None:
    usage = usage_of(
        start(),
        delta({"input_tokens": 10_682, "output_tokens": 510, "server_tool_use": {"web_search_requests": 1}}),
        STOP,
    )

    assert (usage.input_tokens, usage.output_tokens, usage.web_search_requests) == (10_682, 510, 1)
    assert usage.cache_read_tokens == 4000


def test_the_split_of_cache_writes_is_the_first_events_and_their_total_the_last_ones() -> None:
    usage = usage_of(start(), delta({"cache_creation_input_tokens": 450, "output_tokens": 9}), STOP)

    assert (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (250, 200)


def test_speed_and_place_are_the_first_events() -> None:
    found = facts_of(start(), delta({"output_tokens": 9}), STOP).metered

    assert found is not None
    assert (found.lines[0].fast, found.lines[0].us_only) == (True, True)


def test_iterations_come_with_the_last_counts() -> None:
    iterations = [
        {"type": "compaction", "input_tokens": 7, "output_tokens": 3},
        {"type": "message", "model": "claude-opus-5-5", "input_tokens": 1, "output_tokens": 2},
    ]

    found = facts_of(start(), delta({"output_tokens": 9, "iterations": iterations}), STOP).metered

    assert found is not None
    assert [(line.model, line.usage.input_tokens, line.usage.output_tokens) for line in found.lines] == [
        (MODEL, 7, 3),
        ("claude-opus-5-5", 1, 2),
    ]


@pytest.mark.parametrize("usage", [{"output_tokens": -1}, {"output_tokens": 2**40}, {"input_tokens": -5}])
def test_counts_that_cannot_be_make_the_usage_unknown(usage: dict[str, Any]) -> None:
    facts = facts_of(start(), delta({"output_tokens": 9} | usage), STOP)

    assert (facts.metered, facts.finished, facts.served_model) == (None, True, MODEL)


@pytest.mark.parametrize(
    "events",
    [
        (start(),),
        (start(), BLOCK, text("He")),
        (start(), delta({"output_tokens": 9}, None)),
        (start(), delta(None), STOP),
        (start(), STOP),
    ],
    ids=("began", "text", "no stop reason", "no counts", "no delta"),
)
def test_a_stream_without_its_last_counts_is_not_finished(events: tuple[str, ...]) -> None:
    facts = facts_of(*events)

    assert not facts.finished
    assert facts.metered is not None


def test_a_stream_is_finished_by_its_last_counts_though_its_end_is_missing() -> None:
    stream = fed((start() + BLOCK + delta({"output_tokens": 15})).encode())

    assert stream.facts().finished
    assert not stream.at_end


def test_a_stream_that_never_said_what_was_read_has_an_unknown_usage() -> None:
    no_usage = event("message_start", message={"model": MODEL, "usage": None})

    assert facts_of(no_usage, delta({"output_tokens": 9}), STOP).metered is None
    assert usage_of(no_usage, delta({"input_tokens": 3, "output_tokens": 9}), STOP) == Usage(
        input_tokens=3, output_tokens=9
    )


def test_a_stream_that_never_named_its_model_has_an_unknown_usage() -> None:
    facts = facts_of(start(model=None), delta({"output_tokens": 9}), STOP)

    assert (facts.metered, facts.served_model, facts.finished) == (None, None, True)


@pytest.mark.parametrize(
    ("events", "empty"),
    [
        ((start(), delta({"output_tokens": 0}, "refusal"), STOP), True),
        ((start(), PING, delta({"output_tokens": 0}, "refusal"), STOP), True),
        ((start(), BLOCK, text("I"), BLOCK_STOP, delta({"output_tokens": 9}, "refusal"), STOP), False),
        ((start(), delta({"output_tokens": 0}), STOP), False),
    ],
)
def test_a_refusal_before_the_first_word_is_told_from_one_after_it(
    events: tuple[str, ...], empty: bool
) -> None:
    assert facts_of(*events).empty_refusal is empty


def test_facts_that_were_told_do_not_change_with_what_follows() -> None:
    stream = fed(start().encode())
    before = stream.facts()
    stream.feed((delta({"output_tokens": 15}) + STOP).encode())

    assert before.metered is not None
    assert before.metered.total.output_tokens == 1


def test_an_endless_event_is_given_up_and_what_follows_it_is_read() -> None:
    stream = fed(b'data: {"type":"message_stop","x":"')
    for _ in range(5):
        stream.feed(b"x" * (LONGEST_EVENT // 4))
    stream.feed(b'"}\n\n')
    at_end_after_the_long_one = stream.at_end
    stream.feed(RECORDED.encode())

    assert not at_end_after_the_long_one
    assert stream.facts() == FACTS


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_whatever_the_provider_streams_is_read(chunks: list[bytes]) -> None:
    stream = fed(*chunks)

    assert stream.facts() == fed(b"".join(chunks)).facts()


PIECES = st.sampled_from(
    [
        part.encode()
        for part in ("event: ", "data: ", "message_", '{"type":"error"}', '"error"', "\n", "\r", ":")
    ]
)


@given(st.lists(PIECES, max_size=20))
def test_any_soup_of_its_parts_says_the_same_in_one_piece_and_in_many(pieces: list[bytes]) -> None:
    many, one = fed(*pieces), fed(b"".join(pieces))

    assert (many.facts(), many.at_end) == (one.facts(), one.at_end)
