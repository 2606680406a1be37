"""Recorded outcomes of two models on the same prompts, read from Parquet files of others.

Sources and licences: BFCL results (HuanzhiMao/BFCL-Result; prompts of ShishirPatil/gorilla, Apache-2.0), RouteLLM's
MMLU, GSM8K and MT-Bench (lm-sys/RouteLLM, Apache-2.0), ZeroEval (WildEval/ZeroEval, Apache-2.0), SWE-bench Verified by
mini-swe-agent (SWE-bench, CC BY-NC 4.0). Only figures computed from them are kept here.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One prompt, done by both models."""

    task_type: str
    cheap: float
    """Quality from 0 to 1."""
    dear: float
    cheap_usd: float
    dear_usd: float

    @property
    def difference(self) -> float:
        return self.cheap - self.dear


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """All prompts of one pair of models."""

    name: str
    rows: tuple[Row, ...]
    priced: bool = True
    """Whether the costs are dollars; else they are in units of a call of the dearer model, by list price."""


def read(folder: Path) -> Iterator[Recorded]:
    """Read every pair of models that the bench compares."""
    bfcl = _Table(folder / "bfcl_v1_outcomes.parquet", quality="valid", cost="cost_usd")
    kinds = _kinds(folder / "bfcl_v1_prompts.parquet", "category")
    for name, cheap, dear in _BFCL:
        yield bfcl.compared(f"BFCL, {name}", cheap, dear, kinds)
    yield from _routellm(folder)
    zero = _Table(folder / "zeroeval_outcomes.parquet", quality="correct", cost="est_cost_usd")
    kinds = _kinds(folder / "zeroeval_prompts.parquet", "task")
    for name, cheap, dear in _ZERO:
        yield zero.compared(f"ZeroEval, {name}", cheap, dear, kinds)
    swe = _Table(
        folder / "swebench_verified_minisweagent.parquet",
        quality="resolved",
        cost="cost_usd",
        key="instance_id",
    )
    for name, cheap, dear in _SWE:
        kinds = {key: key.split("__")[0] for key in swe.of(cheap)}
        yield swe.compared(f"SWE-bench, {name}", cheap, dear, kinds)


_BFCL = (
    ("Haiku 3 → Sonnet 3.5", "claude-3-haiku-20240307", "claude-3-5-sonnet-20240620"),
    ("Haiku 3 → Opus 3", "claude-3-haiku-20240307", "claude-3-opus-20240229"),
    ("GPT-3.5 → GPT-4 turbo", "gpt-3.5-turbo-0125", "gpt-4-turbo-2024-04-09"),
)
_ZERO = (
    ("Haiku 3 → Sonnet 3.5 v2", "claude-3-haiku-20240307", "claude-3-5-sonnet-20241022"),
    ("Haiku 3 → Opus 3", "claude-3-haiku-20240307", "claude-3-opus-20240229"),
)
_SWE = (
    (
        "GPT-5 mini → Opus 4.5",
        "GPT-5 mini (2025-08-07) (medium reasoning)",
        "Claude 4.5 Opus medium (20251101)",
    ),
    ("Sonnet 4.5 → Opus 4.5", "Claude 4.5 Sonnet (20250929)", "Claude 4.5 Opus medium (20251101)"),
)
_LIST_RATIO = 103.0
"""GPT-4's list price to Mixtral's, where a table has no costs."""


class _Table:
    """Outcomes of many models on the same prompts."""

    def __init__(self, path: Path, *, quality: str, cost: str, key: str = "id") -> None:
        self._rows: defaultdict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
        for row in _rows(path):
            self._rows[row["model"]][row[key]] = float(row[quality]), row[cost]

    def of(self, model: str) -> Mapping[str, tuple[float, float]]:
        """Quality and cost of each prompt."""
        return self._rows[model]

    def compared(self, name: str, cheap: str, dear: str, kinds: Mapping[str, str]) -> Recorded:
        """The prompts that both models have done."""
        one, other = self.of(cheap), self.of(dear)
        rows = [
            Row(
                task_type=kinds[key],
                cheap=one[key][0],
                dear=other[key][0],
                cheap_usd=one[key][1],
                dear_usd=other[key][1],
            )
            for key in sorted(one.keys() & other.keys())
        ]
        return Recorded(name=name, rows=tuple(rows))


def _rows(path: Path) -> list[dict[str, Any]]:
    return pl.read_parquet(path).to_dicts()


def _kinds(path: Path, column: str) -> dict[str, str]:
    return {row["id"]: row[column] for row in _rows(path)}


def _routellm(folder: Path) -> Iterator[Recorded]:
    table = [row for row in _rows(folder / "routellm_mmlu_gsm8k.parquet") if not row["contaminated"]]
    for name, title in (("mmlu", "MMLU"), ("gsm8k", "GSM8K")):
        rows = [
            _listed(row["category"], row["weak_correct"], row["strong_correct"])
            for row in table
            if row["benchmark"] == name
        ]
        yield Recorded(name=f"{title}, Mixtral → GPT-4", rows=tuple(rows), priced=False)
    cheap, dear = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
    judged = [
        _listed(row["category"], (row[cheap] - 1) / 9, (row[dear] - 1) / 9)
        for row in _rows(folder / "routellm_mtbench.parquet")
        if not row["contaminated"]
    ]
    yield Recorded(name="MT-Bench, Mixtral → GPT-4", rows=tuple(judged), priced=False)


def _listed(task_type: str, cheap: float, dear: float) -> Row:
    return Row(
        task_type=task_type, cheap=float(cheap), dear=float(dear), cheap_usd=1 / _LIST_RATIO, dear_usd=1.0
    )
