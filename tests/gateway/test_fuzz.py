"""Whatever a caller sends: an error of ours, well shaped, or the provider's own answer; and no call is lost."""

import asyncio
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.asgi import Got, Pairs, call, gateway_in_memory
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.providers import SandboxUpstream
from tierwise.engine.headers import CREDENTIALS
from tierwise.gateway.app import Gateway
from tierwise.wire.errors import WIRE_ERRORS

OURS: Final = {code.encode(): error for code, error in WIRE_ERRORS.items() if error.status < 500}
"""What a caller can bring about: errors of ours that are not ours."""

NUMBERS: Final = (
    b"0",
    b"-1",
    b"1",
    b"9",
    b"512",
    b"4096",
    b"2147483648",
    b"-9223372036854775809",
    b"1e999",
    b"1.5",
    b"-0.0",
)
TEXTS: Final = (
    b'""',
    b'"task/extraction"',
    b'"task-synthesis"',
    b'"task/"',
    b'"task/\\r\\nset-cookie: a=b"',
    b'"claude-opus-5-5"',
    b'"claude-haiku-4-5-20251001"',
    b'"\\ud800"',
    b'"task/\\ud800"',
    b'"\\u0000"',
    b'"caf\xc3\xa9"',
    b'"\xff"',
    b'"adaptive"',
    b'"enabled"',
    b'"disabled"',
    b'"max"',
    b'"user"',
    b'"assistant"',
    b'"system"',
)
NESTED: Final = (b"[" * 100 + b"]" * 100, b"[" * 5000 + b"]" * 5000, b'{"a":' * 2000 + b"1" + b"}" * 2000)
FIELDS: Final = (
    b"model", b"max_tokens", b"messages", b"stream", b"system", b"tools", b"tool_choice", b"thinking", b"output_config",
    b"metadata", b"temperature", b"top_p", b"top_k", b"speed", b"inference_geo", b"compaction", b"fallbacks", b"thread",
    b"context_management", b"cache_control", b"a later field", b"type", b"role", b"content", b"budget_tokens",
    b"effort", b"user_id", b"name", b"\\ud800",
)  # fmt: skip


def _object(pairs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """An object, its keys as often as they are given."""
    return b"{" + b",".join(b'"%b":%b' % pair for pair in pairs) + b"}"


values = st.recursive(
    st.sampled_from((b"null", b"true", b"false", *NUMBERS, *TEXTS, *NESTED))
    | st.text(max_size=8).map(lambda text: json.dumps(text).encode()),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.lists(st.tuples(st.sampled_from(FIELDS), inner), max_size=3).map(_object)
    ),
    max_leaves=6,
)

SOUND: Final[Mapping[bytes, tuple[bytes, ...]]] = {
    b"model": (
        b'"task/extraction"',
        b'"task/synthesis"',
        b'"claude-opus-5-5"',
        b'"claude-haiku-5-5"',
        b'"task/nothing"',
    ),
    b"max_tokens": (b"1", b"100", b"8192"),
    b"messages": (
        b'[{"role":"user","content":"Hi"}]',
        b'[{"role":"user","content":[{"type":"text","text":"Hi"}]}]',
        b'[{"role":"user","content":"Hi"},{"role":"assistant","content":"{"}]',
        b'[{"role":"user","content":"A"},{"role":"assistant","content":"B"},{"role":"user","content":"C"}]',
    ),
}
MORE: Final[Mapping[bytes, tuple[bytes, ...]]] = {
    b"stream": (b"true", b"false"),
    b"thinking": (b'{"type":"adaptive"}', b'{"type":"enabled","budget_tokens":1024}', b'{"type":"disabled"}'),
    b"output_config": (b'{"effort":"max"}', b'{"effort":"low","format":null}'),
    b"tools": (b'[{"name":"look","input_schema":{"type":"object"}}]',),
    b"tool_choice": (b'{"type":"any"}', b'{"type":"tool","name":"look"}'),
    b"temperature": (b"0.5", b"1"),
    b"thread": (b'{"id":"thread_1"}',),
    b"metadata": (b'{"user_id":"u"}',),
}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sound request, with some of its fields odd, missing, doubled or new."""
    pairs = [(name, draw(st.sampled_from(choices))) for name, choices in SOUND.items()]
    more = draw(st.lists(st.sampled_from(sorted(MORE)), max_size=3, unique=True))
    pairs += [(name, draw(st.sampled_from(MORE[name]))) for name in more]
    pairs += draw(st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=2))
    if draw(st.booleans()):
        pairs = draw(st.permutations(pairs))
    dropped = draw(st.sampled_from((None,) * 7 + (0, 1, 2)))
    return _object([pair for place, pair in enumerate(pairs) if place != dropped])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound request with a few bytes cut out or put in."""
    raw = draw(mutated())
    at = draw(st.integers(0, len(raw)))
    return raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(0, 3)) :]


bodies = mutated() | mutated() | mutated() | mutated() | damaged() | st.binary(max_size=60) | values

