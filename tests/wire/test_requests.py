import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.call import Call
from tierwise.core.changes import REMOVED, Change
from tierwise.errors import MalformedRequest
from tierwise.wire.requests import counting_body, read_request, rewrite

HELLO = b'{"role":"user","content":"hello"}'
LARGEST_CAP = 2**31 - 1
OPTIONAL = (
    "stream", "metadata", "thinking", "output_config", "temperature", "top_p", "top_k", "tool_choice", "tools",
    "speed", "inference_geo", "fallbacks", "thread", "compaction", "context_management",
)  # fmt: skip


def a_body(*fields: bytes, messages: bytes = b"[" + HELLO + b"]") -> bytes:
    given_fields = b"".join(b"," + field for field in fields)
    return b'{"model":"claude-opus-5-5","max_tokens":1024,"messages":' + messages + given_fields + b"}"


def call_of(raw: bytes, headers: Mapping[str, str] | None = None) -> Call:
    return read_request(raw, headers or {})[0]


def rewritten(raw: bytes, *edits: tuple[tuple[str, ...], Any]) -> bytes:
    changes = tuple(Change(path=path, before=None, after=after, rule="r", why="w") for path, after in edits)
    return rewrite(read_request(raw, {})[1], changes)


def test_every_feature_that_routing_may_know_is_read() -> None:
    raw = a_body(
        b'"stream": true',
        b'"metadata":{"user_id":"u-1"}',
        b'"thinking":{"type":"enabled","budget_tokens":2048,"display":"omitted"}',
        b'"output_config":{"effort":"high","task_budget":{"type":"tokens","total":20000}}',
        b'"temperature":0.5,"top_k":40',
        b'"tool_choice":{"type":"any"}',
        b'"tools":[{"name":"f","input_schema":{"type":"object"}},{"type":"computer_20250124","name":"c"},'
        b'{"type":"custom","name":"g"},{"type":"web_search_20260209"},{"type":"computer_20250124"}]',
        b'"speed":"fast"',
        b'"inference_geo":"us"',
        b'"fallbacks":"default"',
        b'"thread":{"id":"t"}',
        b'"context_management":{"edits":[{"type":"compact_20260112"}]}',
        messages=b'[{"role":"user","content":"a"},{"role":"system","content":"b"},{"role":"assistant","content":"c"}]',
    )
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1, b-2,,c-3 ", "x-team": "billing"}

    call = call_of(raw, headers)

    assert call == Call(
        requested_model="claude-opus-5-5",
        max_tokens=1024,
        stream=True,
        body_bytes=len(raw),
        api_version="2026-10-21",
        betas=("a-1", "b-2", "c-3"),
        headers=headers,
        metadata_user_id="u-1",
        thinking="enabled",
        thinking_budget=2048,
        effort="high",
        task_budget=True,
        sampling={"temperature": 0.5, "top_k": 40},
        prefill=True,
        turns=3,
        system_turns=True,
        tool_choice="any",
        tool_types=("computer_20250124", "web_search_20260209"),
        speed="fast",
        inference_geo="us",
        compaction=True,
        fallbacks=True,
        thread=True,
    )


def test_a_thread_begins_with_the_body_that_holds_its_whole_conversation() -> None:
    call = call_of(a_body(b'"thread":{"type":"create"}'))

    assert (call.thread, call.begins_thread, call.continues_thread) == (True, True, False)
    assert call.opening == call_of(a_body()).opening


@pytest.mark.parametrize(
    "thread", [b'{"type":"continue","previous_message_id":"msg_1"}', b'{"type":"later"}', b'"create"', b"7"]
)
def test_of_any_other_thread_neither_the_opening_nor_the_length_is_known(thread: bytes) -> None:
    call = call_of(a_body(b'"thread":' + thread))

    assert (call.thread, call.continues_thread, call.opening) == (True, True, None)


def test_what_is_not_there_is_not_read() -> None:
    raw = a_body()

    call = call_of(raw)

    assert call == Call(
        requested_model="claude-opus-5-5", max_tokens=1024, body_bytes=len(raw), opening=call.opening
    )


def test_null_says_the_same_as_leaving_out() -> None:
    raw = a_body(*(b'"%s":null' % name.encode() for name in OPTIONAL))

    call = call_of(raw)

    assert call == Call(
        requested_model="claude-opus-5-5", max_tokens=1024, body_bytes=len(raw), opening=call.opening
    )
    assert not call_of(a_body(b'"output_config":{"task_budget":null}')).task_budget


