"""The tables of the audit's benches, for `build_benchmarks.py`: simulated pairs and fleets, and recorded outcomes."""

from collections.abc import Callable, Iterator, Mapping
from textwrap import wrap
from typing import Any, Final, TypeAlias

Result: TypeAlias = Mapping[str, Any]
Table: TypeAlias = Callable[[tuple[str, ...], list[tuple[str, ...]]], list[str]]


def audit(result: Result, table: Table) -> list[str]:
    """What simulated pairs and fleets say."""
    number, drift = result["fleets"]["number"], result["drift"]
    return [
        "## The audit, simulated",
        "",
        *_text(_SIMULATED.format(number=number, **result)),
        "",
        *table(_CELL_COLUMNS, [_cell(result, place) for place in range(len(result["cells"]))]),
        "",
        *_text(_DRIFT.format(ten=drift["10 points"]["median"], twenty=drift["20 points"]["median"])),
        "",
        *_text(_FLEETS.format(number=number)),
        "",
        *_fleets(result, "headline", table),
        "",
        *_fleets(result, "hard", table),
    ]


def outcomes(result: Result, table: Table) -> list[str]:
    """What recorded outcomes of real models say."""
    found: Mapping[str, Result] = result["outcomes"]
    published = [
        (name, router, f"{apgr:.3f}", f"{half}", f"{most}")
        for name, routers in result["published"].items()
        for router, (half, most, apgr) in routers.items()
    ]
    return [
        "## The audit on recorded outcomes",
        "",
        *_text(_RECORDED.format(**result)),
        "",
        *_text(_ROUTING),
        "",
        *table(_ROUTER_COLUMNS, [_routers(name, one["routers"]) for name, one in found.items()]),
        "",
        *_text(_PUBLISHED),
        "",
        *table(("", "router", "APGR", "CPT50", "CPT80"), published),
        "",
        *_text(_CLAIMS),
        "",
        *table(_CLAIM_COLUMNS, [row for name, one in found.items() for row in _claims(name, one)]),
        "",
        *_text(_CASCADES),
        "",
        *table(
            ("", "cheap", "dear", "perfect verifier", "90 % / 10 %", "80 % / 20 %", "70 % / 30 %"),
            [_cascade(name, one["cascades"]) for name, one in found.items() if "cascades" in one],
        ),
    ]


_SIMULATED: Final = """
`make bench-audit ARGS="--seed {seed} --fleets {number}"`. No model is asked. A type exactly at the margin, where "safe"
is false, is looked at after each of {looked_at_pairs:,} pairs, in {repetitions:,} runs: how many are ever called safe,
at an error of 5 %. And, where both tiers are equal, the pairs until it is proven; one planned look with 80 % power
takes as many as the last column, and must know beforehand how many pairs differ.
"""
_DRIFT: Final = (
    "A drop of 10 points is noticed after {ten:,.0f} pairs (median), one of 20 after {twenty:,.0f}."
)
_FLEETS: Final = """
Ninety days of {number} fleets at 2 % of the spend: what is left of the over-paid dollars, the audit's own cost
included; the day by which 80 % is gone (91: not within them); what the audit took of the spend; claims *proven* at the
end, and the wrong ones; failures a day, of 10,000 tasks, that the dearer tier would have avoided. In hard fleets most
types need their tier, but only just.
"""
_RECORDED: Final = """
`make bench-outcomes ARGS="--seed {seed} --data PATH"`. Real models on real prompts, recorded by others; the files are
not part of the project: BFCL, RouteLLM's MMLU, GSM8K and MT-Bench, ZeroEval, SWE-bench Verified by mini-swe-agent,
whose dollars are real. Types are BFCL's categories, MMLU's subjects, MT-Bench's categories, ZeroEval's tasks and
SWE-bench's repositories.
"""
_ROUTING: Final = """
**Routing by declared type**, by RouteLLM's measures: how much of the quality gap is recovered, on average over all
shares of calls on the dearer model (APGR; a coin has .5), and the percent of calls there that recovers 50 and 80 % of
it. The router has seen so many pairs of each type, never those that it routes (five folds, ten times).
"""
_PUBLISHED: Final = """
Below is what is published for RouteLLM's best routers, which read the prompt and were trained on many more. By subject,
60 pairs each, MMLU is routed better than by any of them. GSM8K is a single type and MT-Bench has eight categories with
nine questions each: there a type tells nothing or little, and what reads the prompt is better.
"""
_CLAIMS: Final = """
**Claims**, held against all the data: prompts come in random orders, and all evidence is looked at after each. *Saved*
is what the types save that are proven or provisional at the end, as a share of what all types within the margin would,
and of what an oracle would that knows for each prompt whether the cheap model does as well. Most types here have fewer
prompts than a proof within 3 or 5 points takes; that the dear model is needed shows sooner.
"""
_CASCADES: Final = """
**The cheap model first**, the dear one where a verifier says no: quality, and cost as a share of all on the dear one. A
verifier notices a share of wrong answers, and calls a share of right ones wrong.
"""

