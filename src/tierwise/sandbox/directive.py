"""How a request tells the sandbox what to play: `[[sandbox type=extraction task=run-3/t17 seq=0]]`.

The directive stands in the text of the last user message (the last one there counts), or, for callers that
cannot touch their prompts, in the JSON of `metadata.user_id` under the key "sandbox". Its keys:

- `type`, `task`, `seq`: a task type of the fleet, the task, and the call's place in it; they key every draw.
- `outcome`: the id of a recorded outcome.
- `prompt_tokens`: the text that holds the directive stands for so many tokens of the new tokenizer.
- `output_tokens`, `thinking_tokens`: how long the reply would be without a cap, thinking apart.
- `reply`: `text` or `tool_use`, instead of what the request's tools suggest.
- `searches`: web searches to report and bill.
- `iterations`: `compaction`, `advisor_message` or `fallback_message`, a usage of several parts.
- `helper`: the model of the advisor, or the one that the fallback hands over to.
- `fault`: a failure, as in the header `x-sandbox-fault` (see `faults`).
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tierwise.sandbox.errors import invalid
from tierwise.sandbox.shapes import Object, is_object, part_of

Directive = Mapping[str, str]

KEYS: Final = frozenset(
    {
        "type",
        "task",
        "seq",
        "outcome",
        "prompt_tokens",
        "output_tokens",
        "thinking_tokens",
        "reply",
        "searches",
        "iterations",
        "helper",
        "fault",
    }
)

OPENING: Final = "[[sandbox "


def find(text: str, body: Object) -> Directive:
    """The directive of a request whose last user text is `text`; empty when it has none.

    Raises ApiError (400) for an unknown key or a word without a value.
    """
    if OPENING in text:
        return _parse(_DIRECTIVE.findall(text)[-1:])
    user_id: Any = part_of(body, "metadata").get("user_id")
    if isinstance(user_id, str) and '"sandbox"' in user_id:
        return _from_json(user_id)
    return _NONE


def number(directive: Directive, key: str) -> int | None:
    """The whole number that `key` gives; None when the directive does not have it. Raises ApiError (400)."""
    value = directive.get(key)
    if value is None:
        return None
    if not value.isdecimal():
        raise invalid(f"sandbox: {key} is a whole number, not {value!r}")
    return int(value)


def told_apart(directive: Directive, text: str) -> int | None:
    """The `prompt_tokens` of a directive that does not stand in the last user text; None where it does."""
    return None if OPENING in text else number(directive, "prompt_tokens")


def stands_for_tokens(text: str) -> int | None:
    """The `prompt_tokens` of a directive in this text; None when it has none."""
    found = _PROMPT_TOKENS.search(text) if OPENING in text else None
    return int(found[1]) if found else None


_DIRECTIVE: Final = re.compile(r"\[\[sandbox ([^\]]*)\]\]")
_PROMPT_TOKENS: Final = re.compile(r"\[\[sandbox [^\]]*\bprompt_tokens=(\d+)")
_NONE: Final[Directive] = {}


def _parse(found: list[str]) -> Directive:
    words = found[0].split() if found else []
    wrong = next((word for word in words if "=" not in word), None)
    if wrong is not None:
        raise invalid(f"sandbox: {wrong!r} is not key=value")
    return _known(dict(word.split("=", 1) for word in words))


def _from_json(user_id: str) -> Directive:
    try:
        value: Any = msgspec.json.decode(user_id)["sandbox"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return _NONE
    if isinstance(value, str):
        return _parse([value])
    if not is_object(value):
        raise invalid("sandbox: metadata.user_id holds neither a text nor an object under 'sandbox'")
    return _known({key: str(item) for key, item in value.items()})


def _known(directive: Directive) -> Directive:
    unknown = directive.keys() - KEYS
    if unknown:
        raise invalid(
            f"sandbox: unknown directive key {min(unknown)!r}; the keys are {', '.join(sorted(KEYS))}"
        )
    return directive
