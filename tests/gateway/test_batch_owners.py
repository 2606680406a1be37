"""Whose a batch is: behind a door with clients, each sees and touches its own."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anthropic
import pytest

from support.asgi import Got, call, gateway_in_memory
from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, book
from support.transcripts import JSON, MemoryUpstream, Transcript
from tierwise.gateway.app import Gateway
from tierwise.sandbox.server import Running, running
from tierwise.upstream.port import Outgoing

KEYS: Final = {name: f"twk_of-{name}" for name in ("ada", "ben", "narrow")}
POLICY: Final = TWO_TIERS + "".join(
    f'[[clients]]\nname = "{name}"\nkey_sha256 = "{sha256(key.encode()).hexdigest()}"\n'
    + ('task_types = ["extraction"]\n' if name == "narrow" else "")
    for name, key in KEYS.items()
)


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


@pytest.fixture
def gateway(tmp_path: Path, sandbox: Running) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path, sandbox.base_url, policy=POLICY, key="sk-provider") as gateway:
        yield gateway


@pytest.fixture
def batches_of(gateway: RunningGateway) -> Iterator[Callable[[str], Any]]:
    """The SDK's batches, with the key of a client."""
    with ExitStack() as opened:

        def batches(name: str) -> Any:
            client = anthropic.Anthropic(base_url=gateway.base_url, api_key=KEYS[name], max_retries=0)
            return opened.enter_context(client).messages.batches

        yield batches


def requests(custom_id: str = "a", model: str = "task/extraction") -> Any:
    messages = [{"role": "user", "content": f"Which firm? {custom_id}"}]
    return [{"custom_id": custom_id, "params": {"model": model, "max_tokens": 400, "messages": messages}}]


@pytest.mark.parametrize("maker", ["ada", "narrow"])
def test_a_client_does_with_its_own_batch_what_there_is_to_do(
    batches_of: Callable[[str], Any], maker: str
) -> None:
    own = batches_of(maker)
    made = own.create(requests=requests(), extra_headers={"x-sandbox-batch": "hold"})

    assert own.cancel(made.id).id == own.retrieve(made.id).id == made.id
    assert [line.custom_id for line in own.results(made.id)] == ["a"]
    assert own.delete(made.id).id == made.id


@pytest.mark.parametrize("what", ["retrieve", "cancel", "results", "delete"])
@pytest.mark.parametrize("other", ["ben", "narrow"])
def test_nobody_touches_another_clients_batch(
    batches_of: Callable[[str], Any], gateway: RunningGateway, what: str, other: str
) -> None:
    made = batches_of("ada").create(requests=requests(), extra_headers={"x-sandbox-batch": "hold"})

    with pytest.raises(anthropic.PermissionDeniedError, match=f"{other} has no batch {made.id}"):
        getattr(batches_of(other), what)(made.id)
    assert batches_of("ada").retrieve(made.id).processing_status == "in_progress"
    assert [recorded["ending"] for recorded in gateway.calls()] == [None]


def test_whether_another_clients_batch_exists_cannot_be_told(batches_of: Callable[[str], Any]) -> None:
    made = batches_of("ada").create(requests=requests())

    said: list[str] = []
    for batch_id in (made.id, "msgbatch_nobodys"):
        with pytest.raises(anthropic.PermissionDeniedError) as refused:
            batches_of("ben").retrieve(batch_id)
        said.append(refused.value.message.replace(batch_id, "ID"))

    assert said[0] == said[1]


def test_the_list_has_the_clients_own_batches_however_many_others_lie_between(
    batches_of: Callable[[str], Any], sandbox: Running
) -> None:
    makers = ["ada", "ben", "ben", "ben", "ada", "ben", "narrow", "ben"]
    made = [(maker, batches_of(maker).create(requests=requests()).id) for maker in makers]
    with anthropic.Anthropic(base_url=sandbox.base_url, api_key="sk") as elsewhere:
        elsewhere.messages.batches.create(requests=requests(model="claude-opus-5-5"))

    for name in KEYS:
        own = [batch_id for maker, batch_id in reversed(made) if maker == name]
        for limit in (1, 2, 20):
            assert [batch.id for batch in batches_of(name).list(limit=limit)] == own


