"""Fitting: what must change in a body before another model takes it. Parameters only, never what was said.

The table below is what the provider's documentation says that each model refuses: a row for each feature of a
request, a column for each model. A word says what becomes of the feature there:

    ok      is taken as it is
    no      cannot be taken: the call is ineligible for this model
    drop    is removed
    budget  adaptive thinking becomes a fixed thinking budget, below the cap
    adapt   a fixed thinking budget becomes adaptive thinking
    swap    becomes the `thinking.type` that turns thinking off on this model
    high    is taken at an effort of high or below: a higher effort is lowered
    alone   is taken without a thinking budget: thinking is turned off
    one     temperature or top_p, not both: top_p is removed
    plain   is taken at its default value, and removed at any other
    auto    becomes `auto`

What is bound to a conversation stays valid because no message, system prompt or tool is ever edited: thinking
blocks that the model cannot read are dropped by the provider itself, unbilled. The efforts that a model takes,
its largest cap and its context are in the catalogue. What is not known here passes untouched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from tierwise.core.call import Call
from tierwise.core.catalog import MODELS, Model, nearest_effort, thinks
from tierwise.core.decision import Decision


class Removed(Enum):
    """Type of `REMOVED`."""

    REMOVED = "removed"


REMOVED: Final = Removed.REMOVED
"""In place of a value: the key goes. An object that this leaves empty goes too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One edit of a body. A key that is to be removed may be absent already."""

    path: tuple[str, ...]
    """Keys from the top of the body: `("output_config", "effort")`."""
    after: Any
    """The new value, or `REMOVED`."""
    before: Any
    """The value as sent, as far as the call knows it; None where it does not, or the key was absent."""
    rule: str
    """The table's row that asks for it, or `decision.…`: short and stable, for counting."""
    why: str
    """One sentence, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The model takes the body with these changes; with none, byte for byte."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ineligible:
    """The model cannot take this body, whatever its parameters."""

    feature: str
    """The table's row, or `context`."""
    why: str
    """One sentence, for the caller."""


# H: Haiku; Sonnet 4.5 is in the column of Haiku 4.5. O: Opus. S: Sonnet. 4.6: Sonnet and Opus. F: Fable, and
# the Mythos of the same number.
#
# Source: the provider's migration guides, "what's new" pages and release notes up to 2026-11-12; cells that
# they leave open are filled from the nearest older model. Some rows go by more than a refusal. `fallbacks` are
# dropped where a model takes none, or only some. `inference_geo.pinned` says where data may be processed: it is
# not ours to drop. `speed.standard` says what runs without it. `speed.fast`: Opus 4.6 takes it, and runs at
# standard speed. `thread.moved`: a thread is bound to the model that it began with.
_TABLE: Final = """
                           H4.5   O4.5   H5.5  4.6   O4.7  O4.8  S5    O5    S5.5  O5.5  F5    F5.1  F5.2
thinking.adaptive          budget budget ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
thinking.enabled           ok     ok     adapt ok    adapt adapt adapt adapt adapt adapt adapt adapt adapt
thinking.disabled          ok     ok     high  ok    ok    ok    ok    high  swap  drop  drop  drop  drop
thinking.between_tools     swap   swap   swap  swap  swap  swap  swap  swap  high  drop  drop  drop  drop
sampling.2023-06-01        one    one    plain ok    drop  drop  drop  drop  plain drop  drop  drop  drop
sampling.2026-10-21        drop   drop   drop  drop  drop  drop  drop  drop  drop  drop  drop  drop  drop
sampling.thinking          plain  plain  ok    plain ok    ok    ok    ok    ok    ok    ok    ok    ok
prefill                    alone  alone  no    no    no    no    no    no    no    no    no    no    no
tool_choice.any            alone  alone  ok    adapt ok    ok    ok    ok    auto  auto  ok    auto  auto
tool_choice.tool           alone  alone  ok    adapt ok    ok    ok    ok    auto  auto  ok    auto  auto
system_turns               no     no     ok    no    no    ok    no    ok    ok    ok    ok    ok    ok
task_budget                drop   drop   ok    drop  ok    ok    drop  ok    ok    ok    ok    ok    ok
compaction                 drop   drop   ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
fallbacks                  drop   drop   drop  drop  drop  drop  drop  ok    drop  ok    ok    ok    ok
computer_20250124          ok     no     no    no    no    no    no    no    no    no    no    no    no
computer_20251124          no     ok     no    ok    ok    ok    ok    ok    no    no    ok    ok    no
computer_toolset_20260801  no     no     ok    no    no    no    ok    ok    ok    ok    ok    ok    ok
inference_geo.global       drop   drop   ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
inference_geo.pinned       no     no     ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
speed.standard             drop   drop   ok    ok    ok    drop  ok    drop  ok    ok    ok    ok    ok
speed.fast                 drop   drop   drop  drop  drop  drop  drop  drop  drop  ok    drop  drop  ok
speed.fast+beta            drop   drop   drop  drop  drop  ok    drop  ok    drop  ok    drop  drop  ok
thread.moved               no     no     no    no    no    no    no    no    no    no    no    no    no
"""

