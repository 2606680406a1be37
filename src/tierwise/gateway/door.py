"""The door: who may enter. On a guarded one, only the policy's clients, each with its own key."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from tierwise.core.call import Family
from tierwise.core.policy import Client
from tierwise.engine.doors import COUNT_TOKENS, MESSAGES
from tierwise.engine.headers import credential_id, has_credential
from tierwise.upstream.port import Headers


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may enter."""

    key_id: str
    """Names the credential in entries and budgets, without telling it."""
    client: Client | None = None
    """None on a door that is not guarded: the caller's credential is the provider's, or it has none."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody who may not."""

    code: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """How a gateway's door was built, whatever becomes of its policy."""

    guarded: bool = False
    """Whether it opened with clients: where the policy loses its last one, nobody may enter any more."""
    private: bool = True
    """Whether only this machine reaches it."""

    def enter(
        self, headers: Headers, clients: Sequence[Client], *, key: str | None, family: Family = "anthropic"
    ) -> Visitor | Stopped:
        """Let a request in, or say why not.

        Args:
            headers: the request's.
            clients: those of the policy in force.
            key: the gateway's own credential for the provider of the family.
            family: the one that the request is of.
        """
        if not self.guarded and not clients:
            if key is None and not has_credential(headers, family):
                return NO_CREDENTIAL if family == "anthropic" else NO_OPENAI_CREDENTIAL
            return Visitor(credential_id(headers))
        client = client_of(headers, clients)
        if client is None:
            return UNKNOWN_KEY
        if key is None:
            return NO_PROVIDER_KEY if family == "anthropic" else NO_OPENAI_KEY
        return Visitor(client.name, client)

    def hear(self, headers: Headers, clients: Sequence[Client]) -> Visitor | Stopped:
        """Let in who tells outcomes, or say why not: that spends nothing, and needs no key for the provider."""
        if not self.guarded and not clients:
            return Visitor(credential_id(headers))
        client = client_of(headers, clients)
        return UNKNOWN_KEY if client is None else Visitor(client.name, client)

    def shows(self, headers: Headers, clients: Sequence[Client]) -> bool:
        """Whether a request may see how the gateway is."""
        return self.private or client_of(headers, clients) is not None


def client_of(headers: Headers, clients: Sequence[Client]) -> Client | None:
    """Find the client whose key a request has, in a time that does not tell how close a wrong key came.

    The first value of each header counts. Every client is compared with, found or not.
    """
    brought = dict(reversed([pair for pair in headers if pair[0] in _KEY_HEADERS]))
    found = None
    for value in brought.values():
        bare = value[7:].strip() if value[:7].lower() == b"bearer " else value
        digest = sha256(bare).digest()
        for client in clients:
            if compare_digest(digest, client.key_sha256):
                found = client
    return found


def stopped_on_the_way(client: Client | None, method: str, path: str) -> Stopped | None:
    """Say why a client may not use a path that is passed through: it may spend what no entry tells of."""
    if client is None or client.undeclared or path == COUNT_TOKENS:
        return None
    if method in {"GET", "HEAD"} and (path == _MODELS or path.startswith(f"{_MODELS}/")):
        return None
    return Stopped(
        "not-allowed",
        f"The client {client.name} may make calls of its task types to {MESSAGES} only, not use {path}.",
    )


def stopped_by_type(client: Client | None, task_type: str | None) -> Stopped | None:
    """Say why a client may not make a call under a contract; None where it may."""
    if client is None or client.may_call(task_type):
        return None
    allowed = ", ".join(client.task_types or ())
    what = "calls without a task type" if task_type is None else f"calls of the task type {task_type}"
    own = f" Its task types are: {allowed}." if allowed else ""
    return Stopped("not-allowed", f"The client {client.name} may not make {what}.{own}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_KEY_HEADERS: Final = frozenset((b"x-api-key", b"authorization"))
_MODELS: Final = "/v1/models"

NO_CREDENTIAL: Final = Stopped(
    "no-credential",
    "There is no key: send `x-api-key` or `authorization`, or start the gateway with ANTHROPIC_API_KEY in its "
    "environment.",
)
UNKNOWN_KEY: Final = Stopped(
    "unknown-key",
    "This gateway serves only its clients, and the request has the key of none: send one in `x-api-key`, or as "
    "`authorization: Bearer …`. Whoever runs the gateway makes it, with `tierwise client-key`.",
)
NO_PROVIDER_KEY: Final = Stopped(
    "no-credential",
    "The gateway has clients and no key of its own for the provider: whoever runs it starts it again with "
    "ANTHROPIC_API_KEY or ANTHROPIC_API_KEY_FILE.",
)
NO_OPENAI_CREDENTIAL: Final = Stopped(
    "no-credential",
    "There is no key for the OpenAI-compatible server: send `authorization: Bearer …`, or start the gateway with "
    "OPENAI_API_KEY in its environment. A key of Anthropic's does not go there.",
)
NO_OPENAI_KEY: Final = Stopped(
    "no-credential",
    "The gateway has clients and no key of its own for the OpenAI-compatible server: whoever runs it starts it again "
    "with OPENAI_API_KEY or OPENAI_API_KEY_FILE.",
)
