"""What the audit's statistics cost in time, in pairs and in errors: simulated pairs and fleets, no real model."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, log, sqrt
from statistics import NormalDist, median
from typing import Final

from rich.console import Console
from rich.table import Table

from audit_fleet import PLANS, figures, fleet, run
from measuring import Spread, arguments, show, timed, write
from tierwise.audit.confidence import confidence
from tierwise.audit.counts import Counts
from tierwise.audit.drift import Suspicion, alarms, falls_below, observe
from tierwise.audit.evidence import log_safe, threshold
from tierwise.audit.labels import LabelledEvidence, LabelPlan
from tierwise.audit.labels import observe as observe_label
from tierwise.audit.posterior import draws, probability_above
from tierwise.audit.selection import select

SOME: Final = Counts(worse=50, same=900, better=50)
PROVEN: Final = threshold(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A margin and the share of pairs that differ."""

    margin: float
    differing: float

    def __str__(self) -> str:
        return f"margin {self.margin:.2f}, {100 * self.differing:.3g} % differ"

    @property
    def fixed_pairs(self) -> int:
        """The pairs of one planned look, for 80 % power at no difference: it must know what share differs."""
        normal = NormalDist()
        return ceil((normal.inv_cdf(0.95) + normal.inv_cdf(0.80)) ** 2 * self.differing / self.margin**2)


CELLS: Final = tuple(
    Cell(margin=margin, differing=differing)
    for margin, differing in ((0.03, 0.05), (0.03, 0.10), (0.05, 0.10), (0.05, 0.20), (0.03, 0.031))
)


def times(*, quick: bool) -> dict[str, Spread]:
    """Microseconds of each evaluation."""
    lines = {f"line-{number}": number / 4 for number in range(20)}
    detector, suspicion = falls_below(0.03), Suspicion()
    labelled = LabelledEvidence(margin=0.05, plan=LabelPlan())
    fresh = iter(range(10**9))
    return {
        "e-value of 1,000 pairs": timed(lambda: log_safe(SOME, margin=0.03), quick=quick),
        "e-value of 10⁹ pairs": timed(lambda: log_safe(Counts(same=10**9), margin=0.03), quick=quick),
        "confidence interval": timed(lambda: confidence(SOME, alpha=0.05, margin=0.03), quick=quick),
        "e-BH over 20 lines": timed(lambda: select(lines, frozen={}, alpha=0.05), quick=quick),
        "detector, one pair": timed(lambda: observe(detector, suspicion, 0), quick=quick),
        "labelled evidence, one pair": timed(
            lambda: observe_label(labelled, judged=0, label=None), quick=quick
        ),
        "posterior probability": timed(
            lambda: probability_above(Counts(same=900, worse=next(fresh)), -0.03), quick=quick
        ),
        "24 draws of the posterior": timed(lambda: draws(Counts(same=900, worse=next(fresh))), quick=quick),
    }


def walk(cell: Cell, *, mean: float, pairs: int, seed: int) -> Iterator[Counts]:
    """Counts before and after each pair that differs; between them evidence moves one way."""
    draw, counts = random.Random(seed), Counts()
    while True:
        ties = ceil(log(1 - draw.random()) / log(1 - cell.differing)) - 1
        if counts.pairs + ties >= pairs:
            yield counts + Counts(same=pairs - counts.pairs)
            return
        counts += Counts(same=ties)
        yield counts
        better = draw.random() < (1 + mean / cell.differing) / 2
        counts += Counts(better=better, worse=not better)
        yield counts


def errors(*, repetitions: int, pairs: int) -> dict[str, dict[str, float]]:
    """Percent of false claims at the margin, looking at every pair."""
    return {
        str(cell): {
            "betting mixture %": 100 * _share(cell, pairs, repetitions, _bets_prove),
            "t-test, peeking %": 100 * _share(cell, pairs, repetitions, _peeking_proves),
        }
        for cell in CELLS
    }


def _share(cell: Cell, pairs: int, repetitions: int, proves: Callable[[Counts, Cell], bool]) -> float:
    return (
        sum(
            any(proves(counts, cell) for counts in walk(cell, mean=-cell.margin, pairs=pairs, seed=seed))
            for seed in range(repetitions)
        )
        / repetitions
    )