_COLUMN_OF: Final[Mapping[str, str]] = {
    "claude-haiku-4-5": "H4.5",
    "claude-sonnet-4-5": "H4.5",
    "claude-opus-4-5": "O4.5",
    "claude-haiku-5-5": "H5.5",
    "claude-sonnet-4-6": "4.6",
    "claude-opus-4-6": "4.6",
    "claude-opus-4-7": "O4.7",
    "claude-opus-4-8": "O4.8",
    "claude-sonnet-5": "S5",
    "claude-opus-5": "O5",
    "claude-sonnet-5-5": "S5.5",
    "claude-opus-5-5": "O5.5",
    "claude-fable-5": "F5",
    "claude-mythos-5": "F5",
    "claude-fable-5-1": "F5.1",
    "claude-mythos-5-1": "F5.1",
    "claude-fable-5-2": "F5.2",
    "claude-mythos-5-2": "F5.2",
}

_REFUSALS: Final[Mapping[str, str]] = {
    "prefill": "{model} does not continue a prefilled answer: the last message must be the user's.",
    "system_turns": "{model} takes no system message among the others.",
    "computer_20250124": "{model} does not have the tool computer_20250124.",
    "computer_20251124": "{model} does not have the tool computer_20251124.",
    "computer_toolset_20260801": "{model} does not have the tool computer_toolset_20260801.",
    "inference_geo.pinned": "{model} cannot be bound to a region, and the call asks for one.",
    "thread.moved": "A thread is bound to the model that it began with, and {model} is another.",
}

_EDITS: Final[Mapping[str, tuple[str, tuple[tuple[tuple[str, ...], Any, Any], ...]]]] = {
    "tool_choice.any": (
        "{model} cannot be forced to use a tool: it may answer in words.",
        ((("tool_choice", "type"), "any", "auto"),),
    ),
    "tool_choice.tool": (
        "{model} cannot be forced to use a tool: it may answer in words, or by another tool.",
        ((("tool_choice", "type"), "tool", "auto"), (("tool_choice", "name"), None, REMOVED)),
    ),
    "task_budget": ("{model} takes no task budget.", ((("output_config", "task_budget"), None, REMOVED),)),
    "compaction": (
        "{model} does not compact its context: what the body says of managing it is left out.",
        ((("compaction",), None, REMOVED), (("context_management",), None, REMOVED)),
    ),
    "fallbacks": (
        "{model} does not take every list of fallbacks: if it refuses, the refusal stands.",
        ((("fallbacks",), None, REMOVED),),
    ),
    "inference_geo.global": (
        "{model} takes no region: it runs anywhere, as was asked.",
        ((("inference_geo",), "global", REMOVED),),
    ),
    "speed.standard": (
        "{model} takes no speed: it runs at the standard one, as was asked.",
        ((("speed",), "standard", REMOVED),),
    ),
    "speed.fast": (
        "{model} has no fast mode without a beta flag, or none at all: it runs at standard speed.",
        ((("speed",), "fast", REMOVED),),
    ),
    "speed.fast+beta": (
        "{model} has no fast mode: it runs at standard speed.",
        ((("speed",), "fast", REMOVED),),
    ),
}
"""What `drop` and `auto` do to the body: why, and of each edit the path, the value sent, the value after."""

_COMPUTER_TOOLS: Final = ("computer_20250124", "computer_20251124", "computer_toolset_20260801")

_FAST_MODE_BETA: Final = "fast-mode-2026-02-01"

_VERSION_WITHOUT_SAMPLING: Final = "2026-10-21"
"""The API version since which every model refuses sampling parameters, even at their defaults."""

_SAMPLING_DEFAULTS: Final[Mapping[str, float]] = {"temperature": 1, "top_p": 1}

_SMALLEST_BUDGET: Final = 1024
"""The smallest `thinking.budget_tokens` that the provider takes."""

