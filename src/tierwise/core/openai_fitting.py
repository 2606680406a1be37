"""Fitting for OpenAI's clients: model, cap and effort, that a stream tells its usage, and what a known model refuses.

The servers behind this API are many, and each refuses what it does not take. Only of OpenAI's own models a table says
what that is, and it is asked where the call was not made for the model that is decided, or gets another effort.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final

from tierwise.core.call import UNCAPPED, Call
from tierwise.core.changes import REMOVED, Change, edit
from tierwise.core.decision import Decision
from tierwise.core.matrix import Ineligible
from tierwise.core.openai_matrix import Kind, Taken, find

USAGE_PATH: Final = ("stream_options", "include_usage")


def fit_openai(call: Call, decision: Decision) -> tuple[Change, ...] | Ineligible:
    """Return the changes that make a body what `decision` asks for, and its model takes.

    The cap that is sent is never above the caller's own. The effort is the caller's where the tier has none.
    """
    kind = None if _is_as_asked(call, decision) else find(decision.model)
    effort = call.effort if decision.effort in {None, "keep"} else decision.effort
    others = _effort(call.effort_path, call.effort, effort)
    if kind is not None:
        if not _takes_functions(call, kind, effort):
            if kind.functions == "never":
                why = f"{decision.model} takes functions in Responses alone, not in Chat Completions."
                return Ineligible(feature="openai.functions", why=why)
            effort = "none"
        others = _kinds_changes(call, decision, kind, effort)
    return (
        *_model(call.requested_model, decision.model),
        *_cap(call, spelled(call, decision), decision, kind),
        *others,
        *(() if call.usage_told else asked_usage()),
    )


def spelled(call: Call, decision: Decision) -> Call:
    """The call with its cap where the decided model takes it: reasoning models know the older spelling no more."""
    if call.cap_path != ("max_tokens",) or call.max_tokens == UNCAPPED or _is_as_asked(call, decision):
        return call
    kind = find(decision.model)
    return call if kind is None or kind.older_cap else replace(call, cap_path=("max_completion_tokens",))


_remembered: Final = lru_cache(maxsize=4096)
"""For steps that depend on a few words and numbers: the same come with every call, and a `Change` is dear."""


@_remembered
def asked_usage() -> tuple[Change, ...]:
    """Return the change that has a stream tell its usage, without which nobody would know its cost."""
    return (edit(USAGE_PATH, None, True, "stream.usage", "Only a stream that is asked to tells its usage."),)  # noqa: FBT003 — the value of the field


def _is_as_asked(call: Call, decision: Decision) -> bool:
    return decision.model == call.requested_model and decision.effort in {None, "keep", call.effort}


def _is_chat(call: Call) -> bool:
    return call.effort_path == ("reasoning_effort",)


def _takes_functions(call: Call, kind: Kind, effort: str | None) -> bool:
    return not (_is_chat(call) and call.functions) or _takes(kind.functions, effort or kind.own_effort)


def _takes(taken: Taken, effort: str | None) -> bool:
    return taken == "always" or (taken == "unreasoned" and effort == "none")


@_remembered
def _model(requested: str, decided: str) -> tuple[Change, ...]:
    if decided == requested:
        return ()
    return (edit(("model",), requested, decided, "decision.model", f"The tier's model is {decided}."),)


def _cap(call: Call, sent: Call, decision: Decision, kind: Kind | None) -> tuple[Change, ...]:
    most = UNCAPPED if kind is None or kind.most_tokens is None else kind.most_tokens
    decided = min(call.max_tokens, decision.max_tokens)
    cap = decided if decided == UNCAPPED else min(decided, most)
    why = f"The model writes at most {cap} tokens." if cap < decided else None
    if sent.cap_path == call.cap_path:
        return _capped(sent.cap_path, call.max_tokens, cap, why)
    said = f"The model takes {sent.cap_path[-1]} for it."
    older = edit(call.cap_path, call.max_tokens, REMOVED, "openai.cap", said)
    if cap == call.max_tokens:
        return (older, edit(sent.cap_path, None, cap, "openai.cap", said))
    return (older, *_capped(sent.cap_path, None, cap, why))


@_remembered
def _capped(path: tuple[str, ...], asked: int | None, cap: int, most: str | None) -> tuple[Change, ...]:
    if cap == asked:
        return ()
    before = None if asked == UNCAPPED else asked
    if most is not None:
        return (edit(path, before, cap, "openai.most_tokens", most),)
    return (edit(path, before, cap, "decision.max_tokens", f"The policy caps the answer at {cap} tokens."),)


@_remembered
def _effort(path: tuple[str, ...], asked: str | None, wanted: str | None) -> tuple[Change, ...]:
    if wanted in {None, asked}:
        return ()
    return (edit(path, asked, wanted, "decision.effort", f"The tier's effort is {wanted}."),)


def _kinds_changes(call: Call, decision: Decision, kind: Kind, effort: str | None) -> tuple[Change, ...]:
    """What a known model needs beside its name and its cap."""
    if not kind.reasons:
        return _unreasoned(call, decision.model)
    nearest = None if effort is None else kind.nearest_effort(effort)
    sampling = _sampling(call, decision.model, kind, nearest or kind.own_effort)
    if nearest in {None, call.effort, decision.effort}:
        return (*_effort(call.effort_path, call.effort, nearest), *sampling)
    why = f"{decision.model} takes {', '.join(kind.efforts)}; with functions in Chat Completions it may take none."
    return (edit(call.effort_path, call.effort, nearest, "openai.effort", why), *sampling)


def _unreasoned(call: Call, model: str) -> tuple[Change, ...]:
    if call.effort is None and not call.reasoning:
        return ()
    why = f"{model} does not reason."
    return (edit(call.effort_path[:1], call.effort, REMOVED, "openai.effort", why),)


def _sampling(call: Call, model: str, kind: Kind, effort: str | None) -> tuple[Change, ...]:
    if not call.sampling:
        return ()
    taken, is_chat = _takes(kind.sampling, effort), _is_chat(call)
    refused = [
        name
        for name, given in call.sampling.items()
        if (
            not kind.stop
            if name == "stop"
            else not taken and not (is_chat and given == _DEFAULTS.get(name, _NONE))
        )
    ]
    why = f"{model} does not take it, or not where it reasons."
    return tuple([edit((name,), call.sampling[name], REMOVED, "openai.sampling", why) for name in refused])


_NONE: Final = object()
_DEFAULTS: Final[Mapping[str, float]] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
}
"""What Chat Completions takes of every model, for it says nothing; Responses refuses the field as such."""
