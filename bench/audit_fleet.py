"""Simulated fleets: what a plan for the audit saves in ninety days, and what it gets wrong. No real model is asked.

Twenty task types, 10,000 tasks a day, a cheaper tier at a fifth of the price, margin 3 points. Twelve types are on the
dearer tier and four of these need it; eight are on the cheaper one and one of these should not be. Half have an exact
check; the others a judge that sees 80 % of the differences and some in 6 % of ties. `hard`: eight of the twelve need
the dearer tier, and only just.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, sqrt
from statistics import fmean, median
from typing import Final

from tierwise.audit.allowance import Allowance, Taken, Terms, next_day, open_allowance, take
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_needed, log_safe
from tierwise.audit.planner import Allotment, Goal, Prospect, is_worth_it, plan_purses
from tierwise.audit.posterior import probability_above
from tierwise.audit.selection import bar, select
from tierwise.audit.verdicts import FINAL, Findings, Rules, Verdict, cheap_share, next_verdict
from tierwise.money import usd

DAYS: Final = 90
MARGIN: Final = 0.03
JUDGE_NANOS: Final = usd("0.006")
RULES: Final = Rules()


@dataclass(slots=True, kw_only=True)
class Type:
    """One task type: its truth, and what the audit knows of it."""

    line: str
    tasks: float
    dear_nanos: int
    mean: float
    differing: float
    judged: bool
    on_dear: bool
    counts: Counts = field(default_factory=Counts)
    verdict: Verdict = Verdict.TOO_EARLY

    @property
    def margin(self) -> float:
        """A judge that sees 80 % of differences is held to 80 % of the margin."""
        return 0.8 * MARGIN if self.judged else MARGIN

    @property
    def safe(self) -> bool:
        return self.mean > -MARGIN

    @property
    def share(self) -> float:
        """The share of its tasks on the cheaper tier now."""
        share = cheap_share(self.verdict, rules=RULES)
        return (0.0 if self.on_dear else 1.0) if share is None else share

    @property
    def pairs_a_day(self) -> float:
        """Half of its tasks; of a provisional type, those that are held back."""
        return self.tasks * (RULES.holdback if self.verdict is Verdict.PROVISIONAL else 0.5)

    @property
    def pair_nanos(self) -> int:
        other = self.dear_nanos // 5 if self.on_dear else self.dear_nanos
        return other + (JUDGE_NANOS if self.judged else 0)

    def spend(self, share: float) -> float:
        """Nanodollars a day with this share on the cheaper tier."""
        return self.tasks * self.dear_nanos * (1 - 0.8 * share)

    def look(self, draw: random.Random, pairs: int, *, peek: bool = False) -> None:
        """Make pairs, and count what the check or the judge says of them; a peeking audit decides after any."""
        for _ in range(pairs):
            if peek and self.verdict in FINAL:
                return
            found = self.outcome(draw)
            self.counts += Counts(worse=found < 0, same=found == 0, better=found > 0)
            if peek:
                self.verdict = _peeked(self)

    def outcome(self, draw: random.Random) -> int:
        chance = draw.random()
        truth = 1 if chance < (self.differing + self.mean) / 2 else -1 if chance < self.differing else 0
        if not self.judged:
            return truth
        noise = draw.random()
        if truth:
            return truth if noise < 0.8 else 0
        return 1 if noise < 0.03 else -1 if noise > 0.97 else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to audit, at 2 % of the spend."""

    name: str
    credit: bool = False
    adaptive: bool = True
    provisional: bool = True
    naive: bool = False
    constant: bool = False
    """Whether decided types and those on the cheaper tier go on at the same rate as all others."""