CLIENT: Final = ((b"x-api-key", KEYS["ada"].encode()),)


def ask(folder: Path, provider: Any, *requests: tuple[str, str, dict[str, Any]]) -> list[Got]:
    """Make requests, with the key of ada unless they bring another, one after the other."""

    async def talk() -> list[Got]:
        async with gateway_in_memory(folder / "l.sqlite3", provider, policy=book(POLICY), key="sk") as app:
            return [await send(app, *each) for each in requests]

    return asyncio.run(talk())


async def send(app: Gateway, method: str, path: str, options: dict[str, Any]) -> Got:
    return await call(app, method, path, **{"headers": CLIENT, **options})


def create(custom_id: str = "a") -> tuple[str, str, dict[str, Any]]:
    return "POST", "/v1/messages/batches", {"body": json.dumps({"requests": requests(custom_id)}).encode()}


def a_provider(pages: Mapping[str, Sequence[str]]) -> MemoryUpstream:
    """Takes batches as b0, b1, …, and has a page for each query."""
    numbers = iter(range(99))

    def answer(asked: Outgoing) -> Transcript:
        if asked.method == "POST":
            body = {"id": f"b{next(numbers)}"}
        else:
            ids = pages[asked.target.partition("?")[2]]
            data = [{"id": each} for each in ids]
            body = {"data": data, "has_more": bool(ids), "first_id": ids[:1], "last_id": ids[-1:]}
        return Transcript(headers=JSON, chunks=(json.dumps(body).encode(),))

    return MemoryUpstream(answer)


def test_a_list_that_is_asked_for_backwards_is_turned_backwards(tmp_path: Path) -> None:
    pages = {"before_id=x7&limit=2": ["x5", "x6"], "before_id=x5&limit=2": ["b0", "x4"]}
    listing = ("GET", "/v1/messages/batches", {"query": b"before_id=x7&limit=2"})

    _, got = ask(tmp_path, a_provider(pages), create(), listing)

    assert got.json() == {"data": [{"id": "b0"}], "has_more": True, "first_id": "b0", "last_id": "b0"}


def test_a_list_without_any_batch_of_the_clients_ends_empty(tmp_path: Path) -> None:
    pages = {"": ["x2", "x1"], "after_id=x1": list[str]()}

    (got,) = ask(tmp_path, a_provider(pages), ("GET", "/v1/messages/batches", {}))

    assert got.json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    "reply",
    [
        Transcript(headers=JSON, chunks=(b'{"batches": [{"id": "b0"}]}',)),
        Transcript(headers=(*JSON, (b"content-encoding", b"gzip")), chunks=(b'{"data": [{"id": "b0"}]}',)),
    ],
)
def test_a_list_that_cannot_be_read_is_shown_to_no_client(tmp_path: Path, reply: Transcript) -> None:
    (got,) = ask(tmp_path, reply, ("GET", "/v1/messages/batches", {}))

    assert got.status == 500
    assert b"b0" not in got.body


def test_an_error_in_place_of_the_list_is_the_callers(tmp_path: Path) -> None:
    (got,) = ask(
        tmp_path, Transcript(status=400, chunks=(b'{"no": 1}',)), ("GET", "/v1/messages/batches", {})
    )

    assert (got.status, got.body) == (400, b'{"no": 1}')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches/b0/what-comes-later"),
        ("GET", "/v1/messages/batches/b0%2F..%2Fb1"),
    ],
)
def test_what_is_not_known_of_batches_is_not_for_clients_that_are_held_to_types(
    tmp_path: Path, method: str, path: str
) -> None:
    upstream = a_provider({})
    narrow = {"headers": ((b"x-api-key", KEYS["narrow"].encode()),)}

    _, got = ask(tmp_path, upstream, create(), (method, path, narrow))

    assert got.status == 403
    assert [asked.method for asked in upstream.requests] == ["POST"]
