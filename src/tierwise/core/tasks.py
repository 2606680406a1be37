"""What kind of task a call belongs to: a virtual model name, a header, a match rule, or nothing; in this order."""

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from tierwise.core.call import Call
from tierwise.core.policy import DEFAULT_TYPE, MatchRule, Policy
from tierwise.names import nearest
from tierwise.values import maker, value

VIRTUAL_PREFIXES: Final = ("task/", "task-")
"""What a virtual model name begins with; the second is for clients that refuse a slash."""
_PREFIX_LENGTH: Final = 5
"""Of each of them."""

TASK_TYPE_HEADER: Final = "x-tierwise-task-type"
TASK_ID_HEADER: Final = "x-tierwise-task-id"
RUN_ID_HEADERS: Final = ("x-tierwise-run-id", "x-claude-code-session-id")
"""The first that is there names the run: ours, else Claude Code's session."""
AGENT_HEADERS: Final = ("x-tierwise-agent", "x-claude-code-agent-id")
"""The first that is there names the agent: ours, else Claude Code's subagent."""

LONGEST_ID: Final = 200
"""Ids come from the caller and go into the ledger: longer ones are cut."""


class Declared(StrEnum):
    """How a call said what kind of task it belongs to."""

    MODEL = "model"
    """By a virtual model name."""
    HEADER = "header"
    MATCH = "match"
    """It did not: a rule of the policy recognised it."""
    UNDECLARED = "undeclared"


@value
class TaskRef:
    """The task that a call belongs to, as far as the call tells."""

    declared: Declared
    type: str | None
    """Name of the contract that applies; None for an undeclared call."""
    unknown_type: str | None = None
    """The declared name, where the policy does not know it and the default contract applies."""
    nearest_type: str | None = None
    """What was probably meant by `unknown_type`."""
    task_id: str | None = None
    run_id: str | None = None
    agent: str | None = None


def virtual_type(model: str) -> str | None:
    """Return the task type that a virtual model name declares; None for a provider's id."""
    if not model.startswith(VIRTUAL_PREFIXES):
        return None
    return model[_PREFIX_LENGTH:]


def name_task(call: Call, *, policy: Policy) -> TaskRef:
    """Find out what kind of task a call belongs to.

    A declared type without a contract gets the default one, if the policy has it; `type` is None and
    `unknown_type` set where it has none.
    """
    declared, name = _declaration(call, policy)
    known = name is not None and name in policy.contracts
    return _make_task_ref(
        declared=declared,
        type=name if known else _fallback(name, policy),
        unknown_type=None if known else name,
        nearest_type=None if known or name is None else nearest(name, policy.contracts),
        task_id=_id(call.headers, (TASK_ID_HEADER,)),
        run_id=_id(call.headers, RUN_ID_HEADERS),
        agent=_id(call.headers, AGENT_HEADERS),
    )


def conversation_key(call: Call, task: TaskRef) -> str | None:
    """Return the key under which a call's conversation keeps its tier.

    Run, type and the declared task id; else run, agent, type and the fingerprint of the opening turn. None where
    the call has neither: it stands alone.
    """
    if task.task_id is not None:
        return f"task\0{task.run_id or ''}\0{task.type}\0{task.task_id}"
    if call.opening is not None:
        return f"open\0{task.run_id or ''}\0{task.agent or ''}\0{task.type}\0{call.opening}"
    return None


def continues(call: Call, task: TaskRef) -> bool:
    """Whether a call may be a later one of its conversation: the first of a new one decides afresh."""
    return task.task_id is not None or call.turns > 1


def _declaration(call: Call, policy: Policy) -> tuple[Declared, str | None]:
    name = virtual_type(call.requested_model)
    if name is not None:
        return Declared.MODEL, name[:LONGEST_ID]
    name = call.headers.get(TASK_TYPE_HEADER)
    if name:
        return Declared.HEADER, name[:LONGEST_ID]
    for rule in policy.rules:
        if _holds(rule, call):
            return Declared.MATCH, rule.task_type
    return Declared.UNDECLARED, None


def _fallback(name: str | None, policy: Policy) -> str | None:
    return DEFAULT_TYPE if name is not None and DEFAULT_TYPE in policy.contracts else None


def _holds(rule: MatchRule, call: Call) -> bool:
    if rule.model is not None and not fnmatchcase(call.requested_model, rule.model):
        return False
    if rule.user_id is not None and not _matches(call.metadata_user_id, rule.user_id):
        return False
    return all(_matches(call.headers.get(name), pattern) for name, pattern in rule.headers.items())


def _matches(value: str | None, pattern: str) -> bool:
    """What is not there matches nothing, not even `*`."""
    return value is not None and fnmatchcase(value, pattern)


def _id(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    for name in names:
        value = headers.get(name)
        if value:
            return value[:LONGEST_ID]
    return None


_make_task_ref: Final = maker(TaskRef)