@pytest.mark.parametrize(
    "field",
    [
        b'"stream":"true"',
        b'"metadata":[1]',
        b'"metadata":{"user_id":7}',
        b'"metadata":{"user_id":"\xff"}',
        b'"thinking":"adaptive"',
        b'"thinking":{"type":["adaptive"],"budget_tokens":"many"}',
        b'"thinking":{"budget_tokens":1e999}',
        b'"output_config":3',
        b'"output_config":{"effort":{"of":"mind"}}',
        b'"tool_choice":"any"',
        b'"tools":"all"',
        b'"tools":[7]',
        b'"tools":[{"type":null}]',
        b'"speed":1.5',
        b'"inference_geo":true',
        b'"context_management":"compact"',
        b'"unheard_of":{"deep":[{"er":1e999}]}',
    ],
)
def test_a_field_of_an_odd_type_is_not_understood_and_passes_untouched(field: bytes) -> None:
    raw = a_body(field)

    call, body = read_request(raw, {})

    assert call == Call(
        requested_model="claude-opus-5-5", max_tokens=1024, body_bytes=len(raw), opening=call.opening
    )
    assert rewrite(body, ()) is raw
    assert field in rewritten(raw, (("max_tokens",), 5))


@pytest.mark.parametrize(
    "value",
    [b'"hot"', b"[1]", b"true", b"1e999", b"9" * 5000, b'"\xff"', b"[" * 500 + b"]" * 500],
    ids=("string", "list", "true", "too large a float", "too long an int", "not UTF-8", "deep"),
)
def test_a_sampling_parameter_that_is_no_number_is_known_to_be_there_and_no_more(value: bytes) -> None:
    assert call_of(a_body(b'"temperature":' + value)).sampling == {"temperature": None}


@pytest.mark.parametrize(
    ("value", "number"), [(b"1", 1), (b"0.0", 0.0), (b"1e2", 100.0), (b"-3", -3), (b"10" + b"0" * 20, 10**21)]
)
def test_sampling_parameters_are_read_as_the_numbers_they_are(value: bytes, number: float) -> None:
    assert call_of(a_body(b'"top_k":' + value)).sampling == {"top_k": number}


@pytest.mark.parametrize(
    ("last", "prefill"),
    [
        (b'{"role":"assistant","content":"{"}', True),
        (b'{"role":"assistant","content":[{"type":"text","text":"{"}]}', True),
        (b'{"role":"assistant"}', True),
        (b'{"role":"user","content":"go on"}', False),
        (
            b'{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}}]}',
            False,
        ),
    ],
)
def test_an_answer_begun_by_the_caller_is_a_prefill_and_a_paused_turn_sent_back_is_none(
    last: bytes, prefill: bool
) -> None:
    assert call_of(a_body(messages=b"[%s,%s]" % (HELLO, last))).prefill is prefill


def test_a_body_without_messages_has_no_opening() -> None:
    call = call_of(a_body(messages=b"[]"))

    assert (call.turns, call.opening, call.prefill) == (0, None, False)


def test_compaction_may_be_a_field_of_its_own() -> None:
    assert call_of(a_body(b'"compaction":{}')).compaction
    assert not call_of(a_body(b'"context_management":{"edits":[{"type":"clear_thinking"}]}')).compaction


def test_of_a_field_that_is_there_twice_the_last_one_counts() -> None:
    raw = a_body(b'"max_tokens":7', b'"model":"claude-haiku-5-5"')

    call = call_of(raw)

    assert (call.requested_model, call.max_tokens) == ("claude-haiku-5-5", 7)
    assert rewritten(raw) == raw


def test_a_request_to_count_tokens_needs_no_cap() -> None:
    raw = b'{"model":"m","messages":[]}'

    call, _ = read_request(raw, {}, counting=True)

    assert call.max_tokens == LARGEST_CAP
    with pytest.raises(MalformedRequest):
        read_request(raw, {})


