"""The models the sandbox serves: names, sizes, tokenizers and dates, as the provider's catalogue has them.

Prices are in `bill`, and what each model refuses is in `matrix`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Line = Literal["haiku", "sonnet", "opus", "fable", "mythos"]
Lifecycle = Literal["active", "deprecated", "retired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the catalogue."""

    id: str
    """The complete id, which replies carry; dated only for the 4.5 models and older ones."""
    line: Line
    column: str
    """The model's column in `matrix`; empty for a retired model."""
    context_tokens: int
    max_output_tokens: int
    min_cacheable_tokens: int
    new_tokenizer: bool
    """Whether text counts about 30 % more tokens than with the tokenizer of 4.6 and older models."""
    tool_tokens: tuple[int, int]
    """Tokens of the provider's own tool prompt: with tool_choice auto or none, and with any or tool."""
    created_at: str
    """RFC 3339; the epoch where the day of release is not known."""
    deprecated_at: str | None = None
    retires_at: str | None = None
    lifecycle: Lifecycle = "active"

    @property
    def display_name(self) -> str:
        """The name people read, such as "Claude Opus 5.5"."""
        words = [word for word in self.id.split("-") if len(word) != len("20251101")]
        name = " ".join(word.capitalize() for word in words if not word.isdigit())
        return f"{name} {'.'.join(word for word in words if word.isdigit())}"


# The tool prompts of 4.5 Sonnet and Opus, the 5.5 models and Fable are not published: a relative's stands in.
_SERVED: Final = """
id                          column  context  output  cache  tokenizer  auto  any  created
claude-fable-5-2            F52     1000000  128000  512    new        286   406  2026-11-09
claude-mythos-5-2           F52     1000000  128000  512    new        286   406  2026-11-09
claude-opus-5-5             O55     1000000  128000  512    new        286   406  1970-01-01
claude-haiku-5-5            H55     1000000  128000  512    new        286   406  2026-10-07
claude-sonnet-5-5           S55     1000000  128000  512    new        286   406  2026-09-28
claude-fable-5-1            F51     1000000  128000  512    new        286   406  2026-09-01
claude-mythos-5-1           F51     1000000  128000  512    new        286   406  2026-09-01
claude-opus-5               O5      1000000  128000  512    new        286   406  2026-07-24
claude-fable-5              F5      1000000  128000  512    new        286   406  2026-06-09
claude-mythos-5             F5      1000000  128000  512    new        286   406  2026-06-09
claude-sonnet-5             S5      1000000  128000  1024   new        354   474  1970-01-01
claude-opus-4-8             O48     1000000  128000  1024   new        290   410  1970-01-01
claude-opus-4-7             O47     1000000  128000  2048   new        675   804  1970-01-01
claude-sonnet-4-6           S46     1000000  128000  1024   old        497   589  1970-01-01
claude-opus-4-6             O46     1000000  128000  4096   old        497   589  1970-01-01
claude-opus-4-5-20251101    O45     200000   64000   4096   old        496   588  2025-11-01
claude-haiku-4-5-20251001   H45     200000   64000   4096   old        496   588  2025-10-01
claude-sonnet-4-5-20250929  S45     200000   64000   1024   old        496   588  2025-09-29
"""

_RETIRED: Final[Mapping[str, tuple[Line, str]]] = {
    "claude-opus-4-1-20250805": ("opus", "2026-08-05"),
    "claude-opus-4-20250514": ("opus", "2026-06-15"),
    "claude-sonnet-4-20250514": ("sonnet", "2026-06-15"),
    "claude-3-haiku-20240307": ("haiku", "2026-04-20"),
    "claude-3-5-haiku-20241022": ("haiku", "2026-02-19"),
    "claude-3-7-sonnet-20250219": ("sonnet", "2026-02-19"),
}

_DEPRECATED: Final[Mapping[str, str]] = {"claude-sonnet-4-5-20250929": "2026-11-30"}
"""Models that still answer, and the day they retire."""


def find(name: str) -> Model | None:
    """The model that answers to `name`, its id or the undated alias of a 4.5 model; None when none does."""
    return _BY_NAME.get(name)


def _midnight(day: str) -> str:
    return f"{day}T00:00:00Z"


def _line(model_id: str) -> Line:
    lines: tuple[Line, ...] = ("haiku", "sonnet", "opus", "fable", "mythos")
    return next(line for line in lines if line in model_id)


def _served(row: str) -> Model:
    model_id, column, context, output, cache, tokenizer, auto, forced, created = row.split()
    retires_on = _DEPRECATED.get(model_id)
    return Model(
        id=model_id,
        line=_line(model_id),
        column=column,
        context_tokens=int(context),
        max_output_tokens=int(output),
        min_cacheable_tokens=int(cache),
        new_tokenizer=tokenizer == "new",
        tool_tokens=(int(auto), int(forced)),
        created_at=_midnight(created),
        lifecycle="deprecated" if retires_on else "active",
        deprecated_at=_midnight(created) if retires_on else None,
        retires_at=_midnight(retires_on) if retires_on else None,
    )


def _retired(model_id: str, line: Line, retired_on: str) -> Model:
    return Model(
        id=model_id,
        line=line,
        column="",
        context_tokens=200_000,
        max_output_tokens=64_000,
        min_cacheable_tokens=1024,
        new_tokenizer=False,
        tool_tokens=(0, 0),
        created_at=_midnight("1970-01-01"),
        lifecycle="retired",
        deprecated_at=_midnight(retired_on),
        retires_at=_midnight(retired_on),
    )


SERVED: Final[tuple[Model, ...]] = tuple(_served(row) for row in _SERVED.strip().splitlines()[1:])
"""The models that answer, newest first."""

CATALOGUE: Final[tuple[Model, ...]] = (
    *SERVED,
    *(_retired(model_id, line, day) for model_id, (line, day) in _RETIRED.items()),
)
"""Every model that `GET /v1/models` knows, retired ones at the end."""


def _names(model: Model) -> tuple[str, ...]:
    stem, _, date = model.id.rpartition("-")
    return (model.id, stem) if len(date) == len("20251101") else (model.id,)


_BY_NAME: Final[Mapping[str, Model]] = {name: model for model in SERVED for name in _names(model)}
