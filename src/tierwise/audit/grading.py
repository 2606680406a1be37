"""Grading: which of two answers to the same call is better, by the cheapest means that can tell.

A failure is an outcome: the tier that failed did worse. Then it counts whether the answers pass the policy's check;
where no check can tell, equal answers are as good as each other, and of different ones nobody can say: the pair stays
undecided.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from tierwise.core.checks import TextRule

How: TypeAlias = Literal["failure", "check", "equal", "differs", "unchecked"]
"""How a pair's outcome was found. It was not where it says `differs`, nothing could tell, or `unchecked`: the check
that could have did not come to an end on one of the answers."""

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
class Passed:
    """Whether each of two answers passes a check; None where that cannot tell."""

    dear: bool | None
    cheap: bool | None


def checkable(*answers: Answer) -> bool:
    """Whether a check can be asked of answers: it is of final ones, which are whole and call no tools."""
    return not any(answer.failure is not None or answer.tool_uses for answer in answers)


def grade(*, dear: Answer, cheap: Answer, passed: Passed | None = None) -> Grade:
    """Compare the answers of two tiers.

    Args:
        dear: the dearer tier's.
        cheap: the cheaper tier's.
        passed: what the check said of them; None where none was asked.
    """
    if dear.failure is not None or cheap.failure is not None:
        return Grade(difference=(dear.failure is not None) - (cheap.failure is not None), how="failure")
    if passed is not None and passed.dear is not None and passed.cheap is not None:
        return Grade(difference=passed.cheap - passed.dear, how="check")
    if _same(dear, cheap):
        return Grade(difference=0, how="equal")
    return Grade(difference=None, how="differs" if passed is None else "unchecked")


def holds(rule: TextRule, text: str) -> bool:
    """Whether a text satisfies a rule. It takes as long as the pattern does."""
    match rule.kind:
        case "exact":
            return _normal(text) == _normal(rule.argument)
        case "regex":
            return re.search(rule.argument, text) is not None
        case "json":
            return _has_keys(_normal(text), rule.argument)


def unfenced(text: str) -> str:
    """The text without the fence that models put around code."""
    fenced = _FENCE.match(text.strip())
    return fenced[1] if fenced else text


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
    return " ".join(unfenced(text).split())


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _typed(value: object) -> object:
    """A text by which JSON values are compared: the order of keys does not matter, and 1 is not true."""
    try:
        return value if value is _NO_JSON else json.dumps(value, sort_keys=True)
    except RecursionError:
        return object()


def _has_keys(text: str, keys: str) -> bool:
    value = _json(text)
    if value is _NO_JSON:
        return False
    wanted = [key.strip() for key in keys.split(",") if key.strip()]
    if not wanted:
        return True
    return isinstance(value, dict) and all(key in cast("Mapping[str, object]", value) for key in wanted)