@pytest.mark.parametrize("cap", [0, -1, LARGEST_CAP, -LARGEST_CAP])
def test_the_cap_is_any_whole_number_that_a_ledger_can_hold(cap: int) -> None:
    assert call_of(b'{"model":"m","max_tokens":%d,"messages":[]}' % cap).max_tokens == cap


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "The body is not a JSON object: "),
        (b"hello", "The body is not a JSON object: "),
        (b"[]", "The body is not a JSON object: "),
        (b"null", "The body is not a JSON object: "),
        (a_body() + b"}", "The body is not a JSON object: "),
        (a_body()[:-1], "The body is not a JSON object: "),
        (a_body(b'"x":NaN'), "The body is not a JSON object: "),
        (a_body(b'"x":Infinity'), "The body is not a JSON object: "),
        (
            a_body(b'"x":"\\ud83d"'),
            "The body is not a JSON object: ",
        ),  # the provider refuses half an emoji too
        (a_body(b'"x":"a\nb"'), "The body is not a JSON object: "),
        (a_body(b'"\xff":1'), "The body is not a JSON object: "),
        (a_body(b'"x":' + b"[" * 100_000 + b"]" * 100_000), "The body is not a JSON object: "),
        (b'{"max_tokens":1,"messages":[]}', "model: Field required"),
        (b'{"model":null,"max_tokens":1,"messages":[]}', "model: Input should be a string"),
        (b'{"model":"\xff","max_tokens":1,"messages":[]}', "model: Input should be a string"),
        (b'{"model":"m","messages":[]}', "max_tokens: Field required"),
        (b'{"model":"m","max_tokens":"1","messages":[]}', "max_tokens: Input should be a whole number"),
        (b'{"model":"m","max_tokens":1.5,"messages":[]}', "max_tokens: Input should be a whole number"),
        (b'{"model":"m","max_tokens":true,"messages":[]}', "max_tokens: Input should be a whole number"),
        (
            b'{"model":"m","max_tokens":%d,"messages":[]}' % 10**30,
            "max_tokens: Input should be a whole number",
        ),
        (
            b'{"model":"m","max_tokens":2147483648,"messages":[]}',
            "max_tokens: Input should be a whole number",
        ),
        (b'{"model":"m","max_tokens":1}', "messages: Field required"),
        (a_body(messages=b'"hi"'), "messages: Input should be a list of messages, each with a role"),
        (a_body(messages=b"[7]"), "messages: Input should be a list of messages, each with a role"),
        (
            a_body(messages=b'[{"content":"hi"}]'),
            "messages: Input should be a list of messages, each with a role",
        ),
        (
            a_body(messages=b'[{"role":"\xff"}]'),
            "messages: Input should be a list of messages, each with a role",
        ),
    ],
)
def test_a_body_that_cannot_be_read_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(MalformedRequest) as malformed:
        read_request(raw, {})

    assert str(malformed.value).startswith(why)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(("model", "max_tokens", "messages", *OPTIONAL))
FRAGMENTS = st.sampled_from((b"\\ud800", b"NaN", b"1e999", b"\xff", b'"', b"{", b"]", b"\x00", b"9" * 400))


def read_or_malformed(raw: bytes) -> None:
    with suppress(MalformedRequest):
        read_request(raw, {})


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_malformed(raw: bytes) -> None:
    read_or_malformed(raw)


@given(st.dictionaries(NAMES, JSON))
def test_arbitrary_values_of_known_fields_are_read_or_malformed(fields: dict[str, Any]) -> None:
    read_or_malformed(json.dumps(fields).encode())


@given(st.dictionaries(NAMES, JSON), st.integers(0, 400), FRAGMENTS | st.binary(max_size=4))
def test_a_damaged_body_is_read_or_malformed(fields: dict[str, Any], at: int, damage: bytes) -> None:
    whole = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]} | fields
    raw = json.dumps(whole).encode()

    read_or_malformed(raw[:at] + damage + raw[at:])


@settings(deadline=None)
@given(NAMES, st.integers(1, 3000))
def test_a_deep_value_is_read_or_malformed(name: str, depth: int) -> None:
    read_or_malformed(a_body(b'"%s":%s%s' % (name.encode(), b"[" * depth, b"]" * depth)))
    read_or_malformed(a_body(b'"%s":%s1%s' % (name.encode(), b'{"type":' * depth, b"}" * depth)))


def test_without_changes_the_bytes_are_those_that_came() -> None:
    raw = b' { "messages" : [ ] , "max_tokens":1,  "model":"m", "x" : 1.0e+00 }\n'

    assert rewritten(raw) == raw


def test_a_rewrite_keeps_the_order_of_fields_and_adds_new_ones_behind() -> None:
    raw = a_body(b'"z":1', b'"a":2')

    written = rewritten(raw, (("max_tokens",), 5), (("speed",), "fast"), (("model",), "claude-haiku-5-5"))

    assert list(json.loads(written)) == ["model", "max_tokens", "messages", "z", "a", "speed"]
    assert json.loads(written) == json.loads(raw) | {
        "max_tokens": 5,
        "speed": "fast",
        "model": "claude-haiku-5-5",
    }


