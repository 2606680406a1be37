"""How `[[clients]]` become values, and what is wrong with them together."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from tierwise.config import client_keys as keys
from tierwise.config.draft import meant
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
    note = section.take(keys.CLIENT_NOTE)
    if name is None or digest is None or len(section.notes.errors) > before:
        return None
    return Client(
        name=name,
        key_sha256=digest,
        task_types=task_types,
        undeclared=task_types is None if undeclared is None else undeclared,
        note=note,
    )


def check_clients(clients: Sequence[Client | None], types: Iterable[str], notes: Notes) -> None:
    """Note clients that cannot be told apart, and patterns that no task type fits."""
    known = tuple(types)
    seen: dict[object, int] = {}
    for index, client in enumerate(clients):
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