PLANS: Final = (
    Plan(name="constant_rate", adaptive=False, provisional=False, constant=True),
    Plan(name="one_rate_proof_only", adaptive=False, provisional=False),
    Plan(name="index_proof_only", provisional=False),
    Plan(name="two_steps_flat"),
    Plan(name="two_steps_credit", credit=True),
    Plan(name="naive_peeking", adaptive=False, provisional=False, naive=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What ninety days of one plan on one fleet came to."""

    overpaid: float
    """Nanodollars above the oracle's if nothing is done."""
    regret: float
    audit: float
    spend: float
    day_of_80: int
    declared: int
    wrong: int
    failures_a_day: float


def fleet(seed: int, *, hard: bool = False) -> list[Type]:
    """Draw a fleet."""
    draw = random.Random(seed)
    needing = [-draw.uniform(0.035, 0.05) for _ in range(8)] if hard else _needing(draw)
    fine = [draw.uniform(-0.01, 0.01) for _ in range(4 if hard else 6)]
    fine += [] if hard else [-draw.uniform(0.015, 0.025) for _ in range(2)]
    classes = [
        (needing, 0.40 if hard else 0.18, True),
        (fine, 0.20 if hard else 0.42, True),
        ([draw.uniform(-0.01, 0.02) for _ in range(7)], 0.38, False),
        ([-draw.uniform(0.06, 0.20)], 0.02, False),
    ]
    judged = set(draw.sample(range(20), 10))
    types: list[Type] = []
    for means, volume, on_dear in classes:
        weights = [exp(draw.gauss(0, 1)) for _ in means]
        for mean, weight in zip(means, weights, strict=True):
            types.append(
                Type(
                    line=f"type-{len(types):02}",
                    tasks=10_000 * volume * weight / sum(weights),
                    dear_nanos=int(0.03e9 * exp(draw.gauss(0, 0.5))),
                    mean=mean,
                    differing=abs(mean) + draw.uniform(0.03, 0.10),
                    judged=len(types) in judged,
                    on_dear=on_dear,
                )
            )
    return types


def _needing(draw: random.Random) -> list[float]:
    return [-draw.uniform(0.06, 0.25) for _ in range(3)] + [-draw.uniform(0.035, 0.05)]


def run(types: list[Type], plan: Plan, *, seed: int) -> Outcome:
    """Ninety days of one plan; what is decided on a day acts on the next."""
    draw = random.Random(seed)
    oracle = sum(one.spend(1.0 if one.safe else 0.0) for one in types)
    tagged = sum(one.spend(one.share) for one in types)
    allowance = _opened(plan, tagged)
    frozen: dict[str, float] = {}
    audit = spend = failures = 0.0
    day_of_80 = DAYS + 1
    for day in range(1, DAYS + 1):
        today = sum(one.spend(one.share) for one in types)
        if today - oracle <= 0.2 * (tagged - oracle) and day_of_80 > DAYS:
            day_of_80 = day
        spend += today
        failures += sum(one.tasks * one.share * -one.mean for one in types if one.on_dear and not one.safe)
        used = 0
        for allotment in _allot(types, allowance, plan, frozen):
            one = next(one for one in types if one.line == allotment.line)
            one.look(draw, allotment.pairs, peek=plan.naive and one.on_dear)
            used += allotment.cost_nanos
        taken = take(allowance, used)
        assert isinstance(taken, Taken)
        allowance = next_day(taken.allowance, spend_nanos=int(today))
        audit += used
        _judge(types, frozen, plan)
    proven = [one for one in types if one.on_dear and one.verdict is Verdict.PROVEN]
    return Outcome(
        overpaid=DAYS * (tagged - oracle),
        regret=spend + audit - DAYS * oracle,
        audit=audit,
        spend=spend,
        day_of_80=day_of_80,
        declared=len(proven),
        wrong=sum(not one.safe for one in proven),
        failures_a_day=failures / DAYS,
    )


def _opened(plan: Plan, tagged: float) -> Allowance:
    """With its credit, or with one day's share at a time."""
    if plan.credit:
        return open_allowance(int(tagged))
    return open_allowance(int(tagged), terms=Terms(credit_days=1))


def _allot(
    types: list[Type], allowance: Allowance, plan: Plan, frozen: Mapping[str, float]
) -> list[Allotment]:
    """The day's pairs: those of types on the dearer tier, and from its own purse those on the cheaper one."""
    over, under = allowance.purses_nanos
    proven = len(frozen)
    if plan.constant:
        return _evenly([_prospect(one, plan, proven) for one in types], over + under)
    open_types = [one for one in types if one.verdict not in {*FINAL, Verdict.TOO_CLOSE}]
    down = [_prospect(one, plan, proven) for one in open_types if one.on_dear]
    up = [_prospect(one, plan, proven) for one in open_types if not one.on_dear]
    if plan.adaptive:
        return [*plan_purses(down, up, purses_nanos=(over, under))]
    return [*_evenly(down, over), *_evenly(up, under)]


def _evenly(prospects: list[Prospect], budget_nanos: int) -> list[Allotment]:
    """One rate for all: pairs in proportion to tasks."""
    tasks = sum(one.tasks_a_day * one.pair_cost_nanos for one in prospects)
    rate = min(0.5, budget_nanos / tasks) if tasks else 0.0
    found = [(one, int(min(one.pairs_a_day, rate * one.tasks_a_day))) for one in prospects]
    return [Allotment(line=one.line, pairs=n, cost_nanos=n * one.pair_cost_nanos) for one, n in found]


def _prospect(one: Type, plan: Plan, proven: int) -> Prospect:
    first = plan.provisional and one.verdict is not Verdict.PROVISIONAL
    goal = Goal.PROVISIONAL if first else Goal.PROVEN
    return Prospect(
        line=one.line,
        goal=goal if one.on_dear else Goal.NEEDED,
        counts=one.counts,
        margin=one.margin,
        log_safe=log_safe(one.counts, margin=one.margin),
        log_needed=log_needed(one.counts, margin=one.margin),
        bar=bar(lines=12, declared=proven, alpha=RULES.alpha),
        alpha=RULES.alpha,
        tasks_a_day=one.tasks,
        saving_nanos=one.dear_nanos * 4 // 5,
        pair_cost_nanos=one.pair_nanos,
        pairs_a_day=one.pairs_a_day,
        frees=RULES.holdback - RULES.watch
        if plan.provisional and one.verdict is Verdict.PROVISIONAL
        else 1.0,
    )


def _judge(types: list[Type], frozen: dict[str, float], plan: Plan) -> None:
    """Look at all evidence at once and move verdicts."""
    if plan.naive:
        return
    live = {
        one.line: log_safe(one.counts, margin=one.margin)
        for one in types
        if one.on_dear and one.line not in frozen
    }
    selection = select(live, frozen=frozen, alpha=RULES.alpha)
    frozen |= selection.new
    for one in types:
        one.verdict = next_verdict(
            one.verdict, _findings(one, plan, selection.proven, len(frozen)), rules=RULES
        )


def _findings(one: Type, plan: Plan, proven: frozenset[str], declared: int) -> Findings:
    known = plan.provisional and one.on_dear and one.verdict not in FINAL
    return Findings(
        on_dear=one.on_dear,
        probability_safe=probability_above(one.counts, -one.margin) if known else None,
        log_needed=log_needed(one.counts, margin=one.margin),
        selected=one.line in proven,
        worth=one.verdict in FINAL or is_worth_it(_prospect(one, plan, declared)),
        pairs=one.counts.pairs,
        margin=one.margin,
    )


def _peeked(one: Type) -> Verdict:
    """Decide a type for good as soon as a t-test at 5 % says so, looking after every pair."""
    counts, number = one.counts, one.counts.pairs
    if number < 30:
        return one.verdict
    mean = (counts.better - counts.worse) / number
    variance = (counts.better + counts.worse) / number - mean**2
    z = (mean + one.margin) / sqrt(max(variance, 1 / number) / number)
    return Verdict.PROVEN if z > 1.645 else Verdict.NEEDED if z < -1.645 else one.verdict


def figures(outcomes: list[Outcome]) -> dict[str, float]:
    """One row of the table: ratios of sums over fleets, and the median of days."""
    overpaid, spend = sum(one.overpaid for one in outcomes), sum(one.spend for one in outcomes)
    return {
        "regret_share": sum(one.regret for one in outcomes) / overpaid,
        "day_of_80": median(one.day_of_80 for one in outcomes),
        "audit_share": sum(one.audit for one in outcomes) / spend,
        "declared": sum(one.declared for one in outcomes),
        "final_wrong": sum(one.wrong for one in outcomes),
        "extra_failures_a_day": fmean(one.failures_a_day for one in outcomes),
    }