NAMES: Final = (
    b"x-tierwise-task-type", b"x-tierwise-task-id", b"x-tierwise-run-id", b"x-tierwise-agent", b"anthropic-version",
    b"anthropic-beta", b"x-api-key", b"authorization", b"connection", b"content-type", b"x-sandbox-fault", b"x-later",
    b"x-claude-code-session-id", b"te", b"accept-encoding",
)  # fmt: skip
field_values = st.sampled_from(
    (
        b"extraction",
        b"synthesis",
        b"nothing",
        b"2026-10-21",
        b"2023-06-01",
        b"unknown-fields",
        b"error-after:2",
        b"x-api-key",
    )
) | st.binary(max_size=12).map(
    lambda raw: bytes(byte for byte in raw if byte >= 0x20 and byte != 0x7F).strip()
)
headers = st.lists(st.tuples(st.sampled_from(NAMES), field_values), max_size=4)

MESSAGES: Final = ("POST", "/v1/messages")
PATHS: Final = (
    "/v1/messages/count_tokens",
    "/v1/messages/batches",
    "/v1/models",
    "/v1/x",
    "/tierwise/health",
    "/a\xe9",
)
requests = st.sampled_from(
    (MESSAGES,) * 40
    + tuple((method, path) for method in ("POST", "GET", "PUT", "HEAD") for path in PATHS)
    + (("GET", "/v1/messages"), ("PUT", "/v1/messages"), ("POST", "/v1/messages/count_tokens"))
)


def test_no_request_crashes_hangs_or_is_lost(tmp_path: Path) -> None:
    upstream = SandboxUpstream()
    path = tmp_path / "ledger.sqlite3"
    policy = book(TWO_TIERS + '[[match]]\nuser_id = "u*"\ntask_type = "synthesis"\n')
    read = 0

    with asyncio.Runner() as runner, entered(runner, gateway_in_memory(path, upstream, policy=policy)) as app:

        @settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(request=requests, body=bodies, more=headers, signed=st.sampled_from((True,) * 9 + (False,)))
        @example(request=MESSAGES, body=b'{"temperature":1e999}', more=[], signed=True)
        @example(request=MESSAGES, body=b"[" * 100_000, more=[], signed=True)
        def ask(request: tuple[str, str], body: bytes, more: list[tuple[bytes, bytes]], signed: bool) -> None:
            nonlocal read
            method, target = request
            sound: Pairs = ((b"x-api-key", b"sk"), (b"anthropic-version", b"2026-10-21")) if signed else ()
            upstream.requests.clear()
            upstream.replies.clear()
            got = runner.run(call(app, method, target, headers=[*sound, *more], body=body))
            read += request == MESSAGES and got.header(b"x-tierwise-call-id") is not None
            check(got, body, upstream)

        ask()

    recorded = calls(path)
    assert len([row for row in recorded if row["attempt"] == 1]) == read > 200
    assert [row["call_id"] for row in recorded if row["ending"] not in {"posted", "failed"}] == []
    assert {row["ending"] for row in recorded} == {"posted", "failed"}
    assert all(row["cost_nanos"] is not None for row in recorded if row["ending"] == "posted")
    assert {row["tier"] for row in recorded} == {"fast", "frontier", None}


@contextmanager
def entered(runner: asyncio.Runner, gateway: AbstractAsyncContextManager[Gateway]) -> Generator[Gateway]:
    """A gateway that lives on the runner's loop, between its runs."""
    app = runner.run(gateway.__aenter__())
    try:
        yield app
    finally:
        runner.run(gateway.__aexit__(None, None, None))


def check(got: Got, body: bytes, upstream: SandboxUpstream) -> None:
    """An answer is ours, whole and well shaped; or the provider's, byte for byte."""
    assert got.ended
    code = got.header(b"x-tierwise-error")
    if code is not None:
        error = OURS[code]
        told = got.json()
        assert (got.status, told["type"], told["error"]["type"]) == (error.status, "error", error.type)
        assert told["error"]["message"]
        assert upstream.requests == []
    elif upstream.requests:
        sent, reply = upstream.requests[-1], upstream.replies[-1]  # those before were tried again
        assert (got.status, got.body) == (reply.status, reply.body)
        assert not CREDENTIALS.intersection(name for name, _ in got.headers)
        unchanged_but(sent.body, body, got.header(b"x-tierwise-changes"))
    else:
        assert got.status in {200, 404}


fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def unchanged_but(sent: bytes, body: bytes, told: bytes | None) -> None:
    """What was sent on is the body, but for the fields that the answer names; what was said never changes."""
    if sent == body:
        return
    before, after = ({name: bytes(raw) for name, raw in fields_of(text).items()} for text in (body, sent))
    if told is None:  # tokens are counted: nothing is told
        kept = {"messages", "system", "tools"}
    else:
        kept = (before.keys() | after.keys()) - {path.split(".")[0] for path in told.decode().split(", ")}
        assert kept >= {"messages"}
    assert {name: before.get(name) for name in kept} == {name: after.get(name) for name in kept}
