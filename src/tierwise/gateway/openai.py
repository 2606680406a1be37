"""The paths of OpenAI's API: the two on which calls are made, the few that cost nothing, and all others, refused.

Anthropic's API and OpenAI's share no path on which calls are made. Where they share one (`/v1/models`, `/v1/files`),
a request without `anthropic-version`, which Anthropic's API demands, is taken for one of OpenAI's clients if the policy
serves them: its key is OpenAI's and does not go to Anthropic.
"""

import re
from typing import Final

from tierwise.core.routing import NO_TRANSLATION
from tierwise.engine.doors import CHAT_COMPLETIONS, RESPONSES, is_openais
from tierwise.engine.endings import why_no_reply
from tierwise.errors import UpstreamError
from tierwise.gateway.asgi import Receive, Scope, Send
from tierwise.gateway.door import Stopped, stopped_on_the_way
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, read_body
from tierwise.gateway.messages import Parts, messages, to_openai
from tierwise.gateway.passthrough import relay
from tierwise.wire import dialects

DIALECTS: Final = {CHAT_COMPLETIONS: dialects.CHAT, RESPONSES: dialects.RESPONSES}


def is_openai(scope: Scope, parts: Parts) -> bool:
    """Whether a request is of OpenAI's family."""
    path: str = scope["path"]
    if is_openais(path):
        return True
    served = parts.desk.book.policy.openai is not None
    return served and not any(name == b"anthropic-version" for name, _ in scope["headers"])


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
    return await _pass_through(scope, receive, send, parts)


async def _pass_through(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    clients = parts.desk.book.policy.clients
    visitor = parts.door.enter(scope["headers"], clients, key=parts.openai_key, family="openai")
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor, family="openai")
    stopped = stopped_on_the_way(visitor.client, scope["method"], scope["path"])
    if stopped is not None:
        return await turn_away(send, stopped, family="openai")
    assert parts.openai is not None
    parts.meters.passed_through += 1
    try:
        body = await read_body(scope, receive, parts.intake)
        reply = await parts.openai.send(to_openai(scope, parts, visitor, body=body))
    except BodyRefused as error:
        return await turn_away(send, error, family="openai")
    except CallerLeftEarly:
        return None
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error), family="openai")
    return await relay(reply, send)


_NOT_SERVED: Final = (
    "This gateway serves no OpenAI-compatible server: whoever runs it adds [openai] with base_url, and "
    f"[openai.tiers.NAME], to its policy, and starts it again. {NO_TRANSLATION}"
)
_NOT_PRICED: Final = (
    "Tierwise does not price this, and its cost would be missing in the ledger. It serves POST /v1/chat/completions "
    "and POST /v1/responses; send all else to the provider itself."
)