@pytest.mark.parametrize(
    ("field", "edits", "after"),
    [
        (b'"thinking":{"type":"enabled"}', [(("thinking",), {"type": "adaptive"})], {"type": "adaptive"}),
        (b'"thinking":{"type":"enabled"}', [(("thinking",), REMOVED)], None),
        (b'"speed":"fast"', [(("thinking",), REMOVED)], None),
        (
            b'"thinking":{"type":"enabled","display":"omitted","budget_tokens":9}',
            [(("thinking", "type"), "adaptive"), (("thinking", "budget_tokens"), REMOVED)],
            {"type": "adaptive", "display": "omitted"},
        ),
        (b'"thinking":{"type":"enabled"}', [(("thinking", "type"), REMOVED)], None),
        (b'"thinking":{}', [(("thinking", "type"), REMOVED)], {}),
        (b'"thinking":"odd"', [(("thinking", "type"), REMOVED)], "odd"),
        (b'"thinking":"odd"', [(("thinking", "type"), "adaptive")], {"type": "adaptive"}),
        (b'"speed":"fast"', [(("thinking", "type"), "adaptive")], {"type": "adaptive"}),
        (
            b'"thinking":{"a":1}',
            [(("thinking",), {"type": "enabled"}), (("thinking", "budget_tokens"), 9)],
            {"type": "enabled", "budget_tokens": 9},
        ),
        (
            b'"thinking":{"a":1}',
            [(("thinking",), REMOVED), (("thinking", "type"), "adaptive")],
            {"type": "adaptive"},
        ),
    ],
)
def test_changes_are_applied_one_after_another(
    field: bytes, edits: list[tuple[tuple[str, ...], Any]], after: Any
) -> None:
    assert json.loads(rewritten(a_body(field), *edits)).get("thinking") == after


def test_a_value_put_in_by_a_change_is_not_altered_by_the_next() -> None:
    adaptive = {"type": "adaptive"}

    rewritten(a_body(), (("thinking",), adaptive), (("thinking", "display"), "omitted"))

    assert adaptive == {"type": "adaptive"}


def test_a_change_deeper_than_two_keys_is_a_mistake() -> None:
    with pytest.raises(AssertionError):
        rewritten(a_body(), (("a", "b", "c"), 1))


def an_array(space: bytes, items: list[bytes]) -> bytes:
    return b"[" + space + (b"," + space).join(items) + space + b"]"


def an_object(space: bytes, keys: list[bytes], items: list[bytes]) -> bytes:
    pairs = [b'"%s"%s:%s' % (key, space, item) for key, item in zip(keys, items, strict=False)]
    return b"{" + space + b",".join(pairs) + space + b"}"


