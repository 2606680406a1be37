"""The audit on recorded outcomes of real models: what it claims, what it saves, how well its types route.

Prompts come in a random order, many times. Three questions are asked of each pair of models: whether the audit's claims
agree with the truth, which is all the data; what following them saves; and how well a router that knows only a few
pairs of each declared type sends prompts to the dearer model, by RouteLLM's measures (arXiv 2406.18665): the average
share of the quality gap that is recovered over all shares of calls (APGR), and the percent of calls that recovers 50
and 80 % of it.
"""

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from measuring import arguments, write
from outcomes_data import Recorded, Row, read
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_needed, log_safe, threshold
from tierwise.audit.posterior import PRIOR, probability_above
from tierwise.audit.selection import select

MARGINS: Final = (0.03, 0.05)
ERROR: Final = 0.05
FOLDS: Final = 5
FEW: Final = (10, 30, 60)
"""Pairs of each type that a router has seen."""

ROUTELLM: Final[Mapping[str, Mapping[str, tuple[float, float, float]]]] = {
    "MT-Bench": {"matrix factorization": (13.4, 31.3, 0.802), "BERT": (19.6, 34.0, 0.751)},
    "MMLU": {"matrix factorization": (35.5, 71.4, 0.597), "SW ranking": (35.4, 71.6, 0.603)},
    "GSM8K": {"matrix factorization": (38.8, 72.6, 0.565), "causal LLM": (33.6, 63.3, 0.622)},
}
"""CPT50, CPT80 and APGR of RouteLLM's best routers, as published (arXiv 2406.18665)."""


# --- Claims.


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """One order of all prompts, followed to its end."""

    proven: frozenset[str]
    needed: frozenset[str]
    provisional: frozenset[str]
    pairs: int
    """Compared until every type had its verdict, or no prompts left."""


def follow(rows: Sequence[Row], draw: random.Random, *, margin: float) -> Followed:
    """Compare prompts type by type, one of each in a round, and look at all evidence after each round."""
    queues = shuffled(rows, draw)
    counts = {name: Counts() for name in queues}
    frozen: dict[str, float] = {}
    needed: set[str] = set()
    pairs = 0
    for turn in range(max(len(queue) for queue in queues.values())):
        for name, queue in queues.items():
            if turn < len(queue) and name not in frozen and name not in needed:
                pairs += 1
                counts[name] += _one(queue[turn])
                if log_needed(counts[name], margin=margin) >= threshold(ERROR):
                    needed.add(name)
        live = {name: log_safe(counts[name], margin=margin) for name in queues if name not in frozen}
        frozen |= select(live, frozen=frozen, alpha=ERROR).new
    likely = {name for name in queues if probability_above(counts[name], -margin) >= 0.95}
    return Followed(
        proven=frozenset(frozen),
        needed=frozenset(needed),
        provisional=frozenset(likely - frozen.keys() - needed),
        pairs=pairs,
    )


def shuffled(rows: Iterable[Row], draw: random.Random) -> dict[str, list[Row]]:
    """The rows of each type in an order of their own."""
    queues: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        queues[row.task_type].append(row)
    for queue in queues.values():
        draw.shuffle(queue)
    return dict(queues)


def _one(row: Row) -> Counts:
    return Counts(worse=row.difference < 0, same=row.difference == 0, better=row.difference > 0)


