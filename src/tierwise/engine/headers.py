"""Headers on their way through: hop-by-hop ones end here, credentials go only to the provider, ours are ours."""

import re
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from tierwise.core.budgets import Denied
from tierwise.core.call import Family
from tierwise.core.changes import REMOVED, Change
from tierwise.core.fitting import TASK_BUDGET_BETA, TASK_BUDGET_PATH
from tierwise.core.planning import Plan, Refused
from tierwise.money import Nanos
from tierwise.upstream.port import Headers, Outgoing

HOP_BY_HOP: Final = frozenset(
    (
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
"""https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1"""

CREDENTIALS: Final = frozenset((b"authorization", b"x-api-key", b"cookie", b"proxy-authorization"))
"""Never part of a `Call`, an entry or a log."""

_KEYS: Final = frozenset((b"authorization", b"x-api-key"))
_OURS: Final = b"x-tierwise-"
_OURS_LENGTH: Final = len(_OURS)
_NOT_SENT: Final = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding"}
_PLAIN: Final = (b"accept-encoding", b"identity")
_BETA: Final = b"anthropic-beta"


def readable_headers(headers: Headers) -> dict[str, str]:
    """The request headers that routing may look at: all but the credentials."""
    return {
        name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name not in CREDENTIALS
    }


def has_credential(headers: Headers, family: Family = "anthropic") -> bool:
    """Whether the caller brings its own key or token: one that may go to the provider of its family."""
    if family == "openai":
        return any(_is_for_openai(name, value) for name, value in headers)
    return not _KEYS.isdisjoint([name for name, _ in headers])


def _is_for_openai(name: bytes, value: bytes) -> bool:
    """Whether a header is a credential for OpenAI's API; a key that says it is Anthropic's goes nowhere else."""
    return name == b"authorization" and b"sk-ant-" not in value


def without_openai_keys(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of a request for Anthropic's API, without a key that is OpenAI's.

    That is one that says so; and beside an `x-api-key` any `sk-…` that is not Anthropic's, for a caller that brings
    two keys has one for each provider. Alone, such a key may be another server's that speaks the Messages API.
    """
    theirs = _SK_KEY if any(name == b"x-api-key" for name, _ in headers) else _OPENAI_KEY
    return [
        (name, value) for name, value in headers if name != b"authorization" or theirs.match(value) is None
    ]


_OPENAI_KEY: Final = re.compile(rb"(?:bearer\s+)?sk-(?:proj|svcacct|admin)-", re.IGNORECASE)
_SK_KEY: Final = re.compile(rb"(?:bearer\s+)?sk-(?!ant-)", re.IGNORECASE)


def credential_id(headers: Headers) -> str:
    """Name the caller's credential without telling it: 12 hex digits of its SHA-256; `gateway` where it brings none.

    A key is the same whichever of the two headers it comes in.
    """
    for name, value in headers:
        if name in _KEYS:
            return sha256(value.removeprefix(b"Bearer ")).hexdigest()[:12]
    return "gateway"


def attempt_number(headers: Headers) -> int:
    """Which attempt at its call a request is, by the count of the provider's SDK; 1 where it counts none."""
    for name, value in headers:
        if name == b"x-stainless-retry-count" and _RETRY_COUNT.fullmatch(value):
            return int(value) + 1
    return 1


_RETRY_COUNT: Final = re.compile(rb"[0-9]{1,3}")


def budget_headers(denied: Denied, *, at_us: int) -> list[tuple[bytes, bytes]]:
    """What a refusal tells machines: whose limit it is, what it holds, and when its window ends.

    The `anthropic-ratelimit-unified-…` headers are those that Claude Code reads of a spend cap.
    """
    account = denied.account
    told = [
        (b"x-tierwise-budget", safe(account.budget.name)),
        (b"x-tierwise-budget-scope", account.budget.scope.encode()),
        *_figures(denied),
        (b"anthropic-ratelimit-unified-status", b"rejected"),
        (b"anthropic-ratelimit-unified-overage-disabled-reason", b"org_spend_cap_reached"),
        (b"anthropic-ratelimit-unified-overage-period", account.budget.window.encode()),
    ]
    if account.ends_us is not None:
        told.append((b"retry-after", b"%d" % max(1, -(-(account.ends_us - at_us) // 1_000_000))))
        told.append((b"anthropic-ratelimit-unified-reset", b"%d" % (account.ends_us // 1_000_000)))
    return told


def _figures(denied: Denied) -> list[tuple[bytes, bytes]]:
    if denied.account.budget.counts == "calls":
        return [
            (b"x-tierwise-budget-limit-calls", b"%d" % denied.limit),
            (b"x-tierwise-budget-posted-calls", b"%d" % denied.posted_nanos),
            (b"x-tierwise-budget-pending-calls", b"%d" % denied.pending_nanos),
        ]
    return [
        (b"x-tierwise-budget-limit-usd", _usd(denied.limit)),
        (b"x-tierwise-budget-posted-usd", _usd(denied.posted_nanos)),
        (b"x-tierwise-budget-pending-usd", _usd(denied.pending_nanos)),
    ]


def _usd(nanos: Nanos) -> bytes:
    return str(Decimal(nanos).scaleb(-9)).encode() if nanos else b"0"


def betas_for(changes: tuple[Change, ...]) -> tuple[bytes, ...]:
    """The flags of `anthropic-beta` that a body needs once it is changed so."""
    for change in changes:
        if change.path == TASK_BUDGET_PATH and change.after is not REMOVED:
            return (TASK_BUDGET_BETA.encode(),)
    return ()


def outgoing_headers(
    headers: Headers, *, key: str | None, betas: tuple[bytes, ...] = (), replaces: bool = False
) -> list[tuple[bytes, bytes]]:
    """The headers that go to the provider: the caller's, without hop-by-hop ones and ours.

    The reply is asked for without encoding, so that its bytes can be read on their way. `key` is the gateway's
    own, for a caller that brings none; where it `replaces` the caller's, that was meant for the gateway, and no
    credential of the caller's goes on. `betas` are flags that the body needs beside the caller's.
    """
    named = _named_by_connection(headers)
    if replaces:
        headers = [pair for pair in headers if pair[0] not in CREDENTIALS]
    sent = [
        (name, value)
        for name, value in headers
        if name not in _NOT_SENT and name not in named and name[:_OURS_LENGTH] != _OURS
    ]
    sent.append(_PLAIN)
    if betas:
        asked = b",".join(value for name, value in sent if name == _BETA)
        sent.extend((_BETA, beta) for beta in betas if beta not in asked)
    if key is not None and not has_credential(headers):
        sent.append((b"x-api-key", key.encode("latin-1")))
    return sent


def outgoing_to_openai(
    headers: Headers, *, key: str | None, replaces: bool = False
) -> list[tuple[bytes, bytes]]:
    """The headers that go to an OpenAI-compatible server; as `outgoing_headers`, whose family's own stay here."""
    own = has_credential(headers, "openai")
    kept = [
        (name, value)
        for name, value in headers
        if name != b"x-api-key"
        and not name.startswith(b"anthropic-")
        and (name != b"authorization" or _is_for_openai(name, value))
    ]
    sent = outgoing_headers(kept, key=None, replaces=replaces)
    if key is not None and (replaces or not own):
        sent.append((b"authorization", b"Bearer " + key.encode("latin-1")))
    return sent


def as_another_call(outgoing: Outgoing) -> Outgoing:
    """The same request as another call: without the key by which the provider would give the first one's reply."""
    headers = [(name, value) for name, value in outgoing.headers if name != b"idempotency-key"]
    return replace(outgoing, headers=headers)


def returned_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The provider's response headers, without hop-by-hop ones."""
    named = _named_by_connection(headers)
    return [pair for pair in headers if pair[0] not in HOP_BY_HOP and pair[0] not in named]


def own_headers(call_id: str, plan: Plan | Refused, *, attempt: int = 1) -> list[tuple[bytes, bytes]]:
    """What the gateway tells of a call in its reply; of an attempt that is not the first, also its number."""
    told: list[tuple[bytes, bytes]] = [(b"x-tierwise-call-id", call_id.encode())]
    if attempt > 1:
        told.append((b"x-tierwise-attempt", b"%d" % attempt))
    task = plan.task
    if task.type is not None:
        told.append((b"x-tierwise-task-type", safe(task.type)))
    if task.unknown_type is not None:
        told.append((b"x-tierwise-unknown-type", safe(task.unknown_type)))
        if task.nearest_type is not None:
            told.append((b"x-tierwise-nearest-type", safe(task.nearest_type)))
    if isinstance(plan, Plan) and plan.decision.tier is not None:
        decision = plan.decision
        prefix = b"x-tierwise-" if decision.acts else b"x-tierwise-observed-"
        told += (
            (prefix + b"tier", safe(plan.decision.tier)),
            (prefix + b"model", safe(decision.model)),
            (prefix + b"max-tokens", b"%d" % decision.max_tokens),
        )
        if plan.changes:
            told.append((b"x-tierwise-changes", _paths(plan.changes)))
    return told


@lru_cache(maxsize=1024)
def safe(text: str) -> bytes:
    """Write text so that it can stand in a header, whatever it holds."""
    return quote(text, safe="/-._~ ,;:()@").encode()


def _paths(changes: tuple[Change, ...]) -> bytes:
    return ", ".join([".".join(change.path) for change in changes]).encode()


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Headers that the `connection` header declares hop-by-hop."""
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return _NONE
    return frozenset(token.strip().lower() for value in values for token in value.split(b","))


_NONE: Final[frozenset[bytes]] = frozenset()
