"""Functions that the caller runs, with OpenAI's own SDK: in the sandbox itself, and through the gateway, tier kept."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from pydantic import BaseModel

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai, with_upstream
from support.waiting import eventually
from tierwise.sandbox.server import Running, running

USER: Final[Any] = {"role": "user", "content": "Look both up."}
ARGUMENTS: Final = {
    "type": "object",
    "properties": {"key": {"type": "string"}, "deep": {"type": "boolean"}},
    "required": ["key"],
}
LOOK: Final = {"name": "look", "parameters": ARGUMENTS}
FIND: Final = {"name": "find", "parameters": {"type": "object", "properties": {"year": {"type": "integer"}}}}
CHAT_TOOLS: Final[Any] = [{"type": "function", "function": each} for each in (LOOK, FIND)]
RESPONSE_TOOLS: Final[Any] = [{"type": "function", "strict": None, **each} for each in (LOOK, FIND)]
CALLED: Final = [("look", {"key": "Acme", "deep": True}), ("find", {"year": 7})]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running(seed=1) as provider:
        yield provider


@pytest.fixture(scope="module")
def one_gateway(sandbox: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    policy = with_openai(TWO_TIERS, f"{sandbox.base_url}/v1")
    with running_gateway(tmp_path_factory.mktemp("gateway"), sandbox.base_url, policy=policy) as gateway:
        yield gateway


@pytest.fixture(params=["direct", "through the gateway"])
def client(
    request: pytest.FixtureRequest, sandbox: Running, one_gateway: RunningGateway
) -> Iterator[openai.OpenAI]:
    at = sandbox if request.param == "direct" else one_gateway
    sandbox.reset()
    with openai.OpenAI(base_url=f"{at.base_url}/v1", api_key="sk-any", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, *turns: Any, **options: Any) -> Any:
    asked: Any = {"model": "gpt-5-mini", "tools": CHAT_TOOLS, **options}
    create: Any = client.chat.completions.create
    return create(messages=[USER, *turns], **asked)


def respond(client: openai.OpenAI, *items: Any, **options: Any) -> Any:
    asked: Any = {"model": "gpt-5-mini", "tools": RESPONSE_TOOLS, **options}
    create: Any = client.responses.create
    return create(input=[USER, *items], **asked)


def in_chat(made: Any) -> list[tuple[str, Any]]:
    called: list[Any] = made.choices[0].message.tool_calls or []
    return [(each.function.name, json.loads(each.function.arguments)) for each in called]


def in_response(made: Any) -> list[tuple[str, Any]]:
    return [(each.name, json.loads(each.arguments)) for each in made.output if each.type == "function_call"]


def test_a_chat_calls_functions_and_goes_on_with_what_they_returned(client: openai.OpenAI) -> None:
    asked = chat(client)
    choice = asked.choices[0]
    results = [
        {"role": "tool", "tool_call_id": each.id, "content": "found"} for each in choice.message.tool_calls
    ]
    answered = chat(client, choice.message.to_dict(), *results)

    assert (choice.finish_reason, choice.message.content, in_chat(asked)) == ("tool_calls", None, CALLED)
    assert len({each.id for each in choice.message.tool_calls}) == 2
    assert (answered.choices[0].finish_reason, in_chat(answered)) == ("stop", [])
    assert answered.choices[0].message.content


def test_a_response_calls_functions_and_goes_on_with_what_they_returned(client: openai.OpenAI) -> None:
    asked = respond(client)
    results = [
        {"type": "function_call_output", "call_id": each.call_id, "output": "found"} for each in asked.output
    ]
    answered = respond(client, *(each.to_dict() for each in asked.output), *results)

    assert (asked.status, asked.output_text, in_response(asked)) == ("completed", "", CALLED)
    assert (in_response(answered), answered.output_text != "") == ([], True)


def test_a_chats_stream_tells_the_calls_piece_by_piece(client: openai.OpenAI) -> None:
    chunks: list[Any] = list(chat(client, stream=True))
    deltas: list[Any] = [
        each for chunk in chunks if chunk.choices for each in chunk.choices[0].delta.tool_calls or ()
    ]
    told = ["", ""]
    for each in deltas:
        told[each.index] += each.function.arguments

    assert [(each.index, each.function.name) for each in deltas if each.id] == [(0, "look"), (1, "find")]
    assert [json.loads(each) for each in told] == [arguments for _, arguments in CALLED]
    assert len(deltas) > 6
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"


def test_a_responses_stream_tells_the_calls_piece_by_piece(client: openai.OpenAI) -> None:
    events: list[Any] = list(respond(client, stream=True))
    deltas: dict[int, str] = {}
    for event in events:
        if event.type == "response.function_call_arguments.delta":
            deltas[event.output_index] = deltas.get(event.output_index, "") + event.delta
    done = {
        event.output_index: event.arguments
        for event in events
        if event.type == "response.function_call_arguments.done"
    }

    assert deltas == done
    assert [json.loads(done[place]) for place in (0, 1)] == [arguments for _, arguments in CALLED]
    assert in_response(events[-1].response) == CALLED


class Look(BaseModel):
    """Looks something up."""

    key: str
    deep: bool


def test_the_sdks_helpers_put_streamed_calls_together(client: openai.OpenAI) -> None:
    tool: Any = openai.pydantic_function_tool(Look)
    with client.chat.completions.stream(model="gpt-5-mini", messages=[USER], tools=[tool]) as chunks:
        (call,) = chunks.until_done().get_final_completion().choices[0].message.tool_calls or []
    with client.responses.stream(model="gpt-5-mini", input=[USER], tools=RESPONSE_TOOLS) as events:
        response = events.until_done().get_final_response()

    assert call.function.parsed_arguments == Look(key="Acme", deep=True)
    assert in_response(response) == CALLED


def named(*names: str, flat: bool) -> list[Any]:
    """Functions by their names, as either API writes them."""
    return [
        {"type": "function", **({"name": name} if flat else {"function": {"name": name}})} for name in names
    ]


def allowed(flat: bool) -> Any:
    told = {"mode": "required", "tools": named("look", flat=flat)}
    return {"type": "allowed_tools", **(told if flat else {"allowed_tools": told})}


@pytest.mark.parametrize(
    ("chat_choice", "response_choice", "names"),
    [
        ("auto", "auto", ["look", "find"]),
        ("required", "required", ["look", "find"]),
        ("none", "none", []),
        (*named("find", flat=False), *named("find", flat=True), ["find"]),
        (allowed(flat=False), allowed(flat=True), ["look"]),
    ],
)
def test_a_choice_of_tools_is_kept_in_both_apis(
    client: openai.OpenAI, chat_choice: Any, response_choice: Any, names: list[str]
) -> None:
    assert [name for name, _ in in_chat(chat(client, tool_choice=chat_choice))] == names
    assert [name for name, _ in in_response(respond(client, tool_choice=response_choice))] == names


def test_calls_come_one_at_a_time_where_they_are_asked_to(client: openai.OpenAI) -> None:
    assert in_chat(chat(client, parallel_tool_calls=False)) == CALLED[:1]
    assert in_response(respond(client, parallel_tool_calls=False)) == CALLED[:1]


def test_a_cap_cuts_what_a_function_is_called_with(client: openai.OpenAI) -> None:
    made = chat(client, max_completion_tokens=3)
    (call,) = made.choices[0].message.tool_calls

    assert (made.choices[0].finish_reason, made.usage.completion_tokens) == ("length", 3)
    assert json.dumps(CALLED[0][1], separators=(",", ":")).startswith(call.function.arguments)


RESULT: Final[Any] = {"role": "tool", "tool_call_id": "call_1", "content": "found"}
CALL: Final[Any] = {
    "role": "assistant",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
}


@pytest.mark.parametrize("turns", [[RESULT], [CALL, USER], [CALL]])
def test_a_call_and_what_it_returned_belong_together(client: openai.OpenAI, turns: list[Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(client, *turns)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call_output", "call_id": "call_1", "output": "found"},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
    ],
)
def test_an_item_of_a_call_needs_its_other_half(client: openai.OpenAI, item: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        respond(client, item)


@pytest.mark.parametrize("options", [{"tool_choice": "auto", "tools": []}, {"tool_choice": "sometimes"}])
def test_a_choice_without_tools_or_of_no_kind_is_refused(client: openai.OpenAI, options: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        chat(client, **options)


@pytest.mark.parametrize("path", ["chat", "responses"])
def test_a_conversation_of_calls_and_results_stays_on_its_tier(
    tmp_path: Path, sandbox: Running, path: str
) -> None:
    def policy(tier: str) -> str:
        moved = f'[task_types.extraction]\ntier = "{tier}"\nmax_tokens = 4096'
        extraction = '[task_types.extraction]\ntier = "fast"\nmax_tokens = 512'
        return with_openai(TWO_TIERS.replace(extraction, moved), f"{sandbox.base_url}/v1")

    sandbox.reset()
    with (
        running_gateway(tmp_path, sandbox.base_url, policy=policy("fast")) as gateway,
        openai.OpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-any") as client,
    ):
        first = talk(client, path)
        version = version_of(gateway)
        gateway.policy_path.write_text(with_upstream(policy("frontier"), sandbox.base_url))
        eventually(lambda: version_of(gateway), until=lambda found: found != version)
        talk(client, path, first)
        talk(client, path, opening="Another matter.")
        calls = gateway.settled()

    assert [call["tier"] for call in calls] == ["fast", "fast", "frontier"]
    assert [line["model"] for line in sandbox.openai_billing()["calls"]] == [
        "gpt-5-mini-2025-08-07",
        "gpt-5-mini-2025-08-07",
        "gpt-5-2025-08-07",
    ]


def version_of(gateway: RunningGateway) -> Any:
    return gateway.http.send("GET", "/tierwise/health").json()["policy"]


def talk(client: openai.OpenAI, path: str, made: Any = None, *, opening: str = "Look both up.") -> Any:
    """Make the first call of a conversation; or the second one, with what the functions of the first returned."""
    turns: list[Any] = [{"role": "user", "content": opening}]
    if path == "chat":
        if made is not None:
            message = made.choices[0].message
            returned = [
                {"role": "tool", "tool_call_id": each.id, "content": "found"} for each in message.tool_calls
            ]
            turns += [message.to_dict(), *returned]
        return client.chat.completions.create(model="task/extraction", messages=turns, tools=CHAT_TOOLS)
    if made is not None:
        turns += [each.to_dict() for each in made.output]
        turns += [
            {"type": "function_call_output", "call_id": each.call_id, "output": "found"}
            for each in made.output
        ]
    return client.responses.create(model="task/extraction", input=turns, tools=RESPONSE_TOOLS)
