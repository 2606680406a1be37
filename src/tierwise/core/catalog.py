"""The catalogue: what each Claude model takes, as one table of frozen values.

Sources, read on 2026-11-23: the model pages of platform.claude.com, and the list of models in Claude Code 2.1.330.
`GET /v1/models` answers part of this at run time, but not the tokenizer, the cacheable minimum or the default
effort. Prices change more often than models and are kept apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Line: TypeAlias = Literal["haiku", "sonnet", "opus", "fable", "mythos"]
Tokenizer: TypeAlias = Literal["old", "new"]
ThinkingDefault: TypeAlias = Literal["off", "on", "always"]
ThinkingOff: TypeAlias = Literal["disabled", "between_tools"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the provider."""

    id: str
    aliases: tuple[str, ...]
    """Other ids of the same model. Only the 4.5 models have any: their dated ids."""
    line: Line
    """As the provider's own list names it; never to be read off the id."""
    context_tokens: int
    """Longest prompt and answer together, in tokens."""
    max_output_tokens: int
    """Largest `max_tokens`, thinking included."""
    min_cacheable_tokens: int
    """Shortest prompt prefix that can be cached, in tokens."""
    tokenizer: Tokenizer
    """new: about 1.3 times as many tokens for the same text as old."""
    thinking: ThinkingDefault
    """What a request does that does not mention thinking; always: and no request can turn it off."""
    thinking_off: ThinkingOff | None
    """The `thinking.type` that turns thinking off; None where nothing does."""
    efforts: tuple[str, ...]
    """The `output_config.effort` levels it takes, lowest first; empty where the field is an error."""
    default_effort: str | None
    """The effort of a request that names none; None where the model has no effort."""


_Row: TypeAlias = tuple[
    str, Line, int, int, int, Tokenizer, ThinkingDefault, ThinkingOff | None, tuple[str, ...], str | None
]

_NO_EFFORT: Final[tuple[str, ...]] = ()
_UP_TO_HIGH: Final = ("low", "medium", "high")
_NO_XHIGH: Final = ("low", "medium", "high", "max")
_ALL_FIVE: Final = ("low", "medium", "high", "xhigh", "max")

# id, line, context, max output, min cacheable, tokenizer, thinking, turned off by, efforts, default effort
_TABLE: Final[tuple[_Row, ...]] = (
    ("claude-fable-5-2", "fable", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "high"),
    ("claude-fable-5-1", "fable", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "high"),
    ("claude-fable-5", "fable", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "high"),
    ("claude-mythos-5-2", "mythos", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "high"),
    ("claude-mythos-5-1", "mythos", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "high"),
    ("claude-mythos-5", "mythos", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "high"),
    ("claude-opus-5-5", "opus", 1_000_000, 128_000, 512, "new", "always", None, _ALL_FIVE, "medium"),
    ("claude-opus-5", "opus", 1_000_000, 128_000, 512, "new", "on", "disabled", _ALL_FIVE, "high"),
    ("claude-opus-4-8", "opus", 1_000_000, 128_000, 1024, "new", "off", "disabled", _ALL_FIVE, "high"),
    ("claude-opus-4-7", "opus", 1_000_000, 128_000, 2048, "new", "off", "disabled", _ALL_FIVE, "high"),
    ("claude-opus-4-6", "opus", 1_000_000, 128_000, 4096, "old", "off", "disabled", _NO_XHIGH, "high"),
    ("claude-opus-4-5", "opus", 200_000, 64_000, 4096, "old", "off", "disabled", _UP_TO_HIGH, "high"),
    ("claude-sonnet-5-5", "sonnet", 1_000_000, 128_000, 512, "new", "on", "between_tools", _ALL_FIVE, "high"),
    ("claude-sonnet-5", "sonnet", 1_000_000, 128_000, 1024, "new", "on", "disabled", _ALL_FIVE, "high"),
    ("claude-sonnet-4-6", "sonnet", 1_000_000, 128_000, 1024, "old", "off", "disabled", _NO_XHIGH, "high"),
    ("claude-sonnet-4-5", "sonnet", 200_000, 64_000, 1024, "old", "off", "disabled", _NO_EFFORT, None),
    ("claude-haiku-5-5", "haiku", 1_000_000, 128_000, 512, "new", "on", "disabled", _ALL_FIVE, "medium"),
    ("claude-haiku-4-5", "haiku", 200_000, 64_000, 4096, "old", "off", "disabled", _NO_EFFORT, None),
)

