"""Conversations with the provider's SDK, by name, and how each is had: sync or async, whole, event by event, by helper.

A conversation is a list of requests, whose later ones may hold what the earlier ones were answered with. What is
compared of two runs of it is what a program sees: parsed messages, parsed events, exceptions with their fields.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import anthropic

Way = Literal["whole", "events", "helper", "beta"]
WAYS: Final[tuple[Way, ...]] = ("whole", "events", "helper", "beta")

Seen = list[Any]
"""What a program saw of a conversation, one item a request."""
Turn = Callable[[Seen], dict[str, Any]]
"""The request that follows what was seen."""

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
LOOK: Final = {
    "name": "look",
    "description": "Look up a record.",
    "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}},
}
TOTAL: Final = {"type": "object", "properties": {"total": {"type": "integer"}}, "required": ["total"]}
MARK: Final = {"type": "ephemeral"}
LONG: Final = "A shared opening. " * 400


def once(content: Any, **more: Any) -> list[Turn]:
    """A conversation of one request."""
    return [lambda _: {"messages": [{"role": "user", "content": content}], **more}]


def then(content: Any, answer: Callable[[Any], Any], **more: Any) -> list[Turn]:
    """A conversation of two requests; `answer` makes what the user says to the first reply's content."""
    asked = {"role": "user", "content": content}

    def again(seen: Seen) -> dict[str, Any]:
        said = seen[0]["message"]["content"]
        replied = {"role": "assistant", "content": said}
        return {"messages": [asked, replied, {"role": "user", "content": answer(said)}], **more}

    return [lambda _: {"messages": [asked], **more}, again]


def failing(fault: str) -> list[Turn]:
    """A conversation that the sandbox is asked to fail."""
    return once("Hello", extra_headers={"x-sandbox-fault": fault})


def _found(said: Any) -> list[dict[str, Any]]:
    uses = [block for block in said if block["type"] == "tool_use"]
    return [{"type": "tool_result", "tool_use_id": use["id"], "content": "found"} for use in uses]


def _source(kind: str, media_type: str, data: str) -> dict[str, Any]:
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": data}}


def _text(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **more}


CONVERSATIONS: Final[Mapping[str, list[Turn]]] = {
    "text": once("Hello"),
    "a system prompt and metadata": once("Hello", system="Be brief.", metadata={"user_id": "u-1"}),
    "not only ascii": once("Grüße, 世界 — \u2028 😀", system=[_text("Résumé")]),
    "several turns": then("Hello", lambda _: "And then?"),
    "thinking": once(
        "[[sandbox thinking_tokens=90]]", thinking={"type": "adaptive", "display": "summarized"}
    ),
    "thinking that is sent back": then("[[sandbox thinking_tokens=90]]", lambda _: "And then?"),
    "a cap that cuts": once("[[sandbox output_tokens=900]]", max_tokens=60),
    "a cap that thinking uses up": once("[[sandbox output_tokens=90 thinking_tokens=300]]", max_tokens=60),
    "a stop sequence": once("[[sandbox output_tokens=500]]", stop_sequences=["differ", "zebra"]),
    "tools": once("Look it up.", tools=[LOOK]),
    "tools and their results": then("Look it up.", _found, tools=[LOOK]),
    "tools that are not to be used": once("Look it up.", tools=[LOOK], tool_choice={"type": "none"}),
    "a form": once("Hello", output_config={"format": {"type": "json_schema", "schema": TOTAL}}),
    "effort": once("Hello", output_config={"effort": "low"}),
    "an image": once([_source("image", "image/png", PIXEL), _text("What is this?")]),
    "a document": once([_source("document", "application/pdf", PIXEL), _text("What is this?")]),
    "a cache that is written and read": then(
        [_text(LONG, cache_control=MARK)], lambda _: [_text("More.", cache_control=MARK)]
    ),
    "a cache for an hour": then(
        [_text(LONG, cache_control={**MARK, "ttl": "1h"})], lambda _: "More.", system=[_text(LONG)]
    ),
    "searches": once("[[sandbox searches=3]]"),
    "geography": once("Hello", inference_geo="us"),
    "fast mode": once("Hello", speed="fast"),
    "compaction": once("[[sandbox iterations=compaction]]"),
    "an advisor": once("[[sandbox iterations=advisor_message]]"),
    "a fallback": once("[[sandbox iterations=fallback_message]]"),
    "a refusal before the first word": failing("refusal"),
    "a refusal in the middle": failing("refusal-midstream"),
    "a later api": failing("unknown-fields"),
    "a reply without usage": failing("no-usage"),
    "an invalid request": once("", system="Be brief."),
    "a thinking budget that the model refuses": once(
        "Hello", thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2048
    ),
    "an unknown model": once("Hello", model="claude-opus-9"),
    **{f"status {status}": failing(f"status:{status}") for status in (400, 401, 402, 403, 404, 409, 413)},
    **{f"status {status}": failing(f"status:{status}") for status in (429, 500, 504, 529)},
    "a limit with the time to wait": failing("status:429,retry-after=7"),
    "an error in the middle": failing("error-after:4"),
    "half an event": failing("half-event:4"),
    "a connection that ends early": failing("cut-after:4"),
}


