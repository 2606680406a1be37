"""What budgets, downgrades and task budgets must mean: names lead somewhere, and nothing is said in vain."""

from collections.abc import Iterator, Mapping

from tierwise.config.draft import Draft, less_thinking, meant
from tierwise.config.lines import dotted
from tierwise.config.reading import Notes
from tierwise.config.values import shown
from tierwise.core.catalog import find
from tierwise.core.matrix import COLUMNS
from tierwise.core.policy import Budget, Contract, Tier, cap_floor


def check_budgets(draft: Draft, notes: Notes) -> None:
    """Note what is wrong with the budgets of a draft, one by one and together."""
    first: dict[str, int] = {}
    for index, budget in enumerate(draft.budgets):
        if budget is None:
            continue
        if first.setdefault(budget.name, index) != index:
            _note_same_name(index, budget, first, notes)
        if budget.only is not None and budget.only not in draft.contracts:
            message = f"there is no task type {shown(budget.only)}"
            notes.error(
                ("budgets", index, "only"), message, meant(budget.only, draft.contracts, "task types")
            )
        elif "downgrade" in budget.when_short and not _may_be_moved(budget, draft):
            _note_moves_nothing(index, budget, notes)
    _check_observed(draft, notes)
    if draft.when_lost is not None and draft.budget_store is None:
        message = "is never used: without budget_store this process has the balances, and cannot lose them"
        notes.warn(("budget_store_lost",), message, "remove the line, or add budget_store")


def check_downgrade(contract: Contract, draft: Draft, notes: Notes) -> None:
    """Note where the cheaper tier of a contract is none, or would never be taken."""
    if contract.downgrade_to is None:
        if any("downgrade" in budget.when_short for budget in contract.budgets):
            path = ("task_types", contract.name, "budget", "when_short")
            message = "has downgrade, and the type has no downgrade_to: no call is moved"
            notes.warn(path, message, 'add downgrade_to = "TIER" to the type, or remove the word')
        return
    path = ("task_types", contract.name, "downgrade_to")
    wrong = _wrong_tier(contract, contract.downgrade_to, draft)
    if wrong is not None:
        notes.error(path, *wrong)
    elif not any("downgrade" in budget.when_short for budget in _budgets_of(contract, draft)):
        fix = 'write when_short = ["downgrade", "refuse"] in a budget of these calls, or remove the line'
        notes.warn(path, "is never used: no budget of these calls has downgrade in when_short", fix)


def check_task_budget(contract: Contract, tier: Tier, notes: Notes) -> None:
    """Note where a contract has a task budget that its tier's model cannot be told."""
    model = find(tier.model)
    takes = model is not None and COLUMNS[model.id].cells["task_budget"] == "ok"
    if contract.task_budget is not None and not takes:
        why = "which takes none" if model is not None else "which is not in the catalogue"
        notes.warn(
            ("task_types", contract.name, "task_budget"),
            f"is not told to {tier.model}, {why}",
            "remove the line, or use a tier whose model takes one",
        )


def _note_same_name(index: int, budget: Budget, first: Mapping[str, int], notes: Notes) -> None:
    earlier = dotted(("budgets", first[budget.name]))
    notes.error(
        ("budgets", index, "name"),
        f"{earlier} is called {budget.name} too",
        f'give one of the two another name, such as name = "{budget.name}-2"',
    )


def _may_be_moved(budget: Budget, draft: Draft) -> bool:
    """Whether any type whose calls the budget counts has a cheaper tier."""
    return any(
        contract is None or contract.downgrade_to is not None
        for name, contract in draft.contracts.items()
        if budget.only in {None, name}
    )


def _note_moves_nothing(index: int, budget: Budget, notes: Notes) -> None:
    whose = "no task type has" if budget.only is None else f"the type {budget.only} has no"
    notes.warn(
        ("budgets", index, "when_short"),
        f"has downgrade, and {whose} downgrade_to: no call is moved",
        f'add downgrade_to = "TIER" to [task_types.{budget.only or "NAME"}], or remove the word',
    )


def _check_observed(draft: Draft, notes: Notes) -> None:
    shared = [budget.name for budget in draft.budgets if budget is not None and budget.hard]
    own = [budget.name for contract in draft.contracts.values() if contract for budget in contract.budgets]
    if draft.mode != "observe" or not (shared or own):
        return
    ways = ('write kind = "warn" in [[budgets]]',) if shared else ()
    ways += ("remove budget and max_calls of the type",) if own else ()
    notes.warn(
        ("mode",),
        f"changes no call, and budgets hold all the same: {', '.join((*shared, *own))}",
        f"{' and '.join(ways)} where no call is to be refused",
    )


def _budgets_of(contract: Contract, draft: Draft) -> Iterator[Budget]:
    """The budgets that may be short for a contract's calls; the others have nothing to do with its tier."""
    for budget in (*draft.budgets, *contract.budgets):
        if budget is not None and budget.hard and budget.only in {None, contract.name}:
            yield budget


def _wrong_tier(contract: Contract, name: str, draft: Draft) -> tuple[str, str] | None:
    """Why a contract's calls cannot be moved to a tier, and the fix."""
    if name not in draft.tiers:
        return f"there is no tier {shown(name)}", meant(name, draft.tiers, "tiers")
    if contract.tier not in draft.tiers:
        return None
    order = list(draft.tiers)
    cheaper = order[order.index(contract.tier) + 1 :]
    if name not in cheaper:
        what = "is the type's own tier" if name == contract.tier else f"is stronger than {contract.tier}"
        fix = (
            f"name a later tier of the file: {', '.join(cheaper)}"
            if cheaper
            else "remove the line: no tier is cheaper"
        )
        return f"{name} {what}", fix
    tier = draft.tiers[name]
    return None if tier is None else _no_room(contract, tier)


def _no_room(contract: Contract, tier: Tier) -> tuple[str, str] | None:
    cap, floor = contract.max_tokens, cap_floor(tier, contract)
    if cap is None or cap >= floor:
        return None
    less = less_thinking(contract, tier)
    return (
        f"max_tokens = {cap} leaves no room to think on {tier.name}, which needs {floor} or more",
        f"raise max_tokens to {floor}{f', or {less}' if less else ''}",
    )