_DATED: Final[Mapping[str, str]] = {
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
}


def _model(row: _Row) -> Model:
    model_id, line, context, output, cacheable, tokenizer, thinking, off, efforts, default_effort = row
    return Model(
        id=model_id,
        aliases=(_DATED[model_id],) if model_id in _DATED else (),
        line=line,
        context_tokens=context,
        max_output_tokens=output,
        min_cacheable_tokens=cacheable,
        tokenizer=tokenizer,
        thinking=thinking,
        thinking_off=off,
        efforts=efforts,
        default_effort=default_effort,
    )


MODELS: Final[Mapping[str, Model]] = MappingProxyType({row[0]: _model(row) for row in _TABLE})
"""Every current model, by id: strongest line first, newest first within a line."""

_BY_NAME: Final[Mapping[str, Model]] = {
    name: model for model in MODELS.values() for name in (model.id, *model.aliases)
}

_FLOORS: Final[Mapping[str, int]] = {"low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16384}

_FLOOR_WITHOUT_EFFORT: Final = 2048
"""Half for the smallest thinking budget that the provider takes (1024 tokens), half for the answer."""


def find(name: str) -> Model | None:
    """Return the model with this id or alias; None where it is not one of the catalogue's."""
    return _BY_NAME.get(name)


def thinks(model: Model, thinking: str) -> bool:
    """Return whether a call thinks before it answers.

    Args:
        model: The model that answers.
        thinking: A tier's word (`off`, `adaptive`) or the request's own `thinking.type`. Any other word, such
            as `keep`, stands for a request that does not mention thinking.
    """
    if thinking in {"off", "disabled", "between_tools"}:
        return model.thinking_off is None
    return thinking in {"adaptive", "enabled"} or model.thinking != "off"


def nearest_effort(model: Model, effort: str) -> str | None:
    """Return `effort` where the model takes it, else the highest level below it that the model takes.

    None where the model takes no effort at all. A level that the catalogue does not know is returned as is.
    """
    if not model.efforts:
        return None
    if effort in model.efforts or effort not in _ALL_FIVE:
        return effort
    below = _ALL_FIVE[: _ALL_FIVE.index(effort)]
    return next(level for level in reversed(below) if level in model.efforts)


def thinking_floor(model: Model, *, effort: str | None, thinking: str) -> int:
    """Return the smallest `max_tokens` that leaves room to think and to answer; 0 where nothing thinks.

    The figures by effort are ours: the provider publishes none, and says only that a small cap can be spent
    on thinking to the last token. A tier overrides them with its own `thinking_floor`.

    Args:
        model: The model that answers.
        effort: The call's effort; None is the model's default.
        thinking: As in `thinks`.
    """
    if not thinks(model, thinking):
        return 0
    taken = nearest_effort(model, effort) if effort else model.default_effort
    return _FLOORS.get(taken or "", _FLOOR_WITHOUT_EFFORT)


def converted(tokens: int, *, source: Model, target: Model) -> int:
    """Return about how many tokens a text has on `target` that has `tokens` on `source`, rounded half up.

    An approximation: the provider's migration guides put the new tokenizer at about 1.3 times as many tokens
    for the same text. Others measured 1.00 for Chinese, 1.13 for TypeScript, 1.45 for English prose.
    """
    if source.tokenizer == target.tokenizer:
        return tokens
    numerator, denominator = (13, 10) if target.tokenizer == "new" else (10, 13)
    return (2 * tokens * numerator + denominator) // (2 * denominator)