def had(client: anthropic.Anthropic, turns: list[Turn], way: Way, *, model: str) -> Seen:
    """Have a conversation by a sync client."""
    seen: Seen = []
    for turn in turns:
        seen.append(_result(lambda fields: _ask(client, way, fields), {"model": model, **turn(seen)}))
    return seen


async def had_async(client: anthropic.AsyncAnthropic, turns: list[Turn], way: Way, *, model: str) -> Seen:
    """Have a conversation by an async client."""
    seen: Seen = []
    for turn in turns:
        seen.append(
            await _result_async(
                lambda fields: _ask_async(client, way, fields), {"model": model, **turn(seen)}
            )
        )
    return seen


def compared(seen: Seen) -> Seen:
    """What was seen, the provider's ids made alike: they count its requests."""
    return json.loads(_IDS.sub(r"\1_same", json.dumps(seen)))


_IDS: Final = re.compile(r"\b(msg|req)_sandbox\d+")


def _ask(client: Any, way: Way, fields: dict[str, Any]) -> Any:
    match way:
        case "whole":
            return {"message": client.messages.create(**fields).to_dict()}
        case "beta":
            return {"message": client.beta.messages.create(**fields).to_dict()}
        case "events":
            with client.messages.create(**fields, stream=True) as events:
                return _put_together([event.to_dict() for event in events])
        case "helper":
            with client.messages.stream(**fields) as stream:
                events = [event.to_dict() for event in stream]
                return {"events": events, "message": stream.get_final_message().to_dict()}


async def _ask_async(client: Any, way: Way, fields: dict[str, Any]) -> Any:
    match way:
        case "whole":
            return {"message": (await client.messages.create(**fields)).to_dict()}
        case "beta":
            return {"message": (await client.beta.messages.create(**fields)).to_dict()}
        case "events":
            async with await client.messages.create(**fields, stream=True) as events:
                return _put_together([event.to_dict() async for event in events])
        case "helper":
            async with client.messages.stream(**fields) as stream:
                events = [event.to_dict() async for event in stream]
                return {"events": events, "message": (await stream.get_final_message()).to_dict()}


def _put_together(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The events, and the message that they make, as far as a later request needs it."""
    content: list[dict[str, Any]] = []
    for event in events:
        match event:
            case {"type": "content_block_start", "content_block": block}:
                content.append({**block, "json": ""})
            case {"type": "content_block_delta", "delta": delta}:
                for key in ("text", "thinking"):
                    content[-1][key] = content[-1].get(key, "") + delta.get(key, "")
                content[-1]["json"] += delta.get("partial_json", "")
                content[-1]["signature"] = delta.get("signature", "")
            case _:
                pass
    return {"events": events, "message": {"content": [_block(block) for block in content]}}


def _block(built: dict[str, Any]) -> dict[str, Any]:
    match built["type"]:
        case "tool_use":
            kept = {key: built[key] for key in ("type", "id", "name")}
            return {**kept, "input": json.loads(built["json"] or "{}")}
        case "thinking":
            return {key: built[key] for key in ("type", "thinking", "signature")}
        case _:
            return {key: built[key] for key in ("type", "text") if key in built}


def _result(ask: Callable[[dict[str, Any]], Any], fields: dict[str, Any]) -> Any:
    try:
        return ask({"max_tokens": 500, **fields})
    except Exception as error:  # noqa: BLE001 — whatever a program would see is compared
        return _raised(error)


async def _result_async(ask: Callable[[dict[str, Any]], Awaitable[Any]], fields: dict[str, Any]) -> Any:
    try:
        return await ask({"max_tokens": 500, **fields})
    except Exception as error:  # noqa: BLE001 — whatever a program would see is compared
        return _raised(error)


_TOLD: Final = ("retry-after", "request-id", "content-type", "x-should-retry")


def _raised(error: Exception) -> dict[str, Any]:
    seen: dict[str, Any] = {"raised": type(error).__name__}
    if isinstance(error, anthropic.APIStatusError):
        headers = {name: error.response.headers.get(name) for name in _TOLD}
        seen |= {"status": error.status_code, "body": error.body, "headers": headers, "says": str(error)}
        seen["request_id"] = error.request_id
    return seen
