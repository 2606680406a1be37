"""The same conversations of OpenAI's SDK with the server and through the gateway: a program sees no difference.

Two servers of one seed, so that their caches and ids are alike: one is called directly, one stands behind a gateway.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx2
import openai
import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import OPENAI_PRICES
from tierwise.sandbox.server import Running, running

MODEL: Final = "gpt-5"
POLICY: Final = f"""
[tiers.strong]
model = "claude-opus-5-5"

[task_types.any]
tier = "strong"
{OPENAI_PRICES}
[openai]
base_url = "SERVER/v1"
retries = 0

[openai.tiers.strong]
model = "{MODEL}"
"""
"""What is declared as `any` goes to the model that is asked for elsewhere, unchanged but for its name."""

TOTAL: Final = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
LOOK: Final = {"name": "look", "parameters": {"type": "object", "properties": {"key": {"type": "string"}}}}
LOOKS: Final = [{"type": "function", "function": {**LOOK, "name": name}} for name in ("look", "look_again")]
FLAT_LOOKS: Final = [
    {"type": "function", "strict": None, **LOOK, "name": name} for name in ("look", "look_again")
]
CALLED: Final = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def says(content: Any, **more: Any) -> dict[str, Any]:
    """The fields of a call of one turn, in either API."""
    return {"turns": [{"role": "user", "content": content}], **more}


def failing(fault: str) -> dict[str, Any]:
    """A call that the sandbox is asked to fail."""
    return says("Hello", extra_headers={"x-sandbox-fault": fault})


BOTH: Final[Mapping[str, dict[str, Any]]] = {
    "text": says("Hello"),
    "not only ascii": says("Grüße, 世界 — \u2028 😀"),
    "a user and metadata": says("Hello", safety_identifier="u-1", metadata={"a": "b"}),
    "reasoning": says("[[sandbox thinking_tokens=90]]"),
    "a long prompt": says("word " * 3000),
    "a priority call": says("Hello", service_tier="priority"),
    "fields of a later api": says("Hello", extra_body={"later": [1, None, {"kept": "世"}]}),
    "a reply without usage": failing("no-usage"),
    "an unknown model": says("Hello", model="gpt-none"),
    "no prompt": {"turns": []},
    **{
        f"status {status}": failing(f"status:{status}") for status in (400, 401, 403, 404, 409, 429, 500, 503)
    },
    "a limit with the time to wait": failing("status:429,retry-after=7,code=rate_limit_exceeded"),
    "an error in the middle": failing("error-after:4"),
}
CHAT: Final[Mapping[str, dict[str, Any]]] = {
    "several turns": {
        "turns": [
            {"role": "developer", "content": "Be brief."},
            *({"role": role, "content": "Hello"} for role in ("user", "assistant", "user")),
        ]
    },
    "a cap": says("Hello", max_completion_tokens=9),
    "two choices": says("Hello", n=2),
    "tools": says("Look it up.", tools=[{"type": "function", "function": LOOK}]),
    "tools and their results": {
        "turns": [
            {"role": "user", "content": "Look it up."},
            {"role": "assistant", "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        ],
        "tools": [{"type": "function", "function": LOOK}],
    },
    "parallel calls": says("Look it up.", tools=LOOKS),
    "one call at a time": says("Look it up.", tools=LOOKS, parallel_tool_calls=False),
    "a forced call": says(
        "Look it up.", tools=LOOKS, tool_choice={"type": "function", "function": {"name": "look_again"}}
    ),
    "no call": says("Look it up.", tools=LOOKS, tool_choice="none"),
    "a cut call": says("Look it up.", tools=LOOKS, max_completion_tokens=1),
    "a result without its call": {
        "turns": [
            {"role": "user", "content": "Look it up."},
            {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        ]
    },
    "a form": says(
        "Hello",
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "sum", "strict": True, "schema": TOTAL},
        },
    ),
    "an image": says([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]),
    "a cap of none": says("Hello", max_completion_tokens=0),
}
RESPONSES: Final[Mapping[str, dict[str, Any]]] = {
    "instructions": says("Hello", instructions="Be brief."),
    "a cap": says("Hello", max_output_tokens=9),
    "effort": says("Hello", reasoning={"effort": "low", "summary": "auto"}),
    "tools": says("Look it up.", tools=[{"type": "function", "strict": None, **LOOK}]),
    "parallel calls": says("Look it up.", tools=FLAT_LOOKS),
    "one call at a time": says("Look it up.", tools=FLAT_LOOKS, parallel_tool_calls=False),
    "a forced call": says(
        "Look it up.", tools=FLAT_LOOKS, tool_choice={"type": "function", "name": "look_again"}
    ),
    "tools and their results": {
        "turns": [
            {"role": "user", "content": "Look it up."},
            {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "found"},
        ],
        "tools": FLAT_LOOKS,
    },
    "a result without its call": {
        "turns": [
            {"role": "user", "content": "Look it up."},
            {"type": "function_call_output", "call_id": "call_1", "output": "found"},
        ]
    },
    "a form": says("Hello", text={"format": {"type": "json_schema", "name": "sum", "schema": TOTAL}}),
    "what is held": says("And then?", previous_response_id="resp_1", store=True),
}
TABLE: Final = {
    **{("chat", name): fields for name, fields in (BOTH | CHAT).items()},
    **{("responses", name): fields for name, fields in (BOTH | RESPONSES).items()},
}

UNKNOWN: Final = frozenset(
    {
        ("a reply without usage", False),
        ("a reply without usage", True),
        ("an error in the middle", True),
    }
)
"""What these cost nobody is told, by name and whether they stream."""


class Programs:
    """A sync and an async client of one address."""

    def __init__(self, base_url: str) -> None:
        self._runner = asyncio.Runner()
        told: dict[str, Any] = {"base_url": f"{base_url}/v1", "api_key": "sk-any", "max_retries": 0}
        self._sync = openai.OpenAI(**told)
        self._async = openai.AsyncOpenAI(**told)

    def see(self, path: str, fields: dict[str, Any], *, model: str, stream: bool, is_async: bool) -> Any:
        turns = "messages" if path == "chat" else "input"
        asked = {"model": model, **fields, "stream": stream}
        asked[turns] = asked.pop("turns")
        seen: list[Any] = []
        try:
            if is_async:
                self._runner.run(_ask_async(_door(self._async, path), asked, seen))
            else:
                _ask(_door(self._sync, path), asked, seen)
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            seen.append(_raised(error))
        return seen

    def close(self) -> None:
        self._sync.close()
        self._runner.run(self._async.close())
        self._runner.close()


def _door(client: Any, path: str) -> Any:
    return client.chat.completions if path == "chat" else client.responses


def _ask(door: Any, asked: dict[str, Any], seen: list[Any]) -> None:
    reply = door.create(**asked)
    seen.extend(map(_plain, reply) if asked["stream"] else [_plain(reply)])


async def _ask_async(door: Any, asked: dict[str, Any], seen: list[Any]) -> None:
    note = seen.append
    reply = await door.create(**asked)
    if not asked["stream"]:
        return note(_plain(reply))
    async for event in reply:
        note(_plain(event))
    return None


def _plain(value: Any) -> Any:
    """What a program sees; without the empty usage that asking for usage adds to chunks."""
    fields = {"request": getattr(value, "_request_id", None), **value.to_dict(warnings=False)}
    if fields.get("object") == "chat.completion.chunk" and fields.get("usage", 0) is None:
        del fields["usage"]
    return fields


_TOLD: Final = ("retry-after", "x-request-id", "content-type", "x-should-retry")


def _raised(error: Exception) -> dict[str, Any]:
    seen: dict[str, Any] = {"raised": type(error).__name__, "says": str(error)}
    if isinstance(error, openai.APIStatusError):
        headers = {name: error.response.headers.get(name) for name in _TOLD}
        seen |= {"status": error.status_code, "body": error.body, "headers": headers}
    return seen


@pytest.fixture(scope="module")
def direct() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def behind() -> Iterator[Running]:
    with running(seed=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, behind: Running) -> Iterator[RunningGateway]:
    policy = POLICY.replace("SERVER", behind.base_url)
    with running_gateway(tmp_path_factory.mktemp("served"), behind.base_url, policy=policy) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def without(direct: Running) -> Iterator[Programs]:
    programs = Programs(direct.base_url)
    yield programs
    programs.close()


@pytest.fixture(scope="module")
def through(served: RunningGateway) -> Iterator[Programs]:
    programs = Programs(served.base_url)
    yield programs
    programs.close()


@pytest.mark.parametrize("model", [MODEL, "task/any"], ids=["as it is", "routed"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "events"])
@pytest.mark.parametrize(("path", "name"), TABLE)
def test_a_call_is_the_same_through_the_gateway_and_costs_what_the_ledger_says(
    without: Programs,
    through: Programs,
    served: RunningGateway,
    direct: Running,
    behind: Running,
    path: str,
    name: str,
    stream: bool,
    is_async: bool,
    model: str,
) -> None:
    direct.reset()
    behind.reset()
    gateway, fields = served.fresh(), TABLE[path, name]
    expected = without.see(path, fields, model=MODEL, stream=stream, is_async=is_async)
    seen = through.see(path, fields, model=model, stream=stream, is_async=is_async)

    assert alike(seen) == alike(expected)
    billed, alone = (at.openai_billing()["calls"] for at in (behind, direct))
    assert [line["nanos"] for line in billed] == [line["nanos"] for line in alone]
    (recorded,) = gateway.settled()
    known = (name, stream) not in UNKNOWN
    assert recorded["cost_nanos"] == (sum(line["nanos"] for line in billed) if known else None)


def alike(seen: Any) -> str:
    """What was seen, the servers' counts of their requests made alike."""
    return _COUNTED.sub("same", repr(seen))


_COUNTED: Final = re.compile(r"sandbox\d{16}")