_CELL_COLUMNS: Final = ("", "bets", "t-test, peeking", "pairs, median", "90 % of runs", "planned look")
_ROUTER_COLUMNS: Final = ("", "APGR, 10 pairs", "30", "60", "all", "CPT50, 60 pairs", "CPT80, 60 pairs")
_CLAIM_COLUMNS: Final = (
    "",
    "margin",
    "types, safe",
    "proven",
    "needed",
    "provisional",
    "wrong proven",
    "wrong provisional",
    "pairs of prompts",
    "saved, of types",
    "of oracle",
)
_PLANS: Final[Mapping[str, str]] = {
    "constant_rate": "one rate for all traffic, proof only",
    "one_rate_proof_only": "one rate for undecided types, proof only",
    "index_proof_only": "the index, proof only",
    "two_steps_flat": "the index, provisional and proven",
    "two_steps_credit": "the same with the month's credit",
    "naive_peeking": "one rate, a t-test after every pair",
}


def _text(text: str) -> list[str]:
    return wrap(" ".join(text.split()), 118, break_on_hyphens=False)


def _cell(result: Result, place: int) -> tuple[str, ...]:
    cell = result["cells"][place]
    pairs = result["pairs_to_proof"][cell]
    return (
        cell,
        _percent(result["false_safe_rate"][place]),
        _percent(result["naive_false_safe_rate"][place]),
        *(f"{pairs[name]:,.0f}" for name in ("median", "p90", "planned")),
    )


def _fleets(result: Result, kind: str, table: Table) -> list[str]:
    return table(
        (f"{kind} fleets", "left", "day of 80 %", "audit", "proven", "wrong", "failures a day"),
        [
            (
                name,
                _percent(row["regret_share"]),
                f"{row['day_of_80']:.0f}",
                _percent(row["audit_share"], 2),
                f"{row['declared']:,}",
                f"{row['final_wrong']:,}",
                f"{row['extra_failures_a_day']:.1f}",
            )
            for plan, name in _PLANS.items()
            if (row := result["fleets"][kind].get(plan))
        ],
    )


def _routers(name: str, routers: Result) -> tuple[str, ...]:
    return (
        name,
        *(f"{routers[few]['apgr']:.3f}" for few in ("10", "30", "60", "all")),
        *(f"{routers['60'][measure]:.1f}" for measure in ("cpt50", "cpt80")),
    )


def _claims(name: str, one: Result) -> Iterator[tuple[str, ...]]:
    for margin, row in one.get("claims", {}).items():
        yield (
            name,
            margin,
            f"{row['types']}, {row['safe']}",
            f"{row['proven']:.1f}",
            f"{row['needed']:.1f}",
            f"{row['provisional']:.1f}",
            _percent(row["wrong_proven_share"]),
            _percent(row["wrong_provisional_share"]),
            f"{row['pairs']:,.0f} of {row['prompts']:,}",
            _percent(row["saved_of_best"], 0) if row["safe"] else "",
            _percent(row["saved_of_oracle"], 0),
        )


def _cascade(name: str, rows: Result) -> tuple[str, ...]:
    wanted = (
        "all on the cheaper one",
        "all on the dearer one",
        "100 % noticed, 0 % false alarms",
        "90 % noticed, 10 % false alarms",
        "80 % noticed, 20 % false alarms",
        "70 % noticed, 30 % false alarms",
    )
    return (name, *(f"{rows[key]['quality']:.3f} at {rows[key]['cost_share']:.3f}" for key in wanted))


def _percent(share: float, places: int = 1) -> str:
    return f"{100 * share:.{places}f} %"
