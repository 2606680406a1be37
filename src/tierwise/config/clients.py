"""How `[[clients]]` become values, and what is wrong with them together."""

from fnmatch import fnmatchcase

from tierwise.config import client_keys as keys
from tierwise.config.draft import Draft, meant
from tierwise.config.reading import Notes, Section
from tierwise.config.values import shown
from tierwise.core.policy import Client


def read_client(section: Section) -> Client | None:
    """Return one of `[[clients]]`; None where anything in it does not fit, for it might let in too much."""
    before = len(section.notes.errors)
    name = section.take(keys.CLIENT_NAME)
    digest = section.take(keys.KEY_SHA256)
    task_types = section.take(keys.CLIENT_TYPES)
    undeclared = section.take(keys.CLIENT_UNDECLARED)
    budgets = section.take(keys.CLIENT_BUDGETS) or ()
    note = section.take(keys.CLIENT_NOTE)
    if name is None or digest is None or len(section.notes.errors) > before:
        return None
    return Client(
        name=name,
        key_sha256=digest,
        task_types=task_types,
        undeclared=task_types is None if undeclared is None else undeclared,
        budgets=budgets,
        note=note,
    )


def check_clients(draft: Draft, notes: Notes) -> None:
    """Note clients that cannot be told apart, patterns that no task type fits, and what is wrong with their budgets."""
    known = tuple(draft.contracts)
    seen: dict[object, int] = {}
    for index, client in enumerate(draft.clients):
        if client is None:
            continue
        path = ("clients", index)
        if client.name in seen:
            notes.error((*path, "name"), "is another client's name", "give each a name of its own")
        if client.key_sha256 in seen:
            notes.error((*path, "key_sha256"), "is another client's key", "give each a key of its own")
        seen |= {client.name: index, client.key_sha256: index}
        for pattern in client.task_types or ():
            if not any(fnmatchcase(name, pattern) for name in known):
                message = f"{shown(pattern)} fits no task type"
                notes.error((*path, "task_types"), message, meant(pattern, known, "task types"))
    _check_budgets(draft, notes)


def _check_budgets(draft: Draft, notes: Notes) -> None:
    """Note names that lead to no budget, and clients for whom none is left that counts their calls."""
    if None in draft.budgets or None in draft.clients:
        return  # the one that cannot be read may be the one that is meant
    known = [budget.name for budget in draft.budgets if budget is not None]
    clients = [client for client in draft.clients if client is not None]
    named = {name for client in clients for name in client.budgets}
    for index, client in enumerate(clients):
        for name in client.budgets:
            if name not in known:
                message = f"there is no budget {shown(name)}"
                notes.error(("clients", index, "budgets"), message, meant(name, known, "budgets"))
        if known and not client.budgets and named.issuperset(known):
            message = f"{client.name} is in no budget: each of [[budgets]] is named by other clients, and theirs alone"
            fix = f'write budgets = ["{known[0]}"] here, or leave one that no client names'
            notes.warn(("clients", index, "name"), message, fix)
