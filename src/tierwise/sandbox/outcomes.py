"""Recorded outcomes: the sandbox answers as two real models once did, right or wrong, prompt by prompt.

A file of outcomes is Parquet or JSON lines, a row for a prompt and a model: `id` or `instance_id`; `model`;
`valid`, `correct` or `resolved`; and, where it was recorded, `out_tokens` or `est_out_tokens`. The weak model
stands behind the haiku line, the strong one behind all others. A file of prompts (`id` and `question`,
`problem_statement`, `prompt` or `turn1`) lets a request without a directive be known by its text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

ID_COLUMNS: Final = ("id", "instance_id")
RIGHT_COLUMNS: Final = ("valid", "correct", "resolved")
TOKEN_COLUMNS: Final = ("out_tokens", "est_out_tokens")
PROMPT_COLUMNS: Final = ("question", "problem_statement", "prompt", "turn1")


class OutcomesError(ValueError):
    """The recorded outcomes cannot be used: the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one model did on one prompt."""

    right: bool
    output_tokens: int | None
    """None where it was not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """The outcomes of the two models, and the prompts' ids by their text."""

    weak: Mapping[str, Outcome]
    strong: Mapping[str, Outcome]
    ids: Mapping[str, str]

    def find(self, outcome_id: str, *, weak: bool) -> Outcome | None:
        """The outcome of a prompt; None when it was not recorded."""
        return (self.weak if weak else self.strong).get(outcome_id)

    def id_of_prompt(self, text: str) -> str | None:
        """The id of the prompt with this text; None when it is not in the file of prompts."""
        return self.ids.get(text.strip())


def load(path: Path, *, weak: str, strong: str, prompts: Path | None = None) -> Outcomes:
    """Read the outcomes of two recorded models. Raises OutcomesError."""
    rows = _rows(path)
    if not rows:
        raise OutcomesError(f"{path} holds no rows")
    columns = [_column(rows[0], names, path) for names in (ID_COLUMNS, RIGHT_COLUMNS)]
    tokens = next((name for name in TOKEN_COLUMNS if name in rows[0]), None)
    models = {str(row.get("model")) for row in rows}
    for model in (weak, strong):
        if model not in models:
            raise OutcomesError(f"{path} has no outcomes of {model!r}; it has {', '.join(sorted(models))}")
    return Outcomes(
        weak=_of_model(rows, weak, columns, tokens),
        strong=_of_model(rows, strong, columns, tokens),
        ids={} if prompts is None else _ids(prompts),
    )


def _of_model(
    rows: Iterable[Mapping[str, Any]], model: str, columns: list[str], tokens: str | None
) -> dict[str, Outcome]:
    id_column, right_column = columns
    return {
        str(row[id_column]): Outcome(
            right=bool(row[right_column]),
            output_tokens=None if tokens is None or row[tokens] is None else max(1, round(row[tokens])),
        )
        for row in rows
        if row["model"] == model
    }


def _ids(path: Path) -> dict[str, str]:
    rows = _rows(path)
    if not rows:
        return {}
    id_column = _column(rows[0], ID_COLUMNS, path)
    text_column = _column(rows[0], PROMPT_COLUMNS, path)
    return {str(row[text_column]).strip(): str(row[id_column]) for row in rows}


def _column(row: Mapping[str, Any], names: tuple[str, ...], path: Path) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise OutcomesError(f"{path} has none of the columns {', '.join(names)}")
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            return _parquet_rows(path)
        return msgspec.json.decode(
            b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[dict[str, Any]]
        )
    except OSError as error:
        raise OutcomesError(f"{path} cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise OutcomesError(f"{path} is not JSON lines: {error}") from error


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        import polars as pl  # noqa: PLC0415 - an optional extra, and slow to import
    except ImportError as error:
        raise OutcomesError('reading Parquet needs polars: pip install "tierwise[outcomes]"') from error
    return pl.read_parquet(path).to_dicts()
