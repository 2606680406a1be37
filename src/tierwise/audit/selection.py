"""Selection: which lines of evidence are proven together, so that few of all the claims are wrong.

Twenty task types watched at 5 % each would prove something false every other time. e-BH declares the k lines with
the largest e-values, for the largest k with e_(k) ≥ K / (α k), and keeps the expected share of false claims at α
under any dependence between lines (Wang & Ramdas 2022).

That holds for e-values at one time, and fails for each line's best value so far (arXiv 2501.19360). So a line that is
declared, or closed, keeps the value it had then for good, and a line that is still open counts with its value now,
never with its largest. K counts every line that was ever opened, closed ones too: a line that drift or a new
model opens anew is one claim more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is proven, by line."""

    proven: frozenset[str]
    """Every line that the claim "safe" holds for."""
    new: Mapping[str, float]
    """Lines that are proven now and were not, with the ln E that is theirs from now on: freeze it."""


def select(live: Mapping[str, float], *, frozen: Mapping[str, float], alpha: float) -> Selection:
    """Apply e-BH to the ln E of open lines now and of declared or closed lines as they were frozen.

    A line stays proven as long as no line is opened: frozen values do not move, and other lines only help.
    """
    assert not live.keys() & frozen.keys()
    values = {**live, **frozen}
    proven = frozenset(e_bh(values, alpha=alpha))
    return Selection(
        proven=proven,
        new={line: value for line, value in live.items() if line in proven},
    )


def e_bh(values: Mapping[str, float], *, alpha: float) -> tuple[str, ...]:
    """The lines that e-BH declares, largest evidence first; `values` are ln E (Wang & Ramdas 2022)."""
    ranked = sorted(values, key=lambda line: (-values[line], line))
    bar = log(len(values) / alpha) if values else 0.0
    enough = [rank for rank, line in enumerate(ranked, start=1) if values[line] >= bar - log(rank)]
    return tuple(ranked[: enough[-1]]) if enough else ()


def bar(*, lines: int, declared: int, alpha: float) -> float:
    """The ln E that the next line needs where `declared` of `lines` are proven: ln(K / (α (k + 1)))."""
    return log(lines / (alpha * min(declared + 1, lines)))
