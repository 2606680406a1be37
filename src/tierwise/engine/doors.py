"""What every door does with the provider's paths: which are calls, which are refused, and how tokens are counted."""

import re
from collections.abc import Mapping
from typing import Final

from tierwise.core.planning import Refused
from tierwise.core.tasks import virtual_type
from tierwise.engine.desk import Desk
from tierwise.errors import MalformedRequest
from tierwise.wire.requests import rewrite

MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"
BATCHES: Final = "/v1/messages/batches"

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"

NOT_SUPPORTED: Final[Mapping[str, str]] = {
    "/v1/complete": "Tierwise does not price text completions. Use the Messages API.",
}
"""Paths, with all below them, that are refused, and why: they cost money that would be missing in the ledger."""

NOT_IN_PROCESS: Final[Mapping[str, str]] = {
    BATCHES: "Without a gateway, Tierwise does not route or price Message Batches. Send them through `tierwise serve`.",
}
"""The same, where there is no gateway."""

_OPENAIS: Final = re.compile(
    r"/v1/(?:chat|responses|conversations|embeddings|completions|moderations|images|audio|videos|fine_tuning|batches|"
    r"uploads|vector_stores|assistants|threads|realtime|evals|graders|containers)(?:/|$)"
)
_NO_OPENAI_IN_PROCESS: Final = (
    "Without a gateway, Tierwise does not route or price calls of OpenAI's API: its middleware and its transports are "
    "for the Messages API. Send them through `tierwise serve`, with [openai] in the policy, or by a client without the "
    "transport."
)


def is_openais(path: str) -> bool:
    """Whether a path is of OpenAI's API, and not of Anthropic's too."""
    return _OPENAIS.match(path) is not None


def why_refused(path: str, *, in_process: bool = False) -> str | None:
    """Say why a path is refused; None for one that is not."""
    for refused, why in (NOT_SUPPORTED | NOT_IN_PROCESS if in_process else NOT_SUPPORTED).items():
        if path == refused or path.startswith(refused + "/"):
            return why
    return _NO_OPENAI_IN_PROCESS if in_process and is_openais(path) else None


def counted_body(desk: Desk, raw: bytes, headers: Mapping[str, str]) -> bytes:
    """The body of `count_tokens` as the decided model is sent it, where the caller named a task type for a model.

    Args:
        desk: decides.
        raw: the body as it came.
        headers: request headers by lower-case name, credentials left out.

    Raises:
        MalformedRequest: it cannot be read, or the policy refuses its type.
    """
    preview = desk.preview(raw, headers, counting=True)
    if virtual_type(preview.plan.call.requested_model) is None:
        return raw
    if isinstance(preview.plan, Refused):
        raise MalformedRequest(why=preview.plan.refusal.sentence)
    changes = tuple(change for change in preview.plan.changes if change.path != ("max_tokens",))
    return rewrite(preview.body, changes)
