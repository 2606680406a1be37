"""The paths of OpenAI's API: the two on which calls are made, the few that cost nothing, and all others, refused.

Anthropic's API and OpenAI's share no path on which calls are made. Where they share one (`/v1/models`, `/v1/files`),
what the SDKs send tells them apart, if the policy serves both. Anthropic's send `anthropic-version` with every request,
for their API demands it; OpenAI's never do, and send their key in `authorization` alone. So a request is of OpenAI's
family unless it has that version, or its only key is in `x-api-key`: its key does not go to Anthropic.
"""

import re
from typing import Final

from tierwise.core.routing import NO_TRANSLATION
from tierwise.engine.doors import CHAT_COMPLETIONS, RESPONSES, is_openais
from tierwise.gateway.asgi import Receive, Scope, Send
from tierwise.gateway.errors import answer_error
from tierwise.gateway.messages import Parts, messages
from tierwise.gateway.openai_passthrough import pass_to_openai
from tierwise.wire import dialects

DIALECTS: Final = {CHAT_COMPLETIONS: dialects.CHAT, RESPONSES: dialects.RESPONSES}


def is_openai(scope: Scope, parts: Parts) -> bool:
    """Whether a request is of OpenAI's family."""
    path: str = scope["path"]
    if is_openais(path):
        return True
    served = parts.desk.book.policy.openai is not None
    names = {name for name, _ in scope["headers"]}
    only_key = b"x-api-key" in names and b"authorization" not in names
    return served and b"anthropic-version" not in names and not only_key


_FREE: Final = re.compile(
    r"(?:GET|DELETE) /v1/(?:responses|chat/completions)/.+|GET /v1/models(?:/.*)?|POST /v1/responses/[^/]+/cancel|"
    r"POST /v1/moderations"
)
"""What is passed through: reading and deleting what was made, and what the provider gives away."""


async def openai_family(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Serve a request of OpenAI's family."""
    path, method = scope["path"], scope["method"]
    if parts.desk.book.policy.openai is None or parts.openai is None:
        return await answer_error(send, "not-supported", _NOT_SERVED, family="openai")
    dialect = DIALECTS.get(path) if method == "POST" else None
    if dialect is not None:
        return await messages(scope, receive, send, parts, dialect)
    if not _FREE.fullmatch(f"{method} {path}"):
        return await answer_error(send, "not-supported", f"{method} {path}: {_NOT_PRICED}", family="openai")
    return await pass_to_openai(scope, receive, send, parts)


_NOT_SERVED: Final = (
    "This gateway serves no OpenAI-compatible server: whoever runs it adds [openai] with base_url, and "
    f"[openai.tiers.NAME], to its policy, and starts it again. {NO_TRANSLATION}"
)
_NOT_PRICED: Final = (
    "Tierwise does not price this, and its cost would be missing in the ledger. It serves POST /v1/chat/completions "
    "and POST /v1/responses; send all else to the provider itself."
)
