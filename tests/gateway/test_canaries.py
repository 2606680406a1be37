"""Secrets that are planted wherever one can come in, and looked for wherever something goes out."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.client import IncompleteRead
from pathlib import Path
from typing import Any, Final

import pytest

from support.asgi import call, gateway_in_memory
from support.policies import TWO_TIERS, with_openai, with_upstream
from support.servers import Peer, Server, served
from support.transcripts import message
from support.waiting import eventually
from tierwise.sandbox.server import Answer, Running
from tierwise.upstream.port import Outgoing, Reply

CANARY: Final = "canary"
"""In every secret. Nothing else of a test has it."""

CLIENT: Final = "twk_canary-of-the-client-0123456789abcdefghijkl"
OWN: Final = "sk-ant-canary-of-the-gateway"
OWN_OPENAI: Final = "sk-canary-of-the-gateway-too"
CALLER: Final = "sk-ant-canary-of-the-caller"
OTHER: Final = "twk_canary-of-another-client-0123456789abcdefgh"

POLICY: Final = f"""
warn_url = "WARN"
{TWO_TIERS}
[[clients]]
name = "ci"
key_sha256 = "{sha256(CLIENT.encode()).hexdigest()}"

[[clients]]
name = "of-openai"
key_sha256 = "{sha256(OTHER.encode()).hexdigest()}"

[[clients]]
name = "narrow"
key_sha256 = "{sha256(CALLER.encode()).hexdigest()}"
task_types = ["synthesis"]

