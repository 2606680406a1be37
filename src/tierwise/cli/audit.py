"""`tierwise audit`: what pairs of tiers on the same tasks prove of each task type, and what to change."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from tierwise.audit.dayplan import DayPlan
from tierwise.audit.splitting import Gap, routable_gap
from tierwise.audit.standings import Audit, Standing
from tierwise.audit.verdicts import CHECKED_MARGIN
from tierwise.cli.audit_moves import apply, log, propose
from tierwise.cli.audit_run import run_
from tierwise.cli.console import harmless, new_table, out, print_json, say
from tierwise.cli.groups import new_group
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    JsonOption,
    LedgerOption,
    PolicyOption,
)
from tierwise.config import load_book
from tierwise.core.policy import Policy
from tierwise.engine.clock import now_us
from tierwise.engine.dayplan import day_plan
from tierwise.engine.standing import LOOKS_BACK_DAYS, audit_of
from tierwise.money import format_usd
from tierwise.stores.ledger.cascades import Cascade, cascades
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.pairs import DAY_US


def list_(
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of each task type that was compared.

    A line is a task type on two tiers: its pairs, what they came to, the verdict, and what is at stake a day, with
    its 90 % interval. Pairs whose outcome nobody can say are taken at their worst.

    Example: tierwise audit list
    """
    known = load_book(policy).policy
    with closing(read_ledger(ledger)) as reader:
        audit = audit_of(reader, known, at_us=now_us())
        plan = day_plan(reader, known, day=now_us() // DAY_US)
        tried = cascades(reader, known, since_us=now_us() - LOOKS_BACK_DAYS * DAY_US)
    if as_json:
        print_json({**audit_json(audit, known, plan), "cascades": [_cascade_json(each) for each in tried]})
        return
    _print(audit, known, plan)
    for cascade in tried:
        say(_cascade_told(cascade))


audit: Final = new_group(
    """Show which task types need their tier, and what to change.

    Without a command, `list` is meant.

    Example: tierwise audit
    """,
    {"list": list_, "propose": propose, "apply": apply, "log": log, "run": run_},
    lists=True,
)


def audit_json(audit: Audit, policy: Policy, plan: DayPlan) -> dict[str, Any]:
    """The whole audit, for machines."""
    gap = _gap(audit)
    return {
        "error": policy.audit.error / 100,
        "routable_gap": None if gap is None else gap.value,
        "lines": [
            {
                **_standing_json(standing),
                "rate_today": plan.rate(standing.line.line, policy.audit.sample / 100),
            }
            for standing in audit.standings
        ],
    }


def _cascade_json(cascade: Cascade) -> dict[str, Any]:
    return {**asdict(cascade), "saved_nanos": cascade.saved_nanos, "pays_above": cascade.pays_above}


def _cascade_told(cascade: Cascade) -> str:
    """What a cascade saves, and when it would not."""
    passed = 1 - cascade.escalated / cascade.tried
    told = (
        f"The cascade of {cascade.task_type}: {passed:.0%} of {cascade.tried:,} replies in {LOOKS_BACK_DAYS} days "
        f"were left on {cascade.cheap}"
    )
    if cascade.saved_nanos is None or cascade.pays_above is None:
        return f"{told}; what {cascade.dear} would have cost is not known, for nothing was made again."
    what = "saved" if cascade.saved_nanos >= 0 else "cost more by"
    amount = format_usd(abs(cascade.saved_nanos))
    return f"{told}, which {what} {amount}. It pays while more than {cascade.pays_above:.0%} pass."


def _standing_json(standing: Standing) -> dict[str, Any]:
    line, stake, expected = standing.line, standing.stake, standing.expected
    dear, cheap = line.tiers
    return {
        "task_type": line.task_type,
        "line": line.line,
        "dear": {"tier": dear, "model": line.parts["dear.model"], "effort": line.parts["dear.effort"]},
        "cheap": {"tier": cheap, "model": line.parts["cheap.model"], "effort": line.parts["cheap.effort"]},
        "on_dear": line.on_dear,
        "pairs": line.pairs,
        "worse": line.counts.worse,
        "same": line.counts.same,
        "better": line.counts.better,
        "undecided": line.undecided,
        "graded_by": dict(line.hows),
        "margin": standing.margin,
        "difference": {"low": standing.interval.low, "high": standing.interval.high},
        "probability_safe": standing.probability_safe,
        "verdict": standing.verdict.value,
        "stake_nanos_a_day": None
        if stake is None
        else {"amount": stake.nanos, "low": stake.low_nanos, "high": stake.high_nanos},
        "value_per_usd": None
        if standing.value is None
        else {
            "amount": standing.value.per_dollar,
            "low": standing.value.low,
            "high": standing.value.high,
        },
        "pair_nanos": standing.pair_nanos,
        "expected": None
        if expected is None
        else {"pairs": expected.pairs, "cost_nanos": expected.cost_nanos, "days": expected.days},
    }


_COLUMNS: Final = (
    "type",
    "tiers",
    "pairs",
    "worse",
    "same",
    "better",
    "open",
    "verdict",
    "a day",
    "a dollar buys",
    "next verdict",
    "rests on",
)
_NUMBERS: Final = ("pairs", "worse", "same", "better", "open")


def _print(audit: Audit, policy: Policy, plan: DayPlan) -> None:
    if audit.standings:
        out.print(_table(audit.standings))
    for sentence in _remarks(audit, policy, plan):
        say(sentence)


def _table(standings: Iterable[Standing]) -> Table:
    table = new_table(*_COLUMNS, numbers=_NUMBERS)
    for standing in standings:
        table.add_row(*(Text(harmless(cell)) for cell in _cells(standing)))
    return table


def _cells(standing: Standing) -> Iterator[str]:
    line = standing.line
    dear, cheap = line.tiers
    yield line.task_type
    yield f"{dear} → {cheap}" if line.on_dear else f"{cheap} → {dear}"
    yield f"{line.pairs:,}"
    yield f"{line.counts.worse:,}"
    yield f"{line.counts.same:,}"
    yield f"{line.counts.better:,}"
    yield f"{line.undecided:,}" if line.undecided else ""
    yield standing.verdict.value
    yield _stake(standing)
    yield _value(standing)
    yield _expected(standing)
    yield ", ".join(f"{count} {_WORDS.get(how, how)}" for how, count in line.hows.most_common())


_WORDS: Final = {
    "check": "checked",
    "equal": "equal",
    "failure": "failed",
    "differs": "not graded",
    "unchecked": "not checked",
}


def _stake(standing: Standing) -> str:
    stake = standing.stake
    if stake is None:
        return ""
    what = "saved" if standing.line.on_dear else "more"
    low, high = format_usd(stake.low_nanos), format_usd(stake.high_nanos)
    return f"{format_usd(stake.nanos)} {what} ({low} to {high})"


def _value(standing: Standing) -> str:
    found = standing.value
    return "" if found is None else f"{found.per_dollar:.2g} tasks ({found.low:.2g} to {found.high:.2g})"


def _expected(standing: Standing) -> str:
    found = standing.expected
    if found is None:
        return ""
    return f"{found.pairs:,} pairs, {format_usd(found.cost_nanos)}, {found.days:.0f} days"


def _remarks(audit: Audit, policy: Policy, plan: DayPlan) -> Iterator[str]:
    shadowed = [name for name, contract in policy.contracts.items() if contract.shadow]
    if not shadowed:
        yield "Nothing is compared: no task type of the policy has shadow = true."
    if not audit.standings:
        yield "No pairs yet."
        return
    yield f"Of all claims proven, {policy.audit.error} % are expected to be wrong at the most."
    resting = sorted(
        {one.line.task_type for one in audit.standings if not plan.rate(one.line.line, policy.audit.sample)}
    )
    if resting:
        yield f"No pairs are made today of {', '.join(resting)}: the allowance frees more elsewhere."
    if any(standing.line.hows["unchecked"] for standing in audit.standings):
        yield "Where pairs are not checked, their check could not tell: the log of the gateway says why."
    if any(standing.line.hows["differs"] for standing in audit.standings):
        yield "Open pairs have different answers that nothing could grade: give their types a quality.check."
    if _gap(audit) is Gap.NONE:
        yield "There is no routable gap: on these tiers, no type differs from the others by more than the margin."


def _gap(audit: Audit) -> Gap | None:
    """Whether types differ; None while any of them has pairs that nobody could grade."""
    lines = [standing.line for standing in audit.standings]
    if any(line.undecided for line in lines):
        return None
    return routable_gap({line.line: line.counts for line in lines}, margin=CHECKED_MARGIN)