_BYTES_PER_TOKEN: Final = 32
"""More bytes than any text has for each token: prose has 3 to 5, text with every character escaped 12.

A longer body is too long for its model, unless it is nearly all images. A model with a million tokens of
context is never refused by this: the provider takes no body above 32 MB.
"""

_UNTOUCHED: Final = Fitted(changes=())


def fit(call: Call, *, model: Model, decision: Decision) -> Fitted | Ineligible:
    """Return the changes that make a call's body one that `model` takes and `decision` asks for.

    A call that is decided exactly as it was asked gets none: whether its body is right is then between the
    caller and the provider. The cap that is sent is never above the caller's own, nor above the model's.

    Args:
        call: The features of the body.
        model: The catalogue's entry for `decision.model`.
        decision: What the call is sent as.
    """
    if _is_as_asked(call, decision):
        return _UNTOUCHED
    column = _COLUMNS[model.id]
    features = _features(call, moved=decision.model != call.requested_model)
    for feature in features:
        if feature in column.ineligible:
            return column.ineligible[feature]
    if call.body_bytes > model.context_tokens * _BYTES_PER_TOKEN:
        return column.ineligible["context"]
    cap = min(call.max_tokens, decision.max_tokens, model.max_output_tokens)
    conflict = next((feature for feature in features if feature in _CONFLICTS), "")
    asked = (call.thinking, call.thinking_budget)
    thinking, thinking_changes = _thinking(model.id, asked, decision.thinking, conflict, cap)
    return Fitted(
        changes=(
            *_model_change(call.requested_model, decision.model),
            *_cap_change(model.id, call.max_tokens, cap),
            *thinking_changes,
            *_effort_change(model.id, call.effort, decision.effort, thinking),
            *_sampling_changes(call, column, thinking),
            *[change for feature in features for change in column.changes.get(feature, ())],
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One model's column, made ready."""

    model: Model
    cells: Mapping[str, str]
    """Words by row."""
    ineligible: Mapping[str, Ineligible]
    """By feature: those whose word is `no`, and `context`."""
    changes: Mapping[str, tuple[Change, ...]]
    """By feature: those whose word is `drop` or `auto`. They are the same for every call."""


def _is_as_asked(call: Call, decision: Decision) -> bool:
    return (
        decision.model == call.requested_model
        and decision.max_tokens >= call.max_tokens
        and decision.thinking in {"keep", call.thinking}
        and decision.effort in {"keep", call.effort}
    )


def _features(call: Call, *, moved: bool) -> list[str]:
    """Return the rows of the table that the call has, in order; thinking, effort and sampling are apart."""
    found: list[str] = []
    if call.prefill:
        found.append("prefill")
    if call.tool_choice in {"any", "tool"}:
        found.append(f"tool_choice.{call.tool_choice}")
    if call.system_turns:
        found.append("system_turns")
    if call.task_budget:
        found.append("task_budget")
    if call.compaction:
        found.append("compaction")
    if call.fallbacks:
        found.append("fallbacks")
    if call.tool_types:
        found.extend(tool for tool in _COMPUTER_TOOLS if tool in call.tool_types)
    if call.inference_geo is not None:
        found.append("inference_geo.global" if call.inference_geo == "global" else "inference_geo.pinned")
    if call.speed is not None:
        found.append(_speed(call))
    if call.thread and moved:
        found.append("thread.moved")
    return found


def _speed(call: Call) -> str:
    beta = call.speed == "fast" and _FAST_MODE_BETA in call.betas
    return "speed.fast+beta" if beta else f"speed.{call.speed}"


_CONFLICTS: Final = frozenset({"prefill", "tool_choice.any", "tool_choice.tool"})
"""What a thinking budget does not go with."""

_remembered: Final = lru_cache(maxsize=4096)
"""For steps that depend on a few words and numbers: the same come with every call, and a `Change` is dear."""


@_remembered
def _model_change(requested: str, decided: str) -> tuple[Change, ...]:
    if decided == requested:
        return ()
    return (_change(("model",), requested, decided, "decision.model", f"The tier's model is {decided}."),)


@_remembered
def _cap_change(model_id: str, asked: int, cap: int) -> tuple[Change, ...]:
    if cap == asked:
        return ()
    rule, why = "decision.max_tokens", f"The policy caps the answer at {cap} tokens."
    if cap == MODELS[model_id].max_output_tokens:
        rule, why = "max_tokens", f"{model_id} answers with at most {cap} tokens."
    return (_change(("max_tokens",), asked, cap, rule, why),)


@_remembered
def _thinking(
    model_id: str, asked: tuple[str | None, int | None], decided: str, conflict: str, cap: int
) -> tuple[str | None, tuple[Change, ...]]:
    """Return the `thinking.type` that is sent, None for none, and the changes that make it so.

    Args:
        model_id: The model.
        asked: The caller's `thinking.type` and `thinking.budget_tokens`.
        decided: The decision's thinking.
        conflict: The feature of the call that does not go with a thinking budget; empty for none.
        cap: The cap that is sent.
    """
    column = _COLUMNS[model_id]
    sent, rule = _thinking_on(column, _wanted_thinking(column, asked[0], decided), conflict)
    fitting = _budget(*asked, cap) if sent == "enabled" else None
    if fitting is not None and fitting >= cap:
        sent, fitting, rule = None, None, "thinking.budget"
    why = _why_thinking(rule, column, decided)
    return sent, _thinking_changes(asked, (sent, fitting), rule, why)


def _wanted_thinking(column: _Column, kind: str | None, decided: str) -> str | None:
    """Return the `thinking.type` that the decision asks for, before the table is asked."""
    match decided:
        case "off":
            return _off(column.model, kind)
        case "adaptive":
            return _adaptive(column, kind)
        case _:
            return kind


def _off(model: Model, kind: str | None) -> str | None:
    if model.thinking_off is None or kind == model.thinking_off:
        return kind
    return None if model.thinking == "off" else model.thinking_off


def _adaptive(column: _Column, kind: str | None) -> str | None:
    if kind is None and column.model.thinking != "off":
        return None
    only_budgets = column.cells["thinking.adaptive"] == "budget"
    return "enabled" if only_budgets and kind == "enabled" else "adaptive"


def _thinking_on(column: _Column, wanted: str | None, conflict: str) -> tuple[str | None, str]:
    """Return the `thinking.type` that the model takes, and the rule that makes it so."""
    cells = column.cells
    instead = {"budget": "enabled", "adapt": "adaptive", "swap": column.model.thinking_off, "drop": None}
    sent = instead.get(cells.get(f"thinking.{wanted}", "ok"), wanted)
    match sent, cells.get(conflict):
        case "enabled", "alone":
            return None, conflict
        case "enabled", "adapt":
            return "adaptive", conflict
        case _:
            return sent, "decision.thinking" if sent == wanted else f"thinking.{wanted}"


def _budget(kind: str | None, budget: int | None, cap: int) -> int | None:
    """Return the caller's thinking budget where the cap leaves room for it, else half the cap.

    None where the caller enables thinking without a budget: that is for the provider to refuse.
    """
    if kind == "enabled" and (budget is None or budget < cap):
        return budget
    return max(_SMALLEST_BUDGET, cap // 2)


def _thinking_changes(
    asked: tuple[str | None, int | None], sent: tuple[str | None, int | None], rule: str, why: str
) -> tuple[Change, ...]:
    if asked == sent or (asked[0] == sent[0] != "enabled"):
        return ()
    match asked, sent:
        case ("enabled", budget), ("enabled", fitting):
            path = ("thinking", "budget_tokens")
            return (_change(path, budget, fitting, "thinking.budget", _WHY_BUDGET),)
        case ("enabled", budget), ("adaptive", _):
            # In place: `display`, which the call does not know, stays.
            return (
                _change(("thinking", "type"), "enabled", "adaptive", rule, why),
                _change(("thinking", "budget_tokens"), budget, REMOVED, rule, why),
            )
        case _, (None, _):
            return (_change(("thinking",), _thinking_value(*asked), REMOVED, rule, why),)
        case _:
            return (_change(("thinking",), _thinking_value(*asked), _thinking_value(*sent), rule, why),)


def _thinking_value(kind: str | None, budget: int | None) -> dict[str, Any] | None:
    if kind is None:
        return None
    return {"type": kind} if budget is None else {"type": kind, "budget_tokens": budget}


_WHY_BUDGET: Final = f"A thinking budget is at least {_SMALLEST_BUDGET} tokens and below the cap."


def _why_thinking(rule: str, column: _Column, decided: str) -> str:
    name = column.model.id
    match rule, column.cells.get(rule):
        case "decision.thinking", _:
            return f"The tier's thinking is {decided}."
        case "thinking.budget", _:
            return _WHY_BUDGET
        case "prefill", _:
            return f"{name} does not think before it continues a prefilled answer."
        case "thinking.enabled", _:
            return f"{name} takes no thinking budget: it thinks adaptively."
        case _, "alone":
            return f"{name} does not think where it is forced to use a tool."
        case _, "adapt":
            return f"{name} is forced to use a tool only where it thinks adaptively."
        case _, "budget":
            return f"{name} does not think adaptively: it takes a budget."
        case _, "swap":
            return f"{name} turns thinking off by {column.model.thinking_off}."
        case _:
            return f"{name} always thinks."


@_remembered
def _effort_change(
    model_id: str, asked: str | None, decided: str | None, thinking: str | None
) -> tuple[Change, ...]:
    column = _COLUMNS[model_id]
    wanted = asked if decided == "keep" else decided
    sent = nearest_effort(column.model, wanted) if wanted else None
    rule = "decision.effort" if sent == wanted else "effort"
    if sent in {"xhigh", "max"} and column.cells.get(f"thinking.{thinking}") == "high":
        sent, rule = "high", f"thinking.{thinking}"
    if sent == asked:
        return ()
    after = REMOVED if sent is None else sent
    return (_change(("output_config", "effort"), asked, after, rule, _why_effort(rule, column, wanted)),)


def _why_effort(rule: str, column: _Column, wanted: str | None) -> str:
    name = column.model.id
    if rule == "decision.effort":
        return f"The tier's effort is {wanted or 'the default of its model'}."
    if rule == "effort":
        return f"{name} takes no effort {wanted}; it takes: {', '.join(column.model.efforts) or 'none'}."
    return f"{name} takes no effort above high where thinking is off."


def _sampling_changes(call: Call, column: _Column, thinking: str | None) -> list[Change]:
    if not call.sampling:
        return []
    refused: dict[str, str] = {}
    for row in _sampling_rows(call, column.model, thinking):
        for name in _refused_sampling(call.sampling, column.cells[row]):
            refused.setdefault(name, row)
    return [
        _change((name,), call.sampling[name], REMOVED, row, _WHY_SAMPLING[row].format(model=column.model.id))
        for name, row in refused.items()
    ]


def _sampling_rows(call: Call, model: Model, thinking: str | None) -> tuple[str, ...]:
    if call.api_version is not None and call.api_version >= _VERSION_WITHOUT_SAMPLING:
        return ("sampling.2026-10-21",)
    if thinks(model, thinking or "keep"):
        return ("sampling.2023-06-01", "sampling.thinking")
    return ("sampling.2023-06-01",)


def _refused_sampling(sampling: Mapping[str, Any], word: str) -> list[str]:
    match word:
        case "drop":
            return list(sampling)
        case "plain":
            return [name for name, value in sampling.items() if value != _SAMPLING_DEFAULTS.get(name)]
        case "one" if "temperature" in sampling and "top_p" in sampling:
            return ["top_p"]
        case _:
            return []


_WHY_SAMPLING: Final[Mapping[str, str]] = {
    "sampling.2023-06-01": "{model} does not take this as sent: answers vary as they do by default.",
    "sampling.2026-10-21": "This API version takes no sampling parameters: answers vary as they do by default.",
    "sampling.thinking": "{model} does not take this while it thinks: answers vary as they do by default.",
}


def _change(path: tuple[str, ...], before: Any, after: Any, rule: str, why: str) -> Change:
    return Change(path=path, before=before, after=after, rule=rule, why=why)


def _columns() -> dict[str, _Column]:
    header, *rows = (line.split() for line in _TABLE.strip().splitlines())
    words = {name: {row[0]: row[1 + at] for row in rows} for at, name in enumerate(header)}
    return {model.id: _column(model, words[_COLUMN_OF[model.id]]) for model in MODELS.values()}


def _column(model: Model, cells: Mapping[str, str]) -> _Column:
    return _Column(
        model=model,
        cells=cells,
        ineligible={row: _ineligible(model, row) for row in _REFUSALS if cells[row] == "no"}
        | {"context": _too_long(model)},
        changes={row: _constant(model, row) for row in _EDITS if cells[row] in {"drop", "auto"}},
    )


def _ineligible(model: Model, row: str) -> Ineligible:
    return Ineligible(feature=row, why=_REFUSALS[row].format(model=model.id))


def _too_long(model: Model) -> Ineligible:
    longest = model.context_tokens * _BYTES_PER_TOKEN
    why = f"A body above {longest} bytes does not fit the {model.context_tokens} tokens of {model.id}."
    return Ineligible(feature="context", why=why)


def _constant(model: Model, row: str) -> tuple[Change, ...]:
    why, edits = _EDITS[row]
    why = why.format(model=model.id)
    return tuple(_change(path, before, after, row, why) for path, before, after in edits)


_COLUMNS: Final[Mapping[str, _Column]] = _columns()
