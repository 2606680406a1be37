"""The page of the replayed days: what each came to, and what the audit found, beside what was planted."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tierwise.audit.verdicts import Verdict
from tierwise.cli.console import new_table, say
from tierwise.cli.demo.day_figures import Answer, Change, DayFigures, DaysFigures, FoundType
from tierwise.cli.demo.days import FLEET_TASKS, Replay
from tierwise.cli.report import dollars
from tierwise.money import Nanos, format_usd

_BAR: Final = 48
_STYLES: Final[Mapping[Answer, str]] = {
    Answer.FOUND: "green",
    Answer.MISSED: "yellow",
    Answer.LEFT: "",
    Answer.WRONG: "bold red",
}


def opening(replay: Replay, *, own_policy: bool) -> str:
    """What is replayed, and what of it is another size than in the fleet.

    Args:
        replay: what is replayed.
        own_policy: whether the policy is the demo's own.
    """
    sampled = "; the policy samples half of the runs at first, in place of a tenth" if own_policy else ""
    part = f"{replay.tasks / FLEET_TASKS:.0%} of the {FLEET_TASKS:,} that the fleet does in one"
    return (
        f"{replay.days} days by a clock that is moved, each of {replay.tasks:,} tasks by {replay.agents} agents: "
        f"{part}, at the fleet's own pace from midnight on.\n"
        f"A run has {_number(replay.fleet.tasks_per_run, 'task')} here, so that there are no more runs a day than in "
        f"the fleet: each gives one pair a day and type at most{sampled}.\n"
        "Nothing else is another size: the gateway and its audit are the real ones, and so are the calls "
        "over HTTP, the ledger, and what the audit may spend."
    )


def day_line(day: DayFigures) -> str:
    """One day as a line of progress."""
    told = "; ".join(_told(day.changes)) or "no verdict changed"
    return (
        f"day {day.number:>3}  {day.tasks:,} tasks  {format_usd(day.spend_nanos):>9} spent  "
        f"{format_usd(day.audit_nanos):>7} audit  {told}"
    )


def print_days(figures: DaysFigures, console: Console) -> None:
    """Print the page."""
    console.print()
    console.rule(f"What the audit found in {len(figures.days)} days")
    console.print(_types(figures))
    say(_found(figures), console)
    console.print()
    console.print(_curve(figures))
    say(_audit(figures), console)
    console.print()
    for line in _policy(figures):
        say(line, console)
    say(_witness(figures), console)


def days_json(figures: DaysFigures) -> dict[str, Any]:
    """Return the figures with stable names; money in dollars, exactly."""
    return {
        "seed": figures.seed,
        "agents": figures.agents,
        "seconds": round(figures.seconds, 2),
        "spend_usd": dollars(figures.spend_nanos),
        "audit_usd": dollars(figures.audit_nanos),
        "audit_share": figures.audit_share,
        "provider_total_usd": dollars(figures.provider_nanos),
        "agrees_with_provider": figures.agree,
        "overpaid_usd_a_day": dollars(figures.overpaid_nanos),
        "found_usd_a_day": dollars(figures.found_nanos),
        "found_share": figures.found_share,
        "wrong": list(figures.wrong),
        "taken_back": list(figures.taken_back),
        "days": [_day_json(day) for day in figures.days],
        "types": [_type_json(one) for one in figures.types],
        "policy_diff": figures.policy_diff,
        "policy_stuck": [{"path": problem.path, "problem": problem.message} for problem in figures.stuck],
    }


def _day_json(day: DayFigures) -> dict[str, Any]:
    return {
        "day": day.number,
        "tasks": day.tasks,
        "calls": day.calls,
        "spend_usd": dollars(day.spend_nanos),
        "audit_usd": dollars(day.audit_nanos),
        "verdicts": dict(day.verdicts),
        "changes": [
            {"type": change.task_type, "from": change.before, "to": change.now} for change in day.changes
        ],
    }


def _type_json(one: FoundType) -> dict[str, Any]:
    return {
        "type": one.name,
        "tier": one.tier,
        "needs_planted": one.needs,
        "verdict": one.verdict,
        "pairs": one.pairs,
        "answer": one.answer.value,
        "found_on_day": one.found_on_day,
        "needless_usd_a_day": dollars(one.needless_nanos),
    }


def _told(changes: Iterable[Change]) -> Iterator[str]:
    """The types that changed in the same way, together."""
    ways: dict[str, list[str]] = {}
    for change in changes:
        came_from = "" if change.before == Verdict.TOO_EARLY.value else f"{change.before} → "
        ways.setdefault(f"{came_from}{change.now}", []).append(change.task_type)
    for way, names in ways.items():
        yield f"{way}: {', '.join(names)}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _types(figures: DaysFigures) -> Table:
    numbers = ("pairs", "since day", "needless a day")
    table = new_table("task type", "tagged", "needs", "verdict", *numbers, "", numbers=numbers)
    table.columns[0].no_wrap = True
    table.title, table.title_justify = "What each needs is planted: the fleet's file says so", "left"
    for one in figures.types:
        table.add_row(
            one.name,
            one.tier,
            one.needs,
            one.verdict,
            str(one.pairs),
            "" if one.found_on_day is None else str(one.found_on_day),
            format_usd(one.needless_nanos) if one.needs == "fast" and one.needless_nanos is not None else "",
            Text(one.answer.value, style=_STYLES[one.answer]),
        )
    return table


def _found(figures: DaysFigures) -> str:
    wrong = f"Wrongly moved: {', '.join(figures.wrong)}." if figures.wrong else "No verdict is wrong."
    if figures.taken_back:
        wrong += f" Wrongly moved for a time, and taken back: {', '.join(figures.taken_back)}."
    if figures.found_share is None:
        return f"Nothing is overpaid. {wrong}"
    return (
        f"Of {format_usd(figures.overpaid_nanos)} a day for a tier that is not needed, the audit has found "
        f"{format_usd(figures.found_nanos)}, {figures.found_share:.0%}. {wrong}"
    )


def _curve(figures: DaysFigures) -> Table:
    """Spend a day, and the audit's own part at the end of each bar."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    most = max(1, *(day.spend_nanos + day.audit_nanos for day in figures.days))
    for day in figures.days:
        bar = Text(_bar("█", day.spend_nanos, most), style="green")
        bar.append(_bar("░", day.audit_nanos, most), style="yellow")
        table.add_row(
            Text(f"day {day.number}", justify="right"),
            Text(format_usd(day.spend_nanos + day.audit_nanos), justify="right"),
            bar,
        )
    return table