def claims(recorded: Recorded, *, margin: float, orders: int, seed: int) -> dict[str, float]:
    """How the claims compare with all the data, and what they save."""
    rows = recorded.rows
    queues = shuffled(rows, random.Random(seed))
    safe = {name for name, queue in queues.items() if fmean(row.difference for row in queue) > -margin}
    saving = {name: sum(row.dear_usd - row.cheap_usd for row in queue) for name, queue in queues.items()}
    best = sum(saving[name] for name in safe)
    oracle = sum(row.dear_usd - row.cheap_usd for row in rows if row.cheap >= row.dear)
    runs = [follow(rows, random.Random(seed + number), margin=margin) for number in range(orders)]
    followed = [sum(saving[name] for name in run.proven | run.provisional) for run in runs]
    proven, likely = sum(len(run.proven) for run in runs), sum(len(run.provisional) for run in runs)
    return {
        "types": len(queues),
        "safe": len(safe),
        "proven": fmean(len(run.proven) for run in runs),
        "needed": fmean(len(run.needed) for run in runs),
        "provisional": fmean(len(run.provisional) for run in runs),
        "wrong_proven_share": sum(len(run.proven - safe) for run in runs) / proven if proven else 0.0,
        "wrong_needed_share": sum(len(run.needed & safe) for run in runs) / orders / len(queues),
        "wrong_provisional_share": sum(len(run.provisional - safe) for run in runs) / likely
        if likely
        else 0.0,
        "pairs": median(run.pairs for run in runs),
        "prompts": len(rows),
        "saved_of_best": fmean(followed) / best if best > 0 else 0.0,
        "saved_of_oracle": fmean(followed) / oracle if oracle > 0 else 0.0,
        "best_of_all_dear": best / sum(row.dear_usd for row in rows),
    }


# --- Routers.


def routers(recorded: Recorded, *, repetitions: int, seed: int) -> dict[str, dict[str, float]]:
    """APGR, CPT50 and CPT80 of type routers that have seen a few pairs of each type, or four fifths of all."""
    found: dict[str, dict[str, float]] = {}
    for name, most in (*((str(few), few) for few in FEW), ("all", None)):
        curves = [_validated(recorded.rows, most, random.Random(seed + one)) for one in range(repetitions)]
        found[name] = {
            "apgr": fmean(area(curve) for curve in curves),
            "cpt50": 100 * fmean(reach(curve, 0.5) for curve in curves),
            "cpt80": 100 * fmean(reach(curve, 0.8) for curve in curves),
        }
    return found


Curve = list[tuple[float, float]]
"""Shares of calls, and what they recover; straight between."""


def _validated(rows: Sequence[Row], most: int | None, draw: random.Random) -> Curve:
    """Route each fold by what the others say of its types: the same share of calls in each."""
    order = list(rows)
    draw.shuffle(order)
    whole = -sum(row.difference for row in order)
    curves: list[Curve] = []
    for fold in range(FOLDS):
        seen = [row for place, row in enumerate(order) if place % FOLDS != fold]
        scores = {name: gain(queue[:most]) for name, queue in shuffled(seen, draw).items()}
        curves.append(curve_of((scores.get(row.task_type, 0.0), row) for row in order[fold::FOLDS]))
    shares = sorted({share for curve in curves for share, _ in curve})
    return [(share, sum(at(curve, share) for curve in curves) / whole) for share in shares]


def gain(rows: Sequence[Row]) -> float:
    """What the dearer model is worth for a type: the mean of the audit's posterior, whose prior has mean 0."""
    return -sum(row.difference for row in rows) / (len(rows) + sum(PRIOR))


def curve_of(scored: Iterable[tuple[float, Row]]) -> Curve:
    """Send the best scores to the dearer model first; prompts of one score in a random order, on average."""
    groups: defaultdict[float, list[float]] = defaultdict(list)
    for score, row in scored:
        groups[score].append(-row.difference)
    number = sum(len(group) for group in groups.values())
    curve, calls, recovered = [(0.0, 0.0)], 0, 0.0
    for score in sorted(groups, reverse=True):
        calls, recovered = calls + len(groups[score]), recovered + sum(groups[score])
        curve.append((calls / number, recovered))
    return curve


def at(curve: Curve, share: float) -> float:
    """What this share of calls recovers."""
    for before, after in pairwise(curve):
        if share <= after[0]:
            return before[1] + (after[1] - before[1]) * (share - before[0]) / (after[0] - before[0])
    return curve[-1][1]