def json_value(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    items = st.lists(inner, max_size=3)
    return st.builds(an_array, SPACES, items) | st.builds(an_object, SPACES, KEYS, items)


SPACES = st.sampled_from((b"", b" ", b"\n", b" \t\r\n"))
KEYS = st.lists(st.sampled_from((b"a", b"\\u00e9", b"\xc3\xa9", b"")), min_size=3, max_size=3)
NUMBERS = st.sampled_from((b"1.0", b"1E+2", b"-0", b"0.10", b"9" * 30, b"1e999", b"true", b"null"))


def a_string(text: str, *, escaped: bool) -> bytes:
    return json.dumps(text, ensure_ascii=escaped).encode()


STRINGS = st.builds(a_string, st.text(max_size=8), escaped=st.booleans())
RAW = st.recursive(NUMBERS | STRINGS, json_value, max_leaves=8)
OTHERS = st.dictionaries(
    st.sampled_from(("stop_sequences", "système", "x y", "")) | st.text(max_size=5).map("x".__add__),
    RAW,
    max_size=4,
)


@given(OTHERS, SPACES)
def test_fields_that_no_change_names_keep_their_bytes(others: dict[str, bytes], space: bytes) -> None:
    fields = {"model": b'"m"', "max_tokens": b"9", "messages": b"[%s]" % HELLO} | others
    parts = [json.dumps(name).encode() + space + b":" + space + raw for name, raw in fields.items()]
    raw = space + b"{" + b",".join(parts) + b"}" + space

    written = rewritten(raw, (("model",), "n"), (("output_config", "effort"), "low"))

    expected = {"model": b'"n"', **{name: raw for name, raw in fields.items() if name != "model"}}
    expected["output_config"] = b'{"effort":"low"}'
    kept = msgspec.json.decode(written, type=dict[str, msgspec.Raw])
    assert list(kept) == list(expected)
    assert {name: bytes(raw) for name, raw in kept.items()} == expected


@given(OTHERS)
def test_fields_beside_a_changed_one_in_an_inner_object_keep_their_bytes(others: dict[str, bytes]) -> None:
    inner = {"effort": b'"high"'} | others
    field = b",".join(json.dumps(name).encode() + b":" + raw for name, raw in inner.items())

    written = rewritten(a_body(b'"output_config":{%s}' % field), (("output_config", "effort"), "low"))

    outer = msgspec.json.decode(written, type=dict[str, msgspec.Raw])
    kept = msgspec.json.decode(outer["output_config"], type=dict[str, msgspec.Raw])
    assert {name: bytes(raw) for name, raw in kept.items()} == inner | {"effort": b'"low"'}


def opening(*first: Any, later: tuple[Any, ...] = (), **dump: Any) -> str | None:
    turns = [{"role": "user", "content": list(first)}, *later]
    return call_of(a_body(messages=json.dumps(turns, **dump).encode())).opening


TEXT = {"type": "text", "text": 'say "cache_control": {} and more'}
IMAGE = {"type": "image", "source": {"type": "base64", "data": "AAAA"}}
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
ANSWER = {"role": "assistant", "content": "yes"}


@pytest.mark.parametrize(
    "dump", [{"separators": (",", ":")}, {}, {"indent": 2}], ids=("compact", "spaced", "indented")
)
@pytest.mark.parametrize(
    "marked",
    [
        [TEXT | MARK, IMAGE],
        [MARK | TEXT, IMAGE],
        [TEXT, IMAGE | MARK],
        [TEXT | MARK, IMAGE | MARK],
        [TEXT | {"cache_control": None}, IMAGE],
        [{"type": TEXT["type"], **MARK, "text": TEXT["text"]}, IMAGE],
    ],
    ids=("last", "first", "second block", "both blocks", "null", "between"),
)
def test_a_cache_mark_that_moves_along_does_not_make_another_conversation(
    marked: list[Any], dump: dict[str, Any]
) -> None:
    assert opening(*marked, **dump) == opening(TEXT, IMAGE, **dump)


def test_a_conversation_has_one_opening_however_long_it_gets() -> None:
    assert opening(TEXT) == opening(TEXT, later=(ANSWER,)) == opening(TEXT, later=(ANSWER, ANSWER))


@given(st.text(max_size=50), st.text(max_size=50))
def test_different_first_messages_open_different_conversations(one: str, other: str) -> None:
    same = opening({"type": "text", "text": one}) == opening({"type": "text", "text": other})

    assert same is (one == other)


def test_long_first_messages_differ_by_either_end_and_by_their_length() -> None:
    middle = "x" * 20_000

    openings = {opening(text) for text in (middle, "a" + middle[1:], middle[1:] + "a", middle + "x")}

    assert len(openings) == 4


def test_the_role_of_the_first_message_is_part_of_the_opening() -> None:
    as_user, as_system = (
        call_of(a_body(messages=b'[{"role":"%s","content":"a"}]' % role)) for role in (b"user", b"system")
    )

    assert as_user.opening != as_system.opening


def counted(raw: bytes, *edits: tuple[tuple[str, ...], Any]) -> Any:
    changes = tuple(Change(path=path, before=None, after=after, rule="r", why="w") for path, after in edits)
    return json.loads(counting_body(read_request(raw, {})[1], changes))


def test_a_body_to_be_counted_holds_what_makes_the_prompt_and_nothing_else() -> None:
    raw = a_body(b'"system":"Be brief."', b'"stream":true', b'"temperature":0.5', b'"metadata":{}')

    assert counted(raw) == {
        "model": "claude-opus-5-5",
        "system": "Be brief.",
        "messages": json.loads(b"[" + HELLO + b"]"),
    }


def test_a_body_is_counted_as_it_would_be_sent() -> None:
    raw = a_body(b'"thinking":{"type":"adaptive"}', b'"output_config":{"effort":"high"}')
    edits = [
        (("model",), "claude-haiku-5-5"),
        (("max_tokens",), 9),
        (("thinking",), REMOVED),
        (("output_config", "effort"), REMOVED),
        (("temperature",), REMOVED),
    ]

    assert counted(raw, *edits) == {
        "model": "claude-haiku-5-5",
        "messages": json.loads(b"[" + HELLO + b"]"),
    }


def test_what_is_counted_keeps_the_callers_bytes() -> None:
    spaced = b'[ {"role":"user",  "content":"caf\\u00e9"} ]'

    assert spaced in counting_body(read_request(a_body(messages=spaced), {})[1], ())
