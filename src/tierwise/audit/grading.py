"""Grading: which of two answers to the same call is better, by the cheapest means that can tell.

A failure is an outcome: the tier that failed did worse. Then a check of the policy is asked of both answers; without
one, equal answers are as good as each other, and of different ones nobody can say: the pair stays undecided.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias, cast

How: TypeAlias = Literal["failure", "check", "equal", "differs"]
"""How a pair's outcome was found; `differs` where it was not."""

Failure: TypeAlias = Literal["refusal", "cut", "timeout", "error"]
"""Why there is no whole answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one tier answered."""

    text: str = ""
    tool_uses: tuple[tuple[str, Any], ...] = ()
    """Name and input of each tool use, in order."""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The outcome of a pair."""

    difference: int | None
    """The cheaper tier's quality minus the dearer one's; None where nobody can say."""
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What every good answer of a task type satisfies."""

    kind: Literal["json", "regex", "exact"]
    argument: str = ""
    """A pattern, a text, or the keys that the JSON object has, with commas between them."""

    def passes(self, answer: Answer) -> bool:
        """Whether an answer is a good one."""
        text = _normal(answer.text)
        match self.kind:
            case "exact":
                return text == _normal(self.argument)
            case "regex":
                return re.search(self.argument, answer.text) is not None
            case "json":
                return _has_keys(text, self.argument)

    @property
    def version(self) -> str:
        """12 hexadecimal digits that change with the check."""
        return blake2b(f"{self.kind}:{self.argument}".encode(), digest_size=6).hexdigest()


def read_check(text: str) -> Check | str:
    """Read a check as the policy writes it; what is wrong with it, as a sentence, where something is."""
    kind, _, argument = text.partition(":")
    match kind:
        case "json":
            return Check(kind="json", argument=argument)
        case "exact" if argument:
            return Check(kind="exact", argument=argument)
        case "regex" if argument:
            try:
                re.compile(argument)
            except re.error as error:
                return f"is no pattern: {error}"
            return Check(kind="regex", argument=argument)
        case "json-schema":
            return "json-schema is planned and not in this version"
        case _:
            return "is no check"


def grade(*, dear: Answer, cheap: Answer, check: Check | None = None) -> Grade:
    """Compare the answers of two tiers.

    A check is of final answers: where one of them calls tools, only equality can tell.
    """
    if dear.failure is not None or cheap.failure is not None:
        return Grade(difference=(dear.failure is not None) - (cheap.failure is not None), how="failure")
    if check is not None and not (dear.tool_uses or cheap.tool_uses):
        return Grade(difference=check.passes(cheap) - check.passes(dear), how="check")
    if _same(dear, cheap):
        return Grade(difference=0, how="equal")
    return Grade(difference=None, how="differs")


def _same(first: Answer, second: Answer) -> bool:
    """Whether two answers say the same: as JSON where they are JSON, else as text whose spaces do not count."""
    if [*first.tool_uses] != [*second.tool_uses]:
        return False
    one, other = _normal(first.text), _normal(second.text)
    if one == other:
        return True
    value = _json(one)
    return value is not _NO_JSON and _typed(value) == _typed(_json(other))


_FENCE: Final = re.compile(r"\A```\w*\n(.*)\n```\Z", re.DOTALL)
_NO_JSON: Final = object()


def _normal(text: str) -> str:
    fenced = _FENCE.match(text.strip())
    return " ".join((fenced[1] if fenced else text).split())


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _typed(value: object) -> object:
    """A text by which JSON values are compared: the order of keys does not matter, and 1 is not true."""
    return value if value is _NO_JSON else json.dumps(value, sort_keys=True)


def _has_keys(text: str, keys: str) -> bool:
    value = _json(text)
    if value is _NO_JSON:
        return False
    wanted = [key.strip() for key in keys.split(",") if key.strip()]
    if not wanted:
        return True
    return isinstance(value, dict) and all(key in cast("Mapping[str, object]", value) for key in wanted)
