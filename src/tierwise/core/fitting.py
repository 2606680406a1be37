"""Fitting: what must change in a body before another model takes it. Parameters only, never what was said.

The matrix says what each model takes; here it is asked. What is bound to a conversation stays valid because no
message, system prompt or tool is ever edited: thinking blocks that the model cannot read are dropped by the provider
itself, unbilled.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from tierwise.core.call import Call
from tierwise.core.catalog import MODELS, Model, nearest_effort, thinks
from tierwise.core.changes import REMOVED, Change, edit
from tierwise.core.decision import Decision
from tierwise.core.matrix import COLUMNS, Column, Ineligible
from tierwise.values import value


@value
class Fitted:
    """The model takes the body with these changes; with none, byte for byte."""

    changes: tuple[Change, ...]


_COMPUTER_TOOLS: Final = ("computer_20250124", "computer_20251124", "computer_toolset_20260801")

_FAST_MODE_BETA: Final = "fast-mode-2026-02-01"

_VERSION_WITHOUT_SAMPLING: Final = "2026-10-21"
"""The API version since which every model refuses sampling parameters, even at their defaults."""

_SAMPLING_DEFAULTS: Final[Mapping[str, float]] = {"temperature": 1, "top_p": 1}

_SMALLEST_BUDGET: Final = 1024
"""The smallest `thinking.budget_tokens` that the provider takes."""

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
    column = COLUMNS[model.id]
    task_budget = _task_budget_changes(call, column, decision)
    if not task_budget and _is_as_asked(call, decision):
        return _UNTOUCHED
    features = _features(call, moved=decision.model != call.requested_model)
    for feature in features:
        if feature in column.ineligible:
            return column.ineligible[feature]
    if call.body_bytes > column.longest_body:
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
            *task_budget,
        )
    )


def _is_as_asked(call: Call, decision: Decision) -> bool:
    return (
        decision.model == call.requested_model
        and decision.max_tokens >= call.max_tokens
        and decision.thinking in {"keep", call.thinking}
        and decision.effort in {"keep", call.effort}
    )


TASK_BUDGET_BETA: Final = "task-budgets-2026-03-13"
"""The flag that a call with a task budget needs in `anthropic-beta`."""

TASK_BUDGET_PATH: Final = ("output_config", "task_budget")


def _task_budget_changes(call: Call, column: Column, decision: Decision) -> tuple[Change, ...]:
    """Tell the model the contract's task budget, where it can be told and the caller tells none."""
    total = decision.task_budget
    if total is None or call.task_budget or column.cells["task_budget"] != "ok":
        return ()
    told = {"type": "tokens", "total": total}
    why = f"The contract gives a task {total} tokens."
    return (edit(TASK_BUDGET_PATH, None, told, "decision.task_budget", why),)


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
    return (edit(("model",), requested, decided, "decision.model", f"The tier's model is {decided}."),)


@_remembered
def _cap_change(model_id: str, asked: int, cap: int) -> tuple[Change, ...]:
    if cap == asked:
        return ()
    rule, why = "decision.max_tokens", f"The policy caps the answer at {cap} tokens."
    if cap == MODELS[model_id].max_output_tokens:
        rule, why = "max_tokens", f"{model_id} answers with at most {cap} tokens."
    return (edit(("max_tokens",), asked, cap, rule, why),)


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
    column = COLUMNS[model_id]
    sent, rule = _thinking_on(column, _wanted_thinking(column, asked[0], decided), conflict)
    fitting = _budget(*asked, cap) if sent == "enabled" else None
    if fitting is not None and fitting >= cap:
        sent, fitting, rule = None, None, "thinking.budget"
    why = _why_thinking(rule, column, decided)
    return sent, _thinking_changes(asked, (sent, fitting), rule, why)


def _wanted_thinking(column: Column, kind: str | None, decided: str) -> str | None:
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


def _adaptive(column: Column, kind: str | None) -> str | None:
    if kind is None and column.model.thinking != "off":
        return None
    only_budgets = column.cells["thinking.adaptive"] == "budget"
    return "enabled" if only_budgets and kind == "enabled" else "adaptive"


def _thinking_on(column: Column, wanted: str | None, conflict: str) -> tuple[str | None, str]:
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
            return (edit(path, budget, fitting, "thinking.budget", _WHY_BUDGET),)
        case ("enabled", budget), ("adaptive", _):
            # In place: `display`, which the call does not know, stays.
            return (
                edit(("thinking", "type"), "enabled", "adaptive", rule, why),
                edit(("thinking", "budget_tokens"), budget, REMOVED, rule, why),
            )
        case _, (None, _):
            return (edit(("thinking",), _thinking_value(*asked), REMOVED, rule, why),)
        case _:
            return (edit(("thinking",), _thinking_value(*asked), _thinking_value(*sent), rule, why),)


def _thinking_value(kind: str | None, budget: int | None) -> dict[str, Any] | None:
    if kind is None:
        return None
    return {"type": kind} if budget is None else {"type": kind, "budget_tokens": budget}


_WHY_BUDGET: Final = f"A thinking budget is at least {_SMALLEST_BUDGET} tokens and below the cap."


def _why_thinking(rule: str, column: Column, decided: str) -> str:
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
    column = COLUMNS[model_id]
    wanted = asked if decided == "keep" else decided
    sent = nearest_effort(column.model, wanted) if wanted else None
    rule = "decision.effort" if sent == wanted else "effort"
    if sent in {"xhigh", "max"} and column.cells.get(f"thinking.{thinking}") == "high":
        sent, rule = "high", f"thinking.{thinking}"
    if sent == asked:
        return ()
    after = REMOVED if sent is None else sent
    return (edit(("output_config", "effort"), asked, after, rule, _why_effort(rule, column, wanted)),)


def _why_effort(rule: str, column: Column, wanted: str | None) -> str:
    name = column.model.id
    if rule == "decision.effort":
        return f"The tier's effort is {wanted or 'the default of its model'}."
    if rule == "effort":
        return f"{name} takes no effort {wanted}; it takes: {', '.join(column.model.efforts) or 'none'}."
    return f"{name} takes no effort above high where thinking is off."


def _sampling_changes(call: Call, column: Column, thinking: str | None) -> list[Change]:
    if not call.sampling:
        return []
    refused: dict[str, str] = {}
    for row in _sampling_rows(call, column.model, thinking):
        for name in _refused_sampling(call.sampling, column.cells[row]):
            refused.setdefault(name, row)
    return [
        edit((name,), call.sampling[name], REMOVED, row, _WHY_SAMPLING[row].format(model=column.model.id))
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