[[budgets]]
scope = "key"
limit_usd = "0.002"
"""

BODY: Final[dict[str, Any]] = {
    "model": "task/extraction",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hi"}],
}


USAGE: Final = {"prompt_tokens": 100, "completion_tokens": 20}
CHAT_REPLY: Final = json.dumps({"model": "gpt-5-mini", "choices": [], "usage": USAGE}).encode()
CHAT_EVENTS: Final = b"data: %b\n\ndata: [DONE]\n\n" % CHAT_REPLY


async def a_provider(peer: Peer, server: Server) -> None:
    """Answers by the word in a header: well, with an error that repeats the key, without an end, or not at all."""
    while True:
        heard = await peer.request()
        server.requests.append(heard)
        if b"x-how: echo" in heard:
            secrets = f"{OWN} {OWN_OPENAI}"
            text = json.dumps(
                {"type": "error", "error": {"type": "authentication_error", "message": secrets}}
            )
            await peer.say(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text.encode()))
        elif b"x-how: cut" in heard:
            await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{")
            return
        elif b"x-how: drop" in heard:
            return
        else:
            kind, reply = reply_to(heard)
            head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
            await peer.say(head % (kind, len(reply)) + reply)


def reply_to(heard: bytes) -> tuple[bytes, bytes]:
    """Content type and body of a reply that is whole."""
    if b" /v1/messages/batches/msgbatch_1/results " in heard:
        result = b'{"custom_id":"a","result":{"type":"succeeded","message":%b}}\n' % message()
        return b"application/x-jsonl", result
    if b" /v1/messages/batches" in heard:
        named = b'"id":"msgbatch_1"'
        listed = b"GET /v1/messages/batches " in heard
        return b"application/json", b'{"data":[{%b}]}' % named if listed else b"{%b}" % named
    if b'"stream":true' in heard.replace(b" ", b""):
        return b"text/event-stream", CHAT_EVENTS
    return b"application/json", CHAT_REPLY if heard.startswith(b"POST /v1/chat") else message()


@pytest.fixture
def provider() -> Iterator[Server]:
    with in_a_thread() as server:
        yield server


@contextmanager
def in_a_thread() -> Generator[Server]:
    up, found = threading.Event(), list[tuple[Server, asyncio.AbstractEventLoop, asyncio.Event]]()

    async def run() -> None:
        async with served(a_provider) as server:
            ended = asyncio.Event()
            found.append((server, asyncio.get_running_loop(), ended))
            up.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert up.wait(10)
    server, loop, ended = found[0]
    yield server
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)


@contextmanager
def gateway(folder: Path, base_url: str, *options: str) -> Generator[tuple[Running, int]]:
    """A gateway with a secret in everything that it is told; what it says goes into files."""
    text = with_openai(POLICY.replace("WARN", f"{base_url}/hooks/of-the-policy"), f"{base_url}/v1")
    (folder / "tierwise.toml").write_text(with_upstream(text, base_url))
    for name, key in KEY_FILES.items():
        (folder / name).write_text(key)
        (folder / name).chmod(0o600)
    environment = {
        **os.environ,
        "ANTHROPIC_API_KEY_FILE": str(folder / "key"),
        "OPENAI_API_KEY_FILE": str(folder / "openai-key"),
        "TIERWISE_LEDGER": str(folder / "ledger.sqlite3"),
        "TIERWISE_WARN_URL": f"{base_url}/hooks/{CANARY}-of-the-hook",
        "TIERWISE_VALKEY_PASSWORD": f"{CANARY}-of-valkey",
        "HTTP_PROXY": "",
    }
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--quiet", "--log-level", "debug"]
    command += ["--policy", str(folder / "tierwise.toml"), *options]
    with (
        (folder / "stderr").open("wb") as stderr,
        (folder / "stdout").open("wb") as stdout,
        subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr) as process,
    ):
        try:
            address = eventually((folder / "stdout").read_text, until=lambda said: said.endswith("\n"))
            yield Running(address.strip()), process.pid
        finally:
            process.terminate()
            process.wait(60)


KEY_FILES: Final = {"key": OWN, "openai-key": OWN_OPENAI}
KEY: Final = {"x-api-key": CLIENT}
BEARER: Final = {"authorization": f"Bearer {OTHER}"}
VERSION: Final = {"anthropic-version": "2023-06-01"}
STRANGER: Final = {"X-API-KEY": f"{CANARY}-stranger", "Authorization": f"Bearer {CANARY}-token"}


def every_kind_of_call(at: Running) -> Iterator[Answer]:
    """Good ones, and one of each kind that fails."""
    raw = json.dumps(BODY).encode()

    def post(headers: dict[str, str], body: bytes = raw, path: str = "/v1/messages") -> Answer:
        return at.send("POST", path, body, {**VERSION, **headers})

    yield post({**KEY, "Cookie": f"session={CANARY}-cookie"})
    yield post({"AUTHORIZATION": f"bearer {CLIENT}", "Proxy-Authorization": f"Basic {CANARY}-proxy"})
    yield post(STRANGER)
    yield post({"x-api-key": f"{CANARY} \u00e9"})
    yield post({"x-api-key": CALLER})
    yield post(KEY, b'{"model": "' + CLIENT.encode())
    yield post(KEY, json.dumps({**BODY, "max_tokens": CLIENT}).encode())
    yield post(KEY, json.dumps({**BODY, CLIENT: [], "messages": CLIENT}).encode())
    yield post(KEY, json.dumps({**BODY, "model": "task/nothing"}).encode())
    yield from every_kind_of_batch(at)
    yield post(KEY, path="/v1/messages/count_tokens")
    yield post({**KEY, "x-how": "cut"})
    yield post({**KEY, "x-how": "drop"})
    yield post({**KEY, "x-how": "drop"}, path="/v1/files")
    yield from every_kind_of_openai_call(at)
    yield from (post(KEY, json.dumps({**BODY, "max_tokens": 512}).encode()) for _ in range(12))
    yield at.send("GET", "/tierwise/health", headers=STRANGER)
    yield at.send("GET", "/tierwise/meters", headers=KEY)
    yield at.send("GET", f"/nowhere?key={CANARY}", headers=KEY)


def every_kind_of_batch(at: Running) -> Iterator[Answer]:
    """A batch's whole life, and what fails of it."""
    batches = "/v1/messages/batches"
    one = json.dumps({"requests": [{"custom_id": "a", "params": BODY}]}).encode()

    def ask(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        return at.send(method, batches + path, body, {**VERSION, **headers})

    yield ask("POST", "", {**KEY, "Cookie": f"session={CANARY}-cookie"}, one)
    yield ask("POST", "/msgbatch_1/cancel", KEY)
    yield from (ask("GET", path, KEY) for path in ("", "/msgbatch_1", "/msgbatch_1/results"))
    yield ask("DELETE", "/msgbatch_1", {"AUTHORIZATION": f"bearer {CLIENT}"})
    for headers in (STRANGER, {"x-api-key": CALLER}, {"x-api-key": OTHER}):
        yield from (ask("GET", path, headers) for path in ("", "/msgbatch_1", "/msgbatch_1/results"))
        yield ask("POST", "", headers, one)
    yield ask("POST", "", KEY, json.dumps({CLIENT: [], "requests": CLIENT}).encode())
    yield ask("POST", "", KEY, json.dumps({"requests": [{"custom_id": "a", "params": CLIENT}]}).encode())
    yield ask("POST", "", {**KEY, "x-how": "cut"}, one)
    yield ask("POST", "", {**KEY, "x-how": "drop"}, one)
    with suppress(IncompleteRead):
        ask("GET", "/msgbatch_1/results", {**KEY, "x-how": "cut"})


def every_kind_of_openai_call(at: Running) -> Iterator[Answer]:
    """The same, by OpenAI's clients."""

    def post(headers: dict[str, str], path: str = "/v1/chat/completions", **fields: Any) -> Answer:
        return at.send("POST", path, json.dumps({**BODY, **fields}).encode(), headers)

    yield post({**BEARER, "cookie": f"session={CANARY}-cookie", "anthropic-beta": "kept-from-them"})
    yield post({"x-api-key": OTHER, "openai-organization": "ours"})
    yield post({**BEARER, "x-api-key": OWN}, stream=True)
    yield post(BEARER, "/v1/responses", input="Hi", max_output_tokens=50)
    yield post(STRANGER)
    yield post({"authorization": f"Bearer {OWN_OPENAI}"})
    yield post({"authorization": f"Bearer {CALLER}"})
    yield post(BEARER, max_tokens=OTHER)
    wrong: dict[str, Any] = {OTHER: [], "messages": OTHER}
    yield post(BEARER, **wrong)
    yield post(BEARER, model="task/nothing")
    yield post(BEARER, "/v1/embeddings", input=CANARY)
    yield post(BEARER, "/v1/moderations")
    yield post({**BEARER, "x-how": "cut"})
    yield post({**BEARER, "x-how": "drop"})
    yield post({**BEARER, "x-how": "drop"}, "/v1/moderations")
    yield at.send("GET", "/v1/models", headers=BEARER)


def test_no_secret_is_in_anything_that_the_gateway_writes_or_says(tmp_path: Path, provider: Server) -> None:
    with gateway(tmp_path, provider.base_url) as (at, pid):
        answers = list(every_kind_of_call(at))
        echoed = [
            at.send("POST", path, json.dumps(BODY).encode(), {**KEY, "x-how": "echo"})
            for path in ("/v1/messages", "/v1/chat/completions", "/v1/messages/batches/msgbatch_1/cancel")
        ]
        eventually(lambda: warned(provider), until=bool)
        command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
        while_it_runs = {path.name: path.read_bytes() for path in tmp_path.glob("ledger*")}

    assert {answer.status for answer in answers} >= {200, 400, 401, 403, 404, 429, 502}
    assert not [answer for answer in answers if CANARY in str((answer.headers, answer.body))]
    assert CANARY not in str([answer.headers for answer in echoed])
    assert CANARY.encode() not in command_line
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name not in KEY_FILES}
    assert {"ledger.sqlite3", "ledger.sqlite3-wal"} <= while_it_runs.keys()
    assert {"stderr", "stdout", "ledger.sqlite3", "tierwise.toml"} <= written.keys()
    assert written["stderr"]
    assert not [name for name, data in (*while_it_runs.items(), *written.items()) if CANARY.encode() in data]


