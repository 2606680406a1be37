"""Who may enter, what a client may do, and what of it reaches the provider."""

import asyncio
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.asgi import Got, Pairs, call, gateway_in_memory
from support.plays import calls
from support.policies import TWO_TIERS, book
from support.transcripts import MemoryUpstream, Transcript, message
from tierwise.core.policy import Client
from tierwise.gateway.door import Door, client_of, is_loopback
from tierwise.upstream.port import Outgoing

KEY = b"twk_of-ci"
OTHER = b"twk_of-the-other"


def lines(name: str, key: bytes, more: str = "") -> str:
    return f'[[clients]]\nname = "{name}"\nkey_sha256 = "{sha256(key).hexdigest()}"\n{more}\n'


CLIENTS = lines("ci", KEY) + lines("other", OTHER, 'task_types = ["extr*"]')


def ask(
    path: Path,
    headers: Pairs,
    *,
    model: str = "task/extraction",
    method: str = "POST",
    target: str = "/v1/messages",
    clients: str = CLIENTS,
    key: str | None = "sk-own",
    door: Door | None = None,
) -> tuple[Got, list[Outgoing]]:
    """Make one request of a gateway with clients; return the answer and what reached the provider."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
    }

    async def talk() -> tuple[Got, list[Outgoing]]:
        upstream = MemoryUpstream(Transcript(chunks=(message(),)))
        policy = book(TWO_TIERS + clients)
        async with gateway_in_memory(path, upstream, policy=policy, key=key, door=door) as app:
            got = await call(app, method, target, headers=headers, body=json.dumps(body).encode())
            return got, upstream.requests

    return asyncio.run(talk())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", KEY)],
        [(b"authorization", b"Bearer " + KEY)],
        [(b"authorization", b"bearer " + KEY)],
        [(b"x-api-key", b"something"), (b"authorization", b"Bearer " + KEY)],
        [(b"x-api-key", KEY), (b"authorization", b"Basic xyz"), (b"cookie", b"a=b")],
    ],
)
def test_a_client_is_known_by_its_key_in_either_header_and_the_provider_gets_the_gateways(
    path: Path, headers: Pairs
) -> None:
    got, sent = ask(path, headers)

    assert got.status == 200
    credentials = [pair for pair in sent[0].headers if pair[0] in {b"x-api-key", b"authorization", b"cookie"}]
    assert credentials == [(b"x-api-key", b"sk-own")]
    assert [recorded["key_id"] for recorded in calls(path)] == ["ci"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"sk-own")],
        [(b"x-api-key", KEY[:-1])],
        [(b"x-api-key", KEY + b"x")],
        [(b"x-api-key", sha256(KEY).hexdigest().encode())],
        [(b"x-api-key", b"ci")],
        [(b"cookie", KEY)],
        [(b"x-api-key", b"first"), (b"x-api-key", KEY)],
    ],
)
@pytest.mark.parametrize("target", ["/v1/messages", "/v1/messages/count_tokens", "/v1/files", "/v1/complete"])
def test_nobody_else_enters(path: Path, headers: Pairs, target: str) -> None:
    got, sent = ask(path, headers, target=target)

    assert (got.status, got.json()["error"]["type"]) == (401, "authentication_error")
    assert sent == []
    assert calls(path) == []


def test_a_client_makes_the_calls_of_its_task_types_alone(path: Path) -> None:
    headers = [(b"x-api-key", OTHER)]

    statuses = [
        ask(path, headers, model=model)[0].status
        for model in ("task/extraction", "task/synthesis", "claude-opus-5-5")
    ]
    refused, sent = ask(path, headers, model="task/synthesis")

    assert statuses == [200, 403, 403]
    assert sent == []
    assert refused.header(b"x-should-retry") == b"false"
    assert refused.json()["error"] == {
        "type": "permission_error",
        "message": "The client other may not make calls of the task type synthesis. Its task types are: extr*.",
    }


@pytest.mark.parametrize(
    ("more", "declared", "undeclared"),
    [
        ("", 200, 200),
        ("undeclared = false", 200, 403),
        ('task_types = ["synthesis"]', 403, 403),
        ('task_types = ["extraction"]\nundeclared = true', 200, 200),
        ("task_types = []\nundeclared = true", 403, 200),
    ],
)
def test_calls_without_a_type_are_for_clients_that_may_make_them(
    path: Path, more: str, declared: int, undeclared: int
) -> None:
    clients = lines("ci", KEY, more)

    assert ask(path, [(b"x-api-key", KEY)], clients=clients)[0].status == declared
    assert ask(path, [(b"x-api-key", KEY)], clients=clients, model="claude-opus-5-5")[0].status == undeclared


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "/v1/messages/count_tokens", 200),
        ("GET", "/v1/models", 200),
        ("GET", "/v1/models/claude-opus-5-5", 200),
        ("POST", "/v1/models", 403),
        ("GET", "/v1/files", 403),
        ("DELETE", "/v1/files/file_1", 403),
        ("POST", "/v1/sessions", 403),
    ],
)
def test_a_client_of_some_types_does_not_spend_past_the_ledger(
    path: Path, method: str, target: str, status: int
) -> None:
    got, sent = ask(path, [(b"x-api-key", OTHER)], method=method, target=target)

    assert got.status == status
    assert len(sent) == (status == 200)


def test_a_door_that_lost_its_last_client_lets_nobody_in(path: Path) -> None:
    got, sent = ask(path, [(b"x-api-key", b"sk-a-provider-key")], clients="", door=Door(guarded=True))

    assert (got.status, sent) == (401, [])


def test_clients_without_a_key_of_the_gateways_own_get_no_further(path: Path) -> None:
    got, sent = ask(path, [(b"x-api-key", KEY)], key=None)

    assert (got.status, sent) == (401, [])
    assert "ANTHROPIC_API_KEY" in got.json()["error"]["message"]


def test_beyond_this_machine_health_and_meters_are_for_clients(path: Path) -> None:
    public = Door(guarded=True, private=False)

    def shown(target: str, headers: Pairs, door: Door = public) -> Got:
        return ask(path, headers, method="GET", target=target, door=door)[0]

    assert shown("/tierwise/health", []).json() == {"status": "ok"}
    assert shown("/tierwise/meters", []).status == 401
    assert "calls" in shown("/tierwise/health", [(b"x-api-key", KEY)]).json()
    assert "calls" in shown("/tierwise/meters", [(b"x-api-key", KEY)]).json()
    assert "calls" in shown("/tierwise/meters", [], Door(guarded=True)).json()


def test_every_client_is_compared_with_wherever_the_right_one_stands() -> None:
    compared: list[bytes] = []

    class Counting(Client):
        def __getattribute__(self, name: str) -> Any:
            if name == "key_sha256":
                compared.append(b"")
            return super().__getattribute__(name)

    clients = [Counting(name=f"c{n}", key_sha256=sha256(b"%d" % n).digest()) for n in range(5)]

    found = [client_of([(b"x-api-key", b"%d" % n)], clients) for n in (0, 4, 9)]

    assert [client and client.name for client in found] == ["c0", "c4", None]
    assert len(compared) == 15


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "gateway.internal", "127.0.0.1.example.com", ""]
)
def test_everything_else_is_open_to_others(host: str) -> None:
    assert not is_loopback(host)


# --- Where calls go is not a caller's choice.


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("//evil.example/v1/messages", 404),
        ("//v1/messages", 404),
        ("/v1/../admin", 404),
        ("/v1/messages/../files", 404),
        ("/v1/messages/", 404),
        ("http://evil.example/v1/messages", 404),
        ("/tierwise/../v1/messages", 404),
    ],
)
def test_a_path_that_means_another_goes_nowhere(path: Path, target: str, status: int) -> None:
    got, sent = ask(path, [(b"x-api-key", KEY)], target=target)

    assert (got.status, sent) == (status, [])


@pytest.mark.parametrize(
    "name",
    [b"host", b"x-forwarded-host", b"forwarded", b"x-original-url", b"x-rewrite-url", b"x-tierwise-upstream"],
)
def test_no_header_chooses_where_a_call_goes(path: Path, name: bytes) -> None:
    _, sent = ask(path, [(b"x-api-key", KEY), (name, b"http://evil.example/v1/files")])

    assert sent[0].target == "/v1/messages"
    assert not [value for sent_name, value in sent[0].headers if sent_name == b"host"]