def area(curve: Curve) -> float:
    """APGR: the mean share of the gap over all shares of calls."""
    return sum((after[0] - before[0]) * (after[1] + before[1]) / 2 for before, after in pairwise(curve))


def reach(curve: Curve, share: float) -> float:
    """CPT: the smallest share of calls that recovers this share of the gap."""
    for before, after in pairwise(curve):
        if after[1] >= share:
            return before[0] + (after[0] - before[0]) * (share - before[1]) / (after[1] - before[1])
    return 1.0


# --- Cascades.

VERIFIERS: Final = ((1.0, 0.0), (0.9, 0.1), (0.8, 0.2), (0.7, 0.3), (0.5, 0.5))
"""Of wrong answers, the share that is noticed; of right ones, the share that is called wrong."""


def cascades(recorded: Recorded) -> dict[str, dict[str, float]]:
    """The cheaper model first, the dearer one where a verifier says no: quality, and cost to all on the dearer one."""
    rows, dear = recorded.rows, sum(row.dear_usd for row in recorded.rows)
    found: dict[str, dict[str, float]] = {}
    for hits, alarms in VERIFIERS:
        chances = [row.cheap * alarms + (1 - row.cheap) * hits for row in rows]
        quality = fmean(
            row.cheap * (1 - alarms) + (row.cheap * alarms + (1 - row.cheap) * hits) * row.dear
            for row in rows
        )
        cost = sum(row.cheap_usd + chance * row.dear_usd for row, chance in zip(rows, chances, strict=True))
        found[f"{100 * hits:.0f} % noticed, {100 * alarms:.0f} % false alarms"] = {
            "quality": quality,
            "cost_share": cost / dear,
        }
    found["all on the cheaper one"] = {
        "quality": fmean(row.cheap for row in rows),
        "cost_share": sum(row.cheap_usd for row in rows) / dear,
    }
    found["all on the dearer one"] = {"quality": fmean(row.dear for row in rows), "cost_share": 1.0}
    return found


# --- The bench.


def main() -> int:
    """Read, follow, print, write; the exit code is 3 where there is nothing to read."""
    options = arguments(__doc__ or "", _more)
    if not options.data.is_dir():
        print(f"{options.data} is no folder: the recorded outcomes are not part of the project (--data PATH)")
        return 3
    found: dict[str, Any] = {}
    for recorded in read(options.data):
        found[recorded.name] = one = _measured(recorded, options.seed, quick=options.quick)
        for title in ("claims", "routers", "cascades"):
            if title in one:
                _show(f"{recorded.name}: {title}", one[title])
    write(
        options.json,
        {"seed": options.seed, "error": ERROR, "outcomes": found, "published": ROUTELLM},
    )
    return 0


def _measured(recorded: Recorded, seed: int, *, quick: bool) -> dict[str, Any]:
    orders = 4 if quick else max(20, 200_000 // len(recorded.rows))
    whole = all(row.difference in {-1.0, 0.0, 1.0} for row in recorded.rows)
    found: dict[str, Any] = {"orders": orders, "priced": recorded.priced}
    if whole:
        found["claims"] = {
            f"{100 * margin:.0f} points": claims(recorded, margin=margin, orders=orders, seed=seed)
            for margin in MARGINS
        }
    found["routers"] = routers(recorded, repetitions=1 if quick else 10, seed=seed)
    if whole and recorded.priced:
        found["cascades"] = cascades(recorded)
    return found


def _show(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    made = Table(title=title, title_justify="left")
    made.add_column("")
    for name in next(iter(rows.values())):
        made.add_column(name, justify="right")
    for name, row in rows.items():
        made.add_row(name, *(f"{figure:,.4g}" for figure in row.values()))
    Console(width=170).print(made)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, help="of all orders")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where the outcomes are")


if __name__ == "__main__":
    sys.exit(main())
