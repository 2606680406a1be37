"""Fitting for OpenAI's clients: model, cap and effort, and that a stream tells its usage. Nothing else is touched.

No table says what each model takes: the servers behind this API are many, and each refuses what it does not take.
"""

from functools import lru_cache
from typing import Final

from tierwise.core.call import UNCAPPED, Call
from tierwise.core.changes import Change, edit
from tierwise.core.decision import Decision

USAGE_PATH: Final = ("stream_options", "include_usage")


def fit_openai(call: Call, decision: Decision) -> tuple[Change, ...]:
    """Return the changes that make a body what `decision` asks for.

    The cap that is sent is never above the caller's own. The effort is the caller's where the tier has none.
    """
    return (
        *_model(call.requested_model, decision.model),
        *_cap(call.cap_path, call.max_tokens, min(call.max_tokens, decision.max_tokens)),
        *_effort(call.effort_path, call.effort, decision.effort),
        *(() if call.usage_told else asked_usage()),
    )


_remembered: Final = lru_cache(maxsize=4096)
"""For steps that depend on a few words and numbers: the same come with every call, and a `Change` is dear."""


@_remembered
def asked_usage() -> tuple[Change, ...]:
    """Return the change that has a stream tell its usage, without which nobody would know its cost."""
    return (edit(USAGE_PATH, None, True, "stream.usage", "Only a stream that is asked to tells its usage."),)  # noqa: FBT003 — the value of the field


@_remembered
def _model(requested: str, decided: str) -> tuple[Change, ...]:
    if decided == requested:
        return ()
    return (edit(("model",), requested, decided, "decision.model", f"The tier's model is {decided}."),)


@_remembered
def _cap(path: tuple[str, ...], asked: int, cap: int) -> tuple[Change, ...]:
    if cap == asked:
        return ()
    before = None if asked == UNCAPPED else asked
    return (edit(path, before, cap, "decision.max_tokens", f"The policy caps the answer at {cap} tokens."),)


@_remembered
def _effort(path: tuple[str, ...], asked: str | None, decided: str | None) -> tuple[Change, ...]:
    if decided in {None, "keep", asked}:
        return ()
    return (edit(path, asked, decided, "decision.effort", f"The tier's effort is {decided}."),)
