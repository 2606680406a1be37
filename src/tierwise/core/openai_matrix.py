"""What OpenAI's own models refuse, by kind; a model of another name is trusted with everything.

Reasoning models take efforts of their own, and sampling parameters only where they do not reason; models that do not
reason take no effort. https://platform.openai.com/docs/guides/reasoning and
https://platform.openai.com/docs/guides/latest-model; what is not written there, such as functions beside reasoning in
Chat Completions, is what the API's errors say.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tierwise.core.policy import OPENAI_EFFORTS

Taken: TypeAlias = Literal["always", "unreasoned", "never"]
"""When something is taken: `unreasoned` is at the effort `none` alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What models of one kind take."""

    efforts: tuple[str, ...]
    """Those that are taken, from the lowest on; empty for models that do not reason."""
    own_effort: str | None
    """The one that a call without any has."""
    sampling: Taken
    """`temperature`, `top_p`, penalties and log probabilities, other than their defaults."""
    functions: Taken = "always"
    """Functions of the caller's in Chat Completions; Responses takes them at every effort."""
    stop: bool = True
    """Whether `stop` is taken."""
    older_cap: bool = False
    """Whether `max_tokens` is taken for `max_completion_tokens`."""
    most_tokens: int | None = None
    """The largest cap; None where it is not known."""

    @property
    def reasons(self) -> bool:
        """Whether such a model reasons at all."""
        return bool(self.efforts)

    def nearest_effort(self, effort: str) -> str:
        """Return the highest level that is taken and not above; else the lowest. Unknown levels stay."""
        if effort in self.efforts or effort not in OPENAI_EFFORTS:
            return effort
        below = OPENAI_EFFORTS[: OPENAI_EFFORTS.index(effort)]
        return next((level for level in reversed(below) if level in self.efforts), self.efforts[0])


def find(model: str) -> Kind | None:
    """Return a model's kind, by its name with or without its date; None where the name is not known."""
    return _KIND_OF.get(_DATE.sub("", model))


_DATE: Final = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def _plain(most_tokens: int) -> Kind:
    return Kind(efforts=(), own_effort=None, sampling="always", older_cap=True, most_tokens=most_tokens)


_GPT_5_TOKENS: Final = 128_000

KINDS: Final[Mapping[str, Kind]] = {
    "gpt-3.5-turbo gpt-4-turbo": _plain(4_096),
    "gpt-4o gpt-4o-mini": _plain(16_384),
    "gpt-4.1 gpt-4.1-mini gpt-4.1-nano": _plain(32_768),
    "o1 o3-mini": Kind(
        efforts=("low", "medium", "high"), own_effort="medium", sampling="never", most_tokens=100_000
    ),
    "o3 o4-mini": Kind(
        efforts=("low", "medium", "high"),
        own_effort="medium",
        sampling="never",
        stop=False,
        most_tokens=100_000,
    ),
    "gpt-5 gpt-5-mini gpt-5-nano": Kind(
        efforts=("minimal", "low", "medium", "high"),
        own_effort="medium",
        sampling="never",
        stop=False,
        most_tokens=_GPT_5_TOKENS,
    ),
    "gpt-5.1": Kind(
        efforts=("none", "low", "medium", "high"),
        own_effort="none",
        sampling="unreasoned",
        stop=False,
        most_tokens=_GPT_5_TOKENS,
    ),
    "gpt-5.2 gpt-5.4 gpt-5.4-mini gpt-5.4-nano": Kind(
        efforts=("none", "low", "medium", "high", "xhigh"),
        own_effort="none",
        sampling="unreasoned",
        stop=False,
        most_tokens=_GPT_5_TOKENS,
    ),
    "gpt-5.5": Kind(
        efforts=("none", "low", "medium", "high", "xhigh"),
        own_effort="medium",
        sampling="unreasoned",
        stop=False,
        most_tokens=_GPT_5_TOKENS,
    ),
    "gpt-5.6 gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna": Kind(
        efforts=("none", "low", "medium", "high", "xhigh"),
        own_effort="medium",
        sampling="unreasoned",
        functions="unreasoned",
        stop=False,
        most_tokens=_GPT_5_TOKENS,
    ),
    "gpt-6-sol gpt-6-luna gpt-6-astra gpt-6.1-sol gpt-6.1-terra gpt-6.2-sol gpt-6.2-astra": Kind(
        efforts=("low", "medium", "high", "xhigh", "max"),
        own_effort="medium",
        sampling="never",
        functions="never",
        stop=False,
    ),
}
"""By the names of their models, dates left out."""

_KIND_OF: Final[Mapping[str, Kind]] = {name: kind for names, kind in KINDS.items() for name in names.split()}
