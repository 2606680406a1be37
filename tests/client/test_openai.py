"""OpenAI's SDK has no door in process: it is told so in its own words, and nothing is sent or spent."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest

import tierwise
from support.clients import router_of
from tierwise.sandbox.server import Running

TURN: Final[Any] = [{"role": "user", "content": "Hi"}]


def chat(client: Any) -> Any:
    return client.chat.completions.create(model="task/extraction", messages=TURN)


def chat_events(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=TURN, stream=True)


def response(client: Any) -> Any:
    return client.responses.create(model="gpt-5", input="Hi")


def embedding(client: Any) -> Any:
    return client.embeddings.create(model="text-embedding-3-small", input="Hi")


WAYS: Final = (chat, chat_events, response, embedding)


def ask(session: tierwise.Session, base_url: str, way: Callable[[Any], Any]) -> None:
    inner = httpx2.Client(transport=tierwise.Transport(session))
    with openai.OpenAI(base_url=base_url, api_key="sk-any", http_client=inner) as client:
        way(client)


def ask_async(session: tierwise.Session, base_url: str, way: Callable[[Any], Any]) -> None:
    async def talk() -> None:
        inner = httpx2.AsyncClient(transport=tierwise.AsyncTransport(session))
        async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-any", http_client=inner) as client:
            await way(client)

    asyncio.run(talk())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asking", [ask, ask_async])
def test_a_call_of_openais_sdk_by_the_transport_is_refused_and_not_sent(
    tmp_path: Path, sandbox: Running, way: Callable[[Any], Any], asking: Callable[..., None]
) -> None:
    with (
        tierwise.Session(router_of(tmp_path), ledger=None) as session,
        pytest.raises(openai.BadRequestError, match="tierwise serve") as caught,
    ):
        asking(session, f"{sandbox.base_url}/v1", way)

    assert (caught.value.code, caught.value.type) == ("not-supported", "invalid_request_error")
    assert sandbox.openai_billing()["calls"] == []
