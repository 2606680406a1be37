"""The keys of `[[clients]]`, described once: who may call, for which task types, and on which budgets."""

import re
from dataclasses import dataclass
from typing import Any, Final

from tierwise.config.kinds import Flag, Misfit, Name, Pattern, Text, misfit
from tierwise.config.tables import REQUIRED, Key, Table
from tierwise.config.values import as_list


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 of a client's key, in hex digits; read as its bytes."""

    noun: str = "64 hex digits"

    def read(self, value: object) -> bytes | Misfit:
        """Return the bytes. What does not fit is not shown: it may be the key itself."""
        if isinstance(value, str) and _DIGEST.fullmatch(value):
            return bytes.fromhex(value)
        return Misfit(f"must be {self.noun}", "`tierwise client-key NAME` prints a new key and its line")

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^{_DIGEST.pattern}$"}


@dataclass(frozen=True, slots=True)
class Patterns:
    """Patterns, of which one must hold."""

    noun: str = 'a list of patterns such as ["extraction", "review-*"]'

    def read(self, value: object) -> tuple[str, ...] | Misfit:
        """Return the patterns."""
        members = as_list(value)
        if members is None:
            return misfit(self.noun, value, f'write ["{value}"]' if isinstance(value, str) else None)
        patterns: list[str] = []
        for member in members:
            pattern = Pattern().read(member)
            if isinstance(pattern, Misfit):
                return pattern
            patterns.append(pattern)
        return tuple(patterns)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "array", "items": Pattern().schema()}


@dataclass(frozen=True, slots=True)
class Names:
    """Names, at least one."""

    noun: str = 'a list of names such as ["team-a", "all-month"]'

    def read(self, value: object) -> tuple[str, ...] | Misfit:
        """Return the names."""
        members = as_list(value)
        if not members:
            return misfit(self.noun, value, f'write ["{value}"]' if isinstance(value, str) else None)
        names: list[str] = []
        for member in members:
            name = Name().read(member)
            if isinstance(name, Misfit):
                return name
            names.append(name)
        return tuple(names)

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "array", "items": Name().schema(), "minItems": 1}


_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")

CLIENT_NAME: Final[Key[str]] = Key(
    name="name",
    kind=Name(),
    meaning="Names the client in entries and reports, and its accounts of budgets whose scope is `key`.",
    example='"nightly-jobs"',
    absent=REQUIRED,
)
KEY_SHA256: Final[Key[bytes]] = Key(
    name="key_sha256",
    kind=Digest(),
    meaning="SHA-256 of the client's key, which `tierwise client-key NAME` makes and prints. The key itself is "
    "stored nowhere.",
    example='"8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8"',
    absent=REQUIRED,
)
CLIENT_TYPES: Final[Key[tuple[str, ...]]] = Key(
    name="task_types",
    kind=Patterns(),
    meaning="The task types whose calls the client may make, by the contract that applies. In a pattern `*` stands "
    "for any characters and `?` for one.",
    example='["extraction", "review-*"]',
    absent="all",
)
CLIENT_UNDECLARED: Final[Key[bool]] = Key(
    name="undeclared",
    kind=Flag(),
    meaning="Whether the client may make calls that have no task type, and use what is passed through, such as files.",
    example="true",
    absent="`true` where `task_types` is absent, else `false`",
)
CLIENT_BUDGETS: Final[Key[tuple[str, ...]]] = Key(
    name="budgets",
    kind=Names(),
    meaning="The budgets, by their names, that count the client's calls. A budget that clients name counts their calls "
    "and nobody else's; one that none names counts everybody's, and so do the budgets of task types.",
    example='["team-a", "all-month"]',
    absent="those that no client names",
)
CLIENT_NOTE: Final[Key[str]] = Key(
    name="note",
    kind=Text(),
    meaning="Whose key it is, for the people who read the policy.",
    example='"The nightly jobs; ask Ada."',
    absent="none",
)

CLIENTS: Final = Table(
    name="clients",
    shape="listed",
    meaning="Who may call through the gateway. With one of these, every request needs the key of one, in `x-api-key` "
    "or as a bearer token in `authorization`; it is replaced on the way to the provider by the gateway's own, so "
    "the gateway needs `ANTHROPIC_API_KEY` or `ANTHROPIC_API_KEY_FILE`. In process, without a gateway, there are "
    "no clients.",
    keys=(CLIENT_NAME, KEY_SHA256, CLIENT_TYPES, CLIENT_UNDECLARED, CLIENT_BUDGETS, CLIENT_NOTE),
    example='[[clients]]\nname = "nightly-jobs"\n'
    'key_sha256 = "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8"\n'
    'task_types = ["extraction"]\n',
    elsewhere=(
        ("key", "a key is stored nowhere: write key_sha256, which `tierwise client-key NAME` prints"),
        (
            "budget",
            'write budgets = ["NAME"]; of one with scope = "key" each client has an account of its own',
        ),
    ),
)
