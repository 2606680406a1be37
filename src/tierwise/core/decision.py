"""A decision: which tier handles a call, with which cap, and why, one sentence a reason."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from tierwise.core.policy import Effort, Thinking
from tierwise.values import value


class Why(StrEnum):
    """What kind of reason it is: for counting; the sentence is for people."""

    DECLARED = "declared"
    """How the call said its task type."""
    UNKNOWN_TYPE = "unknown-type"
    """The declared type is not in the policy; the default contract applies."""
    CONTRACT = "contract"
    """The contract names the tier."""
    CONVERSATION = "conversation"
    """The conversation already has a tier, and keeps it."""
    INELIGIBLE = "ineligible"
    """A tier's model cannot take this body."""
    CAP = "cap"
    """Where `max_tokens` comes from."""
    BUDGET = "budget"
    """A budget has less left than the call asked for."""
    AUDIT = "audit"
    """The audit makes the call on this tier, to compare."""
    AUTOPILOT = "autopilot"
    """The autopilot drew this tier, on the grounds of a verdict."""
    CASCADE = "cascade"
    """The contract tries a cheaper tier first, and checks its reply."""
    OBSERVED = "observed"
    """The decision is recorded and not acted on."""
    ATTEMPT = "attempt"
    """An earlier attempt at the same request failed, or its reply was cut."""
    UNDECLARED = "undeclared"
    """Nothing declares a task type: the call passes as asked."""


@value
class Reason:
    """One reason of a decision."""

    why: Why
    sentence: str


@value
class Decision:
    """What one call is sent as."""

    tier: str | None
    """None where no contract applies, or the policy observes and no tier takes the body."""
    model: str
    """The provider's id that goes on the wire."""
    max_tokens: int
    """The cap that goes on the wire."""
    effort: Effort | Literal["keep"] | None
    """keep: as the caller sent it. None: the model's own default."""
    thinking: Thinking
    acts: bool
    """False where the call passes as asked: observed, or undeclared."""
    reasons: tuple[Reason, ...]
    task_budget: int | None = None
    """Tokens that the model is told it has for the task, where the caller tells none; None tells nothing."""
    selection_probability: float = 1.0
    """Probability with which a call like this one gets this tier. 1 where nothing is drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A tier in place of the contract's, for new conversations: what the autopilot drew, or a cascade begins with."""

    tier: str
    probability: float
    """With which it is drawn."""
    why: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Otherwise:
    """What is taken in place of what the contract says first: on another attempt, or where a budget is short."""

    tier: str
    why: Reason
    max_tokens: int | None = None
    """The cap; None takes the contract's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The call cannot go on: the policy refuses it, no tier can take its body, or a budget is short."""

    code: Literal[
        "unknown-task-type",
        "ineligible",
        "thread",
        "budget",
        "budget-store",
        "unpriced",
        "too-dear",
        "not-supported",
    ]
    sentence: str
    """For the caller: what is wrong and what to do."""
