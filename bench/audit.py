"""What the audit's statistics cost in time, in pairs and in errors: simulated pairs and fleets, no real model."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from audit_fleet import PLANS, figures, fleet, run
from audit_pairs import CELLS, LOOKED_AT, claims, drift_delay, pairs_until_proven, quantiles
from measuring import Spread, arguments, show, timed, write
from tierwise.audit.confidence import confidence
from tierwise.audit.counts import Counts
from tierwise.audit.drift import Suspicion, falls_below, observe
from tierwise.audit.evidence import log_safe
from tierwise.audit.labels import LabelledEvidence, LabelPlan
from tierwise.audit.labels import observe as observe_label
from tierwise.audit.posterior import draws, probability_above
from tierwise.audit.selection import select

SOME: Final = Counts(worse=50, same=900, better=50)
DROPS: Final = (0.06, 0.10, 0.20, 0.40)


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


def errors(*, seed: int, repetitions: int, pairs: int = LOOKED_AT) -> dict[str, Any]:
    """The share of runs at the margin that are ever called safe, by cell: by the bets, and by a t-test."""
    found = [
        [claims(cell, seed=seed + number, pairs=pairs) for number in range(repetitions)] for cell in CELLS
    ]
    return {
        "repetitions": repetitions,
        "looked_at_pairs": pairs,
        "cells": [str(cell) for cell in CELLS],
        "false_safe_rate": [sum(one.betting for one in runs) / repetitions for runs in found],
        "naive_false_safe_rate": [sum(one.peeking for one in runs) / repetitions for runs in found],
    }


def pairs_to_proof(*, seed: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Pairs until "safe" is proven where the tiers are equal, by cell, and of one planned look with 80 % power."""
    return {
        str(cell): {
            "planned": cell.fixed_pairs,
            **quantiles([pairs_until_proven(cell, seed=seed + number) for number in range(repetitions)]),
        }
        for cell in CELLS
    }


def drift(*, seed: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Pairs until a drop is noticed."""
    return {
        f"{100 * drop:.0f} points": quantiles(
            [drift_delay(drop, seed=seed + number) for number in range(repetitions)]
        )
        for drop in DROPS
    }


def fleets(*, seed: int, number: int, hard: bool) -> dict[str, dict[str, float]]:
    """Each plan's row over so many fleets."""
    return {
        plan.name: figures([run(fleet(one, hard=hard), plan, seed=one) for one in range(seed, seed + number)])
        for plan in PLANS
    }


def table(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table: a row a case, a column a figure."""
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for name in next(iter(rows.values())):
        made.add_column(name, justify="right")
    for name, row in rows.items():
        made.add_row(name, *(f"{figure:,.4g}" for figure in row.values()))
    Console().print(made)


def main() -> None:
    """Measure, simulate, print, write."""
    options = arguments(__doc__ or "", _more)
    quick, seed = options.quick, options.seed
    repetitions = options.repetitions or (100 if quick else 2000)
    number = options.fleets or (1 if quick else 20)
    us = times(quick=quick)
    show("One evaluation", us, unit="µs")
    false = errors(seed=seed, repetitions=repetitions, pairs=2000 if quick else LOOKED_AT)
    table("Called safe at the margin, looking at every pair", dict(_rates(false)))
    parts = {
        "pairs_to_proof": pairs_to_proof(seed=seed, repetitions=60 if quick else 500),
        "drift": drift(seed=seed, repetitions=30 if quick else 200),
    }
    kinds = {name: fleets(seed=seed, number=number, hard=name == "hard") for name in ("headline", "hard")}
    for title, rows in {**parts, **kinds}.items():
        table(title, rows)
    write(options.json, {"seed": seed, **false, **parts, "fleets": {"number": number, **kinds}, "us": us})


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=50_000, help="the first of the seeds")
    parser.add_argument("--fleets", type=int, metavar="R", help="simulated fleets of each kind")
    parser.add_argument("--repetitions", type=int, metavar="N", help="runs at the margin of each cell")


def _rates(false: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    for cell, betting, peeking in zip(
        false["cells"], false["false_safe_rate"], false["naive_false_safe_rate"], strict=True
    ):
        yield cell, {"betting": betting, "t-test, peeking": peeking}


if __name__ == "__main__":
    main()