def _bar(block: str, nanos: Nanos, most: Nanos) -> str:
    return block * max(1 if nanos else 0, round(_BAR * nanos / most))


def _audit(figures: DaysFigures) -> str:
    first, last = figures.days[0], figures.days[-1]
    rest = last.spend_nanos / first.spend_nanos if first.spend_nanos else 0.0
    return (
        f"█ the fleet, ░ the audit's own calls: {format_usd(figures.audit_nanos)} in all, {figures.audit_share:.1%} of "
        f"{format_usd(figures.spend_nanos)}. On the last day the fleet cost {rest:.0%} of the first."
    )


def _policy(figures: DaysFigures) -> Iterator[str]:
    """What the verdicts make of the policy file."""
    if figures.moves:
        yield "The policy becomes (tierwise audit propose --provisional):"
    else:
        yield "The policy stays as it is."
    for name, before, now, why in figures.moves:
        yield f'-task_types.{name}.tier = "{before}"'
        yield f'+task_types.{name}.tier = "{now}"  # {why}'
    for problem in figures.stuck:
        yield f"A verdict asks for more, which a person has to make room for: {problem.path}: {problem.message}."


def _witness(figures: DaysFigures) -> str:
    total = format_usd(figures.provider_nanos)
    told = "agrees to the nanodollar" if figures.agree else "DISAGREES"
    return f"The provider's own total is {total}; the ledger {told}. It took {figures.seconds:.0f} s."
