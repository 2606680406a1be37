"""A call: what routing and fitting may know of a request. Never its text."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from tierwise.values import value

Family: TypeAlias = Literal["anthropic", "openai"]
"""Whose API a call speaks: Messages, or Chat Completions and Responses. A call stays in its family."""

UNCAPPED: Final = 2**31 - 1
"""In place of a cap that the caller did not give, as only OpenAI's clients may: more than any model writes."""


@value
class Call:
    """One request to the provider, read once at the edge.

    The body's own bytes stay with the wire: this holds the features that a decision depends on.
    """

    requested_model: str
    """The model as the caller wrote it: a provider's id, or a virtual name such as `task/extraction`."""
    max_tokens: int
    """The caller's own cap; `UNCAPPED` where it gave none."""
    stream: bool = False
    body_bytes: int = 0
    """Length of the body: an upper bound of its text."""

    api_version: str | None = None
    """The `anthropic-version` header."""
    betas: tuple[str, ...] = ()
    """The flags of the `anthropic-beta` header, in order."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Request headers that match rules may look at, by lower-case name. Credentials are never among them."""
    metadata_user_id: str | None = None

    thinking: str | None = None
    """`thinking.type` as sent: adaptive, enabled, disabled, between_tools, or one not known yet."""
    thinking_budget: int | None = None
    """`thinking.budget_tokens` as sent."""
    effort: str | None = None
    """`output_config.effort` as sent."""
    task_budget: bool = False
    """Whether `output_config.task_budget` is there."""
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`temperature`, `top_p` and `top_k`, those that were sent, with their values; None for one that is no number. Of
    OpenAI's clients also penalties, log probabilities and `stop`."""
    prefill: bool = False
    """Whether the last message is the assistant's own: the beginning of an answer. One that holds a paused turn of
    the provider's tools is none: every model continues it."""
    turns: int = 1
    """Number of messages."""
    system_turns: bool = False
    """Whether a message with the role `system` stands between the others."""
    tool_choice: str | None = None
    """`tool_choice.type` as sent: auto, any, tool, none."""
    tool_types: tuple[str, ...] = ()
    """Types of the provider's own tools among `tools` (`computer_20250124`), in order, each once."""
    speed: str | None = None
    inference_geo: str | None = None
    compaction: bool = False
    """Whether `compaction`, or a `compact_…` edit in `context_management`, is there."""
    fallbacks: bool = False
    """Whether `fallbacks` is there."""
    thread: bool = False
    """Whether `thread` is there: the provider holds the conversation."""
    begins_thread: bool = False
    """Whether the thread begins with this call, whose body then holds all of its conversation."""
    batch: bool = False
    """Whether it is an item of a Message Batch, which is billed at half price."""
    opening: str | None = None
    """Fingerprint of the conversation's first message, the same for every turn of it; None where a thread goes on."""
    family: Family = "anthropic"
    cap_path: tuple[str, ...] = ("max_tokens",)
    """Where the cap stands in the body."""
    effort_path: tuple[str, ...] = ("output_config", "effort")
    """Where the effort stands in the body."""
    stored_prompt: bool = False
    """Whether it names a prompt that the provider stores (`prompt` of Responses), with tools that the body lacks."""
    functions: bool = False
    """Whether functions of the caller's are among the tools of a call of OpenAI's family."""
    reasoning: bool = False
    """Whether `reasoning` of Responses is there."""
    samples: int = 1
    """How many replies it asks for at once: `n` of Chat Completions."""
    usage_told: bool = True
    """Whether the reply tells its usage as the call is: a Chat Completions stream does only where it is asked to."""

    @property
    def continues_thread(self) -> bool:
        """Whether the body holds only what is new: how long the prompt is, the provider alone knows."""
        return self.thread and not self.begins_thread
