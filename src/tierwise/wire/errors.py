"""The one table from what went wrong to what the caller sees: status, the provider's error type, retry or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tierwise.core.call import Family
from tierwise.wire.replies import error_body


@dataclass(frozen=True, slots=True, kw_only=True)
class WireError:
    """How one kind of failure looks on the wire."""

    status: int
    type: str
    retry: bool
    """What `x-should-retry` tells the provider's SDKs."""
    error_code: str | None = None
    """The provider's finer code, in `error.details`, where clients act on it."""


WIRE_ERRORS: Final[Mapping[str, WireError]] = {
    "malformed": WireError(status=400, type="invalid_request_error", retry=False),
    "unknown-task-type": WireError(status=400, type="invalid_request_error", retry=False),
    "ineligible": WireError(status=400, type="invalid_request_error", retry=False),
    "thread": WireError(
        status=400, type="invalid_request_error", retry=False, error_code="thread_unsupported_request"
    ),
    "not-supported": WireError(status=400, type="invalid_request_error", retry=False),
    "no-credential": WireError(status=401, type="authentication_error", retry=False),
    "unknown-key": WireError(status=401, type="authentication_error", retry=False),
    "not-allowed": WireError(status=403, type="permission_error", retry=False),
    "not-found": WireError(status=404, type="not_found_error", retry=False),
    "unpriced": WireError(status=400, type="invalid_request_error", retry=False),
    "too-dear": WireError(status=400, type="invalid_request_error", retry=False),
    "too-slow": WireError(status=408, type="timeout_error", retry=False),
    "too-large": WireError(status=413, type="request_too_large", retry=False),
    "head-too-large": WireError(status=431, type="request_too_large", retry=False),
    "budget": WireError(status=429, type="billing_error", retry=False),
    "internal": WireError(status=500, type="api_error", retry=False),
    "unreachable": WireError(status=502, type="api_error", retry=True),
    "dropped": WireError(status=502, type="api_error", retry=True),
    "budget-store": WireError(status=503, type="api_error", retry=True),
    "ledger": WireError(status=503, type="api_error", retry=True),
    "busy": WireError(status=503, type="api_error", retry=True),
    "timeout": WireError(status=504, type="timeout_error", retry=False),
}
"""A dropped connection is worth a retry, as the SDKs have it without a gateway; a timeout is not by itself: the
provider may have billed the call. The SDKs answer the code of `thread` by sending the whole conversation, at once.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReply:
    """A whole reply of ours, in the provider's shape."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


def own_reply(
    code: str,
    sentence: str,
    *,
    call_id: str = "none",
    headers: Sequence[tuple[bytes, bytes]] = (),
    last: bool = False,
    family: Family = "anthropic",
) -> OwnReply:
    """Write an error of ours as the provider of the caller's family writes its own; `headers` are told besides.

    `last` says that it was tried again as often as is of use.
    """
    error = WIRE_ERRORS[code]
    retry = error.retry and not last
    openai = family == "openai"
    return OwnReply(
        status=error.status,
        headers=(
            (b"content-type", b"application/json"),
            (b"x-request-id" if openai else b"request-id", call_id.encode("ascii", "replace")),
            (b"x-should-retry", b"true" if retry else b"false"),
            (b"x-tierwise-error", code.encode()),
            *headers,
        ),
        body=_openai_body(error, code, sentence)
        if openai
        else error_body(
            error.type,
            sentence,
            request_id=call_id,
            details={"error_code": error.error_code} if error.error_code else None,
        ),
    )


def _openai_body(error: WireError, code: str, sentence: str) -> bytes:
    """As OpenAI writes an error: `code` is ours, by which programs tell them apart."""
    told = {"message": sentence, "type": error.type, "param": None, "code": code}
    return msgspec.json.encode({"error": told})