def test_the_provider_gets_the_gateways_key_and_no_other_secret(tmp_path: Path, provider: Server) -> None:
    with gateway(tmp_path, provider.base_url) as (at, _):
        list(every_kind_of_call(at))
        eventually(lambda: warned(provider), until=bool)

    calls = [heard.partition(b"\r\n\r\n")[0] for heard in provider.requests if b"/hooks/" not in heard]
    openais = [head for head in calls if b"anthropic-version" not in head]
    assert {head.split()[1] for head in openais} == OPENAIS
    assert len(calls) > len(openais)
    for head in calls:
        here, there = (OWN_OPENAI, OWN) if head in openais else (OWN, OWN_OPENAI)
        name = "authorization: Bearer " if head in openais else "x-api-key: "
        assert head.count(CANARY.encode()) == f"{head.decode()}\r\n".count(f"{name}{here}\r\n") == 1
        assert there.encode() not in head
    assert not [heard for heard in warned(provider) if any(key.encode() in heard for key in KEYS)]


OPENAIS: Final = {b"/v1/chat/completions", b"/v1/responses", b"/v1/moderations", b"/v1/models"}
"""Where the calls of OpenAI's clients go that leave."""
KEYS: Final = (CLIENT, OTHER, OWN, OWN_OPENAI)


