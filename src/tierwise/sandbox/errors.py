"""The one error the sandbox answers a caller with, in the provider's shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""The provider's error types by HTTP status."""


@dataclass(kw_only=True, eq=False)  # not frozen: the interpreter writes tracebacks into exceptions
class ApiError(Exception):
    """The request is answered with `status` and this message."""

    status: int
    message: str
    type: str | None = None
    """The provider's error type; None takes the one that belongs to the status."""
    code: str | None = None
    """`error.details.error_code`, where the provider gives one."""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())
    unsupported: tuple[str, ...] = ()
    """`error.details.unsupported`: what does not go together with a thread."""

    def body(self, request_id: str) -> bytes:
        """The JSON body, which names the request."""
        error: dict[str, Any] = {
            "type": self.type or TYPE_OF_STATUS.get(self.status, "api_error"),
            "message": self.message,
        }
        if self.code is not None:
            details = {"unsupported": self.unsupported} if self.unsupported else {}
            error["details"] = {"error_code": self.code, **details}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def invalid(message: str, *, code: str | None = None, unsupported: tuple[str, ...] = ()) -> ApiError:
    """A 400 with the provider's wording: the field first, then what is wrong with it."""
    return ApiError(status=400, message=message, code=code, unsupported=unsupported)