def _bets_prove(counts: Counts, cell: Cell) -> bool:
    return log_safe(counts, margin=cell.margin) >= PROVEN


def _peeking_proves(counts: Counts, cell: Cell) -> bool:
    number = counts.pairs
    if number < 30:
        return False
    mean = (counts.better - counts.worse) / number
    variance = (counts.better + counts.worse) / number - mean**2
    return variance > 0 and (mean + cell.margin) / sqrt(variance / number) > 1.645


def pairs_to_proof(*, repetitions: int) -> dict[str, dict[str, float]]:
    """Pairs until "safe" is proven where the tiers are equal."""
    found: dict[str, dict[str, float]] = {}
    for cell in CELLS[:4]:
        counted = sorted(_until_proven(cell, seed) for seed in range(repetitions))
        found[str(cell)] = {
            "fixed n, 80 % power": cell.fixed_pairs,
            "median": median(counted),
            "90 % of runs": counted[ceil(0.9 * repetitions) - 1],
        }
    return found


def _until_proven(cell: Cell, seed: int) -> int:
    before = Counts()
    for after in walk(cell, mean=0, pairs=200_000, seed=seed):
        if _bets_prove(after, cell):
            return _first(before, after, cell)
        before = after
    raise AssertionError


def _first(before: Counts, after: Counts, cell: Cell) -> int:
    while after.same > before.same + 1:
        middle = replace(after, same=(after.same + before.same) // 2)
        before, after = (before, middle) if _bets_prove(middle, cell) else (middle, after)
    return after.pairs


def delays(*, repetitions: int) -> dict[str, dict[str, float]]:
    """Pairs until a drop is noticed that comes after 200 quiet ones, at one false alarm in 20,000 pairs or fewer."""
    found: dict[str, dict[str, float]] = {}
    for drop in (0.06, 0.10, 0.20, 0.40):
        counted = sorted(_delay(drop, seed) for seed in range(repetitions))
        found[f"drop of {100 * drop:.0f} points"] = {
            "median": median(counted),
            "90 % of runs": counted[ceil(0.9 * repetitions) - 1],
        }
    return found


def _delay(drop: float, seed: int) -> int:
    draw, detector, suspicion = random.Random(seed), falls_below(0.03), Suspicion()
    while not alarms(detector, suspicion):
        mean = -drop if suspicion.observations >= 200 else 0.0
        chance, differing = draw.random(), drop + 0.02
        value = 1 if chance < (differing + mean) / 2 else -1 if chance < differing else 0
        suspicion = observe(detector, suspicion, value)
    return suspicion.observations - 200


def fleets(*, number: int, hard: bool) -> dict[str, dict[str, float]]:
    """Each plan's row over so many fleets; the seeds are those of a held-out set."""
    seeds = range(50_000, 50_000 + number)
    return {
        plan.name: figures([run(fleet(seed, hard=hard), plan, seed=seed) for seed in seeds]) for plan in PLANS
    }


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table: a row a case, a column a figure."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for name in next(iter(rows.values())):
        made.add_column(name, justify="right")
    for name, row in rows.items():
        made.add_row(name, *(f"{figure:,.1f}" for figure in row.values()))
    Console().print(made)


def main() -> None:
    """Measure, simulate, print, write."""
    options = arguments(__doc__ or "")
    quick = options.quick
    us = times(quick=quick)
    show("One evaluation", us, unit="µs")
    parts = {
        "False claims at the margin": errors(
            repetitions=100 if quick else 1000, pairs=2000 if quick else 10_000
        ),
        "Pairs to a proof": pairs_to_proof(repetitions=60 if quick else 1000),
        "Pairs to a drift alarm": delays(repetitions=30 if quick else 200),
        "Fleets": fleets(number=1 if quick else 20, hard=False),
        "Hard fleets": fleets(number=1 if quick else 20, hard=True),
    }
    for title, rows in parts.items():
        table(title, rows)
    write(options.json, {"us": us, **parts})


if __name__ == "__main__":
    main()