@pytest.mark.parametrize(("name", "path"), [("key", "/v1/messages"), ("openai-key", "/v1/chat/completions")])
def test_a_key_file_that_changes_is_taken_over_and_the_other_familys_is_not(
    tmp_path: Path, provider: Server, name: str, path: str
) -> None:
    def sent(at: Running) -> bytes:
        assert at.send("POST", path, json.dumps(BODY).encode(), KEY).status == 200
        return provider.requests[-1].partition(b"\r\n\r\n")[0]

    with gateway(tmp_path, provider.base_url) as (at, _):
        assert KEY_FILES[name].encode() in sent(at)
        (tmp_path / name).write_text("sk-canary-that-is-new")
        eventually((tmp_path / "stderr").read_text, until=lambda said: "is another now" in said)
        told = sent(at)

    assert b"sk-canary-that-is-new" in told
    assert not [key for key in KEYS if key.encode() in told]
    assert "that-is-new" not in (tmp_path / "stderr").read_text()


def warned(provider: Server) -> list[bytes]:
    """The warnings that came to the secret address."""
    return [heard for heard in provider.requests if heard.startswith(b"POST /hooks/")]


class Crashing:
    """A way to the provider with a mistake in it."""

    async def send(self, request: Outgoing) -> Reply:
        secret = dict(request.headers)[b"x-api-key"]
        raise ZeroDivisionError(len(secret))

    async def close(self) -> None:
        pass


def test_a_handler_that_crashes_tells_its_log_where_and_nobody_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    async def talk() -> bytes:
        async with gateway_in_memory(tmp_path / "ledger.sqlite3", Crashing(), key=OWN) as app:
            headers = [(b"x-api-key", CALLER.encode())]
            got = await call(app, "POST", "/v1/files", headers=headers, body=CALLER.encode())
            assert got.status == 500
            return got.body

    body = asyncio.run(talk())

    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text
    assert CANARY.encode() not in body


@pytest.mark.parametrize(
    ("ledger", "policy"),
    [
        ("postgresql://me:canary-password@127.0.0.1:1/ledger", TWO_TIERS),
        ("postgresql://127.0.0.1:1/ledger?password=canary-password", TWO_TIERS),
        (
            "",
            'budget_store = "valkey://127.0.0.1:1"\n'
            + TWO_TIERS
            + '[[budgets]]\nscope = "all"\nlimit_usd = "1"\n',
        ),
    ],
)
def test_a_start_that_fails_tells_no_password(tmp_path: Path, ledger: str, policy: str) -> None:
    (tmp_path / "tierwise.toml").write_text(policy)
    environment = {
        **os.environ,
        "TIERWISE_LEDGER": ledger or str(tmp_path / "ledger.sqlite3"),
        "TIERWISE_VALKEY_PASSWORD": "canary-password",
        "ANTHROPIC_API_KEY": OWN,
    }
    command = [sys.executable, "-m", "tierwise", "serve", "--port", "0", "--log-level", "debug"]
    said = tmp_path / "said"
    with (
        said.open("wb") as file,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            eventually(said.read_text, until=lambda text: "127.0.0.1:1" in text)
        finally:
            process.terminate()
            process.wait(60)

    assert CANARY not in said.read_text()
