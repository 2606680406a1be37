"""What the sandbox answers OpenAI's clients, before it is written down as a chat completion or a response.

A text is words, a token each, and a prompt has a token for every four bytes.
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from tierwise.sandbox import directive, openai_tools, openai_validate
from tierwise.sandbox.errors import invalid
from tierwise.sandbox.openai_bill import Tokens
from tierwise.sandbox.openai_models import find
from tierwise.sandbox.openai_tools import Called
from tierwise.sandbox.shapes import Object, part_of, parts_of

MADE_AT: Final = 1_760_000_000
"""When every reply was made, in seconds since the epoch."""

DEFAULT_WORDS: Final = 24
MOST_WORDS: Final = 100_000


class Frame(NamedTuple):
    """One event of a stream."""

    data: bytes
    tokens: int
    """Output tokens that have been sent once it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply, before it is written down."""

    id: str
    kind: str
    """`chat` or `responses`."""
    body: Object
    model: str
    """The snapshot that serves."""
    pieces: tuple[str, ...]
    """The text, token by token; of several choices, of each. Empty where functions are called."""
    calls: tuple[Called, ...]
    """The functions that it calls; of several choices, that each calls."""
    searches: int
    """Web searches that the provider ran for it, which are billed beside the tokens."""
    cut: bool
    """Whether the cap cut it."""
    tokens: Tokens

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


def compose(body: Object, *, kind: str, request_id: str, text: str, cached: int) -> Answer:
    """Draw the reply to a request. Raises ApiError where it cannot be answered."""
    served = find(str(body.get("model")))
    openai_validate.check(body, kind, served)
    openai_tools.check_results(body, kind)
    asked = directive.find(text, body)
    called = openai_tools.calls(body, kind=kind, asked=asked, request_id=request_id)
    wanted = [] if called else _pieces(body, kind, directive.number(asked, "output_tokens"))
    cap = openai_validate.cap_of(body, kind)
    room = MOST_WORDS if cap is None else cap
    meant = directive.number(asked, "thinking_tokens") or 0
    thinking = min(meant, room)
    pieces = wanted[: room - thinking]
    kept = openai_tools.cut(called, room - thinking)
    length = len(pieces) + _length(kept)
    choices = body.get("n") or 1
    prompt = prompt_tokens(body, kind)
    return Answer(
        id=request_id,
        kind=kind,
        body=body,
        model=served.snapshot,
        pieces=tuple(pieces),
        calls=tuple(kept),
        searches=directive.number(asked, "searches") or served.searches,
        cut=thinking < meant or length < len(wanted) + _length(called),
        tokens=Tokens(
            prompt=prompt,
            cached=min(cached, prompt),
            output=choices * (length + thinking),
            reasoning=choices * thinking,
        ),
    )


def last_text(body: Object, kind: str) -> str:
    """The text of the last user turn. Raises ApiError (400) for a body without a prompt."""
    prompt: Any = body.get("messages" if kind == "chat" else "input")
    if kind == "responses" and isinstance(prompt, str):
        return prompt
    turns = [turn for turn in parts_of(prompt) if turn.get("role") == "user"]
    if not turns:
        if kind == "responses" and (body.get("previous_response_id") or body.get("prompt")):
            return ""
        raise invalid("Missing required parameter: a prompt with a user's turn.")
    content: Any = turns[-1].get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in parts_of(content))


def prompt_tokens(body: Object, kind: str) -> int:
    """Tokens of a prompt: of all that the model reads."""
    read = ("messages", "tools") if kind == "chat" else ("input", "instructions", "tools")
    return -(-len(msgspec.json.encode([body.get(name) for name in read])) // 4)


def error_body(status: int, message: str, code: str | None = None) -> bytes:
    """An error as OpenAI writes it."""
    kind = _ERROR_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


_ERROR_TYPES: Final = {401: "invalid_request_error", 429: "requests"}


def _length(calls: list[Called]) -> int:
    return sum(len(call.pieces) for call in calls)


def _pieces(body: Object, kind: str, words: int | None) -> list[str]:
    wanted = part_of(body, "response_format") if kind == "chat" else part_of(part_of(body, "text"), "format")
    if wanted.get("type") == "json_schema":
        schema = part_of(wanted, "json_schema").get("schema") if kind == "chat" else wanted.get("schema")
        return [msgspec.json.encode(openai_tools.example(schema or {})).decode()]
    return [f"word{place} " for place in range(DEFAULT_WORDS if words is None else words)]
