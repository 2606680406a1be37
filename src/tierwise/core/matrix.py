"""The matrix: what each model takes of what a request may hold, as one table.

The table is what the provider's documentation says that each model refuses: a row for each feature of a
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

The efforts that a model takes, its largest cap and its context are in the catalogue. What is not known here passes
untouched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tierwise.core.catalog import MODELS, Model
from tierwise.core.changes import REMOVED, Change, edit


@dataclass(frozen=True, slots=True, kw_only=True)
class Ineligible:
    """The model cannot take this body, whatever its parameters."""

    feature: str
    """The table's row, or `context`."""
    why: str
    """One sentence, for the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One model's column, made ready."""

    model: Model
    cells: Mapping[str, str]
    """Words by row."""
    ineligible: Mapping[str, Ineligible]
    """By feature: those whose word is `no`, and `context`."""
    changes: Mapping[str, tuple[Change, ...]]
    """By feature: those whose word is `drop` or `auto`. They are the same for every call."""
    longest_body: int
    """Bytes beyond which a body is too long for the model's context."""


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

_BYTES_PER_TOKEN: Final = 32
"""More bytes than any text has for each token: prose has 3 to 5, text with every character escaped 12.

A longer body is too long for its model, unless it is nearly all images. A model with a million tokens of
context is never refused by this: the provider takes no body above 32 MB.
"""


def _columns() -> dict[str, Column]:
    header, *rows = (line.split() for line in _TABLE.strip().splitlines())
    words = {name: {row[0]: row[1 + at] for row in rows} for at, name in enumerate(header)}
    return {model.id: _column(model, words[_COLUMN_OF[model.id]]) for model in MODELS.values()}


def _column(model: Model, cells: Mapping[str, str]) -> Column:
    longest = model.context_tokens * _BYTES_PER_TOKEN
    return Column(
        model=model,
        cells=cells,
        ineligible={row: _ineligible(model, row) for row in _REFUSALS if cells[row] == "no"}
        | {"context": _too_long(model, longest)},
        changes={row: _constant(model, row) for row in _EDITS if cells[row] in {"drop", "auto"}},
        longest_body=longest,
    )


def _ineligible(model: Model, row: str) -> Ineligible:
    return Ineligible(feature=row, why=_REFUSALS[row].format(model=model.id))


def _too_long(model: Model, longest: int) -> Ineligible:
    why = f"A body above {longest} bytes does not fit the {model.context_tokens} tokens of {model.id}."
    return Ineligible(feature="context", why=why)


def _constant(model: Model, row: str) -> tuple[Change, ...]:
    why, edits = _EDITS[row]
    why = why.format(model=model.id)
    return tuple(edit(path, before, after, row, why) for path, before, after in edits)


COLUMNS: Final[Mapping[str, Column]] = _columns()
"""By model id."""
