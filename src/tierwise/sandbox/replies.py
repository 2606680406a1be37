"""What comes back: the text, thinking or tool use of a reply, its length, and where the cap cuts it.

Every length and word is a hash of the seed and of what the request asks for, so that the same request gets
the same reply whenever it comes. Thinking is generated first and counts toward the cap, as the provider does
it; a cap that is spent on thinking leaves no text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec

from tierwise.sandbox import binding, play
from tierwise.sandbox.directive import Directive, number
from tierwise.sandbox.errors import invalid
from tierwise.sandbox.fleet import Fleet, answer, draw_lengths, filler
from tierwise.sandbox.models import Model
from tierwise.sandbox.outcomes import Outcomes
from tierwise.sandbox.shapes import Object, is_list, is_object, part_of, parts_of
from tierwise.sandbox.tokens import text_size, text_tokens
from tierwise.sandbox.validate import Thinking

PieceKind = Literal["thinking", "text", "tool_use"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a valid request asks for."""

    body: Object
    model: Model
    directive: Directive
    text: str
    """The text of the last user turn."""
    thinking: Thinking
    effort: str
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One content block of a reply."""

    kind: PieceKind
    text: str
    """The text, the thinking as shown, or a tool's input as JSON."""
    tokens: int
    name: str = ""
    """The tool's name."""
    id: str = ""
    """The tool use's id."""
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply, cut where its cap cuts it."""

    pieces: tuple[Piece, ...]
    stop_reason: str
    output_tokens: int
    thinking_tokens: int
    cut_tokens: int
    """How much longer it would have run without the cap."""
    stop_sequence: str | None = None
    stop_details: Mapping[str, Any] | None = None


_WARMED: Final = Reply(pieces=(), stop_reason="max_tokens", output_tokens=0, thinking_tokens=0, cut_tokens=0)
"""A request with max_tokens 0 only fills the prompt cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What replies are drawn from."""

    seed: int
    fleet: Fleet
    outcomes: Outcomes | None = None


def compose(ask: Ask, world: World) -> Reply:
    """The reply to a request. Raises ApiError (400) for a directive that names what is not there."""
    script = _script(ask, world)
    cap: int = ask.body["max_tokens"]
    if cap == 0:
        return _WARMED
    room = min(cap, max(0, ask.model.context_tokens - ask.prompt_tokens))
    thinking = min(script.thinking, room)
    shown = min(script.output, room - thinking)
    cut = script.thinking + script.output - thinking - shown
    pieces: list[Piece] = []
    if thinking:
        pieces.append(_thinking_piece(ask, thinking))
    used = 0 if cut else sum(use.tokens for use in script.uses)
    if shown > used:
        pieces.append(Piece(kind="text", text=_text(script, shown - used, ask.model), tokens=shown - used))
    if not cut:
        pieces.extend(_tool_piece(ask, use, place, world.seed) for place, use in enumerate(script.uses))
    reply = Reply(
        pieces=tuple(pieces),
        stop_reason=_stop_reason(script, cut=cut > 0, capped=room == cap),
        output_tokens=thinking + shown,
        thinking_tokens=thinking,
        cut_tokens=cut if room == cap else 0,
    )
    return _at_stop_sequence(reply, ask)


def refuse(reply: Reply, *, midstream: bool, category: str | None) -> Reply:
    """The reply as a refusal: without content, or broken off half way."""
    details = {
        "type": "refusal",
        "category": category,
        "explanation": "The sandbox was asked to refuse.",
    }
    texts = [piece for piece in reply.pieces if piece.kind == "text"] if midstream else []
    pieces = tuple(
        Piece(kind="text", text=piece.text[: len(piece.text) // 2], tokens=(piece.tokens + 1) // 2)
        for piece in texts
    )
    return Reply(
        pieces=pieces,
        stop_reason="refusal",
        stop_details=details,
        output_tokens=sum(piece.tokens for piece in pieces) or 1,
        thinking_tokens=0,
        cut_tokens=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    name: str
    json: str
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Script:
    """The reply as it would be without a cap."""

    output: int
    thinking: int
    opening: str
    """How the text begins; filler follows, unless it is `whole`."""
    draw: int
    whole: bool = False
    uses: tuple[_Use, ...] = ()
    json: str | None = None
    """The whole text, when the request asks for a format."""


def _stop_reason(script: _Script, *, cut: bool, capped: bool) -> str:
    if cut:
        return "max_tokens" if capped else "model_context_window_exceeded"
    return "tool_use" if script.uses else "end_turn"


EFFORT_FACTORS: Final[Mapping[str, float]] = {
    "low": 0.4,
    "medium": 0.6,
    "high": 1.0,
    "xhigh": 1.8,
    "max": 4.0,
}
"""How much a model thinks at each effort, relative to high."""


def _script(ask: Ask, world: World) -> _Script:
    line = play.line_of(ask.body)
    if line is not None:
        return _of_play(line, ask, world.seed)
    if "type" in ask.directive:
        script = _of_task_type(ask, world)
    elif "outcome" in ask.directive or world.outcomes is not None:
        script = _of_outcome(ask, world)
    else:
        script = _of_text(ask, world.seed)
    output = number(ask.directive, "output_tokens")
    thinking = number(ask.directive, "thinking_tokens")
    return _formatted(
        script,
        ask,
        output=output,
        thinking=_limit_thinking(ask, _scaled(script.thinking, ask) if thinking is None else thinking),
    )


def _of_play(line: play.Line, ask: Ask, seed: int) -> _Script:
    plain = _of_text(ask, seed)
    uses = tuple(_use(use.name, msgspec.json.encode(use.input).decode(), ask.model) for use in line.use)
    text = text_tokens(len(line.text.encode()), ask.model)
    return _Script(
        output=text + sum(use.tokens for use in uses),
        thinking=_limit_thinking(ask, _scaled(plain.thinking, ask)),
        opening=line.text,
        whole=True,
        draw=plain.draw,
        uses=uses,
    )


def _of_task_type(ask: Ask, world: World) -> _Script:
    name = ask.directive["type"]
    task_type = world.fleet.types.get(name)
    if task_type is None:
        raise invalid(f"sandbox: the fleet has no task type {name!r}; it has {', '.join(world.fleet.types)}")
    task = ask.directive.get("task", "")
    lengths = draw_lengths(task_type, name, task, number(ask.directive, "seq") or 0, world.seed)
    tier = "fast" if ask.model.line == "haiku" else "frontier"
    return _Script(
        output=_in_tokenizer(lengths.output, ask.model),
        thinking=_in_tokenizer(lengths.thinking, ask.model),
        opening=f"answer: {answer(world.fleet, name, task, tier, world.seed)}\n",
        draw=_hash(world.seed, name, task),
    )


def _of_outcome(ask: Ask, world: World) -> _Script:
    outcomes = world.outcomes
    if outcomes is None:
        raise invalid("sandbox: outcome= needs recorded outcomes; start the sandbox with --outcomes")
    outcome_id = ask.directive.get("outcome") or outcomes.id_of_prompt(ask.text)
    plain = _of_text(ask, world.seed)
    if outcome_id is None:
        return plain
    outcome = outcomes.find(outcome_id, weak=ask.model.line == "haiku")
    if outcome is None:
        raise invalid(
            f"sandbox: no recorded outcome of {outcome_id!r} by the model that stands behind {ask.model.id}"
        )
    return _Script(
        output=plain.output if outcome.output_tokens is None else outcome.output_tokens,
        thinking=0,
        opening=f"answer: {'right' if outcome.right else 'wrong'}\n",
        draw=plain.draw,
    )


def _of_text(ask: Ask, seed: int) -> _Script:
    draw = _hash(seed, ask.text)
    asked: Any = ask.body.get("thinking")
    return _Script(
        output=24 + draw % 177,
        thinking=32 + draw % 97 if asked else 0,  # a model that may think does not, when the prompt is simple
        opening=f"Sandbox reply {draw:08x}. ",
        draw=draw,
    )


def _formatted(script: _Script, ask: Ask, *, output: int | None, thinking: int) -> _Script:
    """The script in the form the request asks for: a tool use, JSON, or text no shorter than its opening."""
    tool = _tool_to_use(ask)
    form: Object | None = part_of(ask.body, "output_config").get("format")
    text = None if form is None else _sample_json(form["schema"], script.opening)
    if tool is not None:
        use = _use(tool["name"], _sample_json(tool["input_schema"], script.opening), ask.model)
        uses = (use if output is None else replace(use, tokens=output),)
        natural = use.tokens
    else:
        uses = ()
        natural = max(script.output, text_tokens(len((text or script.opening).encode()), ask.model))
    return _Script(
        output=natural if output is None else output,
        thinking=thinking,
        opening=script.opening,
        draw=script.draw,
        uses=uses,
        json=text,
    )


def _use(name: str, json: str, model: Model) -> _Use:
    return _Use(name=name, json=json, tokens=_TOOL_USE_TOKENS + text_tokens(len(json.encode()), model))


_TOOL_USE_TOKENS: Final = 30


def _tool_to_use(ask: Ask) -> Object | None:
    choice = part_of(ask.body, "tool_choice")
    usable = [tool for tool in parts_of(ask.body.get("tools")) if "input_schema" in tool]
    if not usable or choice.get("type") == "none":
        return None
    wish = ask.directive.get("reply")
    if wish not in (None, "text", "tool_use"):
        raise invalid(f"sandbox: reply is 'text' or 'tool_use', not {wish!r}")
    if wish == "text" or (wish is None and _has_tool_result(ask.body)):
        return None
    return next((tool for tool in usable if tool["name"] == choice.get("name")), usable[0])


def _has_tool_result(body: Object) -> bool:
    return any(part["type"] == "tool_result" for part in parts_of(body["messages"][-1]["content"]))


def _scaled(thinking: int, ask: Ask) -> int:
    return round(thinking * EFFORT_FACTORS[ask.effort])


def _limit_thinking(ask: Ask, thinking: int) -> int:
    if ask.thinking in ("off", "between_tools"):
        return 0
    if ask.thinking == "enabled":
        budget: int = ask.body["thinking"]["budget_tokens"]
        return min(thinking, budget)
    return thinking


def _in_tokenizer(tokens: int, model: Model) -> int:
    """Tokens of the new tokenizer as the model counts the same text."""
    return tokens if model.new_tokenizer or tokens == 0 else max(1, round(tokens / 1.3))


def _thinking_piece(ask: Ask, tokens: int) -> Piece:
    config = part_of(ask.body, "thinking")
    default = "omitted" if ask.model.new_tokenizer else "summarized"
    shown = (config.get("display") or default) == "summarized"
    text = filler(text_size(tokens, ask.model), 0) if shown else ""
    return Piece(kind="thinking", text=text, tokens=tokens, signature=binding.sign(ask.body, ask.model, text))


def _tool_piece(ask: Ask, use: _Use, place: int, seed: int) -> Piece:
    turns = len(ask.body["messages"])
    which = f"{turns}.{place}" if place else str(turns)
    return Piece(
        kind="tool_use",
        text=use.json,
        tokens=use.tokens,
        name=use.name,
        id=f"toolu_{_hash(seed, ask.text, which, size=12):024x}",
    )


def _text(script: _Script, tokens: int, model: Model) -> str:
    size = text_size(tokens, model)
    if script.json is None:
        text = script.opening
        return (
            text[:size] if script.whole or size <= len(text) else text + filler(size - len(text), script.draw)
        )
    padding = " " * (text_size(script.output, model) - len(script.json.encode()))
    return (script.json[:-1] + padding + script.json[-1])[:size]


def _at_stop_sequence(reply: Reply, ask: Ask) -> Reply:
    sequences: list[str] = ask.body.get("stop_sequences") or []
    last = reply.pieces[-1] if reply.pieces else None
    if last is None or last.kind != "text":
        return reply
    found = min(((last.text.index(word), word) for word in sequences if word in last.text), default=None)
    if found is None:
        return reply
    place, word = found
    tokens = text_tokens(place, ask.model)
    kept = (Piece(kind="text", text=last.text[:place], tokens=tokens),) if place else ()
    return Reply(
        pieces=(*reply.pieces[:-1], *kept),
        stop_reason="stop_sequence",
        stop_sequence=word,
        output_tokens=reply.thinking_tokens + tokens,
        thinking_tokens=reply.thinking_tokens,
        cut_tokens=0,
    )


def _sample_json(schema: Object, opening: str) -> str:
    """The JSON of a value that fits the schema; its `answer`, where it has one, comes first."""
    value = _sample(schema)
    if opening.startswith("answer: ") and is_object(value) and isinstance(value.get("answer"), str):
        rest = {key: item for key, item in value.items() if key != "answer"}
        value = {"answer": opening.removeprefix("answer: ").strip(), **rest}
    return msgspec.json.encode(value).decode()


def _sample(schema: Object, depth: int = 0) -> Any:
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _sample(schema[key][0], depth + 1)
    kind: Any = schema.get("type", "object" if "properties" in schema else "string")
    match kind[0] if is_list(kind) else kind:
        case "object" if depth < _MAX_DEPTH:
            return {key: _sample(item, depth + 1) for key, item in part_of(schema, "properties").items()}
        case "object":
            return {}
        case "array":
            return [_sample(part_of(schema, "items"), depth + 1)] * int(schema.get("minItems", 0))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "sandbox"


_MAX_DEPTH: Final = 8


def _hash(seed: int, *parts: str, size: int = 4) -> int:
    return int.from_bytes(blake2b("|".join((str(seed), *parts)).encode(), digest_size=size).digest(), "big")
