"""How the budgets of the policy file become values: those of `[[budgets]]`, and a task type's own."""

from decimal import Decimal
from typing import Final

from tierwise.config import budget_keys as keys
from tierwise.config.reading import Section
from tierwise.core.policy import Budget, WhenShort
from tierwise.money import usd


def read_budget(section: Section) -> Budget | None:
    """Return one of `[[budgets]]`; None where anything in it does not fit, for it would not limit what is meant."""
    before = len(section.notes.errors)
    name = section.take(keys.BUDGET_NAME)
    scope = section.take(keys.BUDGET_SCOPE)
    limit = section.take(keys.BUDGET_LIMIT)
    window = section.take(keys.BUDGET_WINDOW) or "lifetime"
    kind = section.take(keys.BUDGET_KIND) or "hard"
    warn_at = section.take(keys.BUDGET_WARN_AT)
    when_short = section.take(keys.BUDGET_WHEN_SHORT)
    share = section.take(keys.BUDGET_PENDING_SHARE)
    only = section.take(keys.BUDGET_ONLY)
    if kind == "warn":
        _check_only_warns(section, warn_at)
    if scope is None or limit is None or len(section.notes.errors) > before:
        return None
    shared = kind == "hard" and scope in {"all", "type"}
    return Budget(
        name=name or f"{scope}-{window}",
        scope=scope,
        limit=usd(limit),
        only=only,
        window=window,
        hard=kind == "hard",
        warn_at=(80, 95) if warn_at is None else warn_at,
        when_short=when_short or ("shrink", "refuse"),
        pending_share=share or (_SHARED if shared else 100),
    )


def read_type_budgets(name: str, section: Section) -> tuple[Budget, ...]:
    """Return the budgets of a task type. A dot in their names keeps them apart from those of `[[budgets]]`."""
    budgets: list[Budget] = []
    for own in section.inner(keys.TYPE_BUDGET):
        per_run, per_task = own.take(keys.PER_RUN), own.take(keys.PER_TASK)
        when_short = own.take(keys.TYPE_WHEN_SHORT) or ("shrink", "refuse")
        if per_run is not None:
            budgets.append(_per_run(name, per_run, when_short))
        if per_task is not None:
            budgets.append(_per_task(name, per_task, when_short))
    max_calls = section.take(keys.MAX_CALLS)
    if max_calls is not None:
        budgets.append(_max_calls(name, max_calls))
    return tuple(budgets)


_SHARED: Final = 50
"""Per cent of a budget that several keys share, which one of them may have pending."""


def _check_only_warns(section: Section, warn_at: tuple[int, ...] | None) -> None:
    path, warn = section.path, keys.BUDGET_WARN_AT.name
    for key in (keys.BUDGET_WHEN_SHORT, keys.BUDGET_PENDING_SHARE):
        if key.name in section.values:
            message = 'has no meaning where kind = "warn": such a budget is never short'
            section.notes.error((*path, key.name), message, 'remove the line, or write kind = "hard"')
    if warn_at == ():
        message = 'is empty, and kind = "warn": such a budget does nothing'
        section.notes.error((*path, warn), message, f"write {warn} = {keys.BUDGET_WARN_AT.example}")


def _per_run(name: str, limit: Decimal, when_short: tuple[WhenShort, ...]) -> Budget:
    return Budget(name=f"{name}.per-run", scope="run", limit=usd(limit), only=name, when_short=when_short)


def _per_task(name: str, limit: Decimal, when_short: tuple[WhenShort, ...]) -> Budget:
    return Budget(name=f"{name}.per-task", scope="task", limit=usd(limit), only=name, when_short=when_short)


def _max_calls(name: str, limit: int) -> Budget:
    return Budget(
        name=f"{name}.max-calls",
        scope="task",
        limit=limit,
        counts="calls",
        only=name,
        warn_at=(),
        when_short=("refuse",),
    )
