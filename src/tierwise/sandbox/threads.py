"""Threads: a conversation is held under the id of its latest reply, and a continuation brings only what is new.

A request with `thread: {"type": "create"}` holds its whole conversation; one with `{"type": "continue",
"previous_message_id": …}` holds only the new messages, is answered as if it held them all, and may repeat neither
`system` nor `tools`. A thread keeps its model, can be continued once from each reply, and is forgotten after five
minutes. A reply is held whole or not at all: not one that broke, was refused, or came from a fallback model. The words
and codes are those of the `anthropic` package's types (2.13). What is held is billed as a part of the prompt, as if it
had been sent; cache marks count in the turn that they were sent in, those of `system` and `tools` in every one.

Which values of `thinking` go on a thread those types do not say: the field is refused, whatever it holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.models import find
from tierwise.sandbox.shapes import Object, is_list, is_object

BETA: Final = "message-threads-2026-08-12"
TTL_SECONDS: Final = 300
UNSUPPORTED: Final = ("cache_control", "context_management", "fallbacks", "thinking")
"""Request fields that do not go together with a thread."""
_OF_THE_THREAD: Final = ("system", "tools")
"""What a thread is created with, and a continuation may not repeat."""
_SWEEP_ABOVE: Final = 10_000


@dataclass(slots=True, kw_only=True)
class _Held:
    """A conversation up to a reply."""

    model: str
    fields: Mapping[str, Any]
    messages: list[Any]
    until: float
    is_continuing: bool = False
    was_continued: bool = False


class Threads:
    """What is held, by the id of the latest reply. One event loop owns it."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._held: dict[str, _Held] = {}

    def clear(self) -> None:
        """Forget every thread."""
        self._held.clear()

    def turn(self, sent: Object, *, betas: str, at: float) -> "Turn":
        """The turn that a request asks for. Raises ApiError where its thread cannot be begun or continued.

        `betas` is the header anthropic-beta, `at` the time in seconds.
        """
        thread: Any = sent.get("thread")
        if thread is None:
            return Turn(sent=sent, body=sent, threads=None)
        previous = _previous(thread, betas)
        if previous is None:
            _check_fields(sent)
            return Turn(sent=sent, body=sent, threads=self)
        repeated = next((field for field in _OF_THE_THREAD if sent.get(field) is not None), None)
        if repeated is not None:
            raise invalid(f"{repeated}: Extra inputs are not permitted when a thread is continued")
        _check_fields(sent)
        held = self._continued(previous, at)
        if _name(sent.get("model")) != held.model:
            raise invalid(
                "thread: these fields differ from those of the thread: model",
                code="thread_fingerprint_mismatch",
            )
        added: Any = sent.get("messages")
        if not is_list(added):
            raise invalid("messages: Input should be a valid list")
        body = {**sent, **held.fields, "messages": [*held.messages, *added]}
        return Turn(sent=sent, body=body, threads=self, previous=held)

    def hold(self, message_id: str, body: Object, content: list[Any], *, at: float) -> None:
        """Hold a conversation and the reply to it, until it has not been continued for the time to live."""
        if len(self._held) > _SWEEP_ABOVE:
            self._held = {key: held for key, held in self._held.items() if held.until > at}
        reply = msgspec.json.decode(msgspec.json.encode({"role": "assistant", "content": content}))
        self._held[message_id] = _Held(
            model=_name(body["model"]),
            fields={field: body[field] for field in _OF_THE_THREAD if field in body},
            messages=[*map(_unmarked, body["messages"]), reply],
            until=at + TTL_SECONDS,
        )

    def _continued(self, previous: str, at: float) -> _Held:
        held = self._held.get(previous)
        if held is None or held.until <= at:
            raise ApiError(
                status=404, message=f"thread: no thread is held under {previous}", code="thread_not_found"
            )
        if held.was_continued:
            raise invalid(f"thread: {previous} has already been continued", code="thread_already_continued")
        if held.is_continuing:
            raise invalid(
                f"thread: another request is continuing {previous}", code="thread_continue_in_flight"
            )
        return held


@dataclass(slots=True, kw_only=True)
class Turn:
    """One request, and its place on a thread where it has one."""

    sent: Object
    """The request's own body."""
    body: Object
    """The same with all that its thread holds."""
    threads: Threads | None
    """What holds the thread; None for a request without one."""
    previous: _Held | None = None

    def begin(self) -> None:
        """Let nobody else continue the same reply, from now until `end`."""
        if self.previous is not None:
            self.previous.is_continuing = True

    def hold(self, message_id: str, content: list[Any], *, at: float) -> None:
        """Hold the turn's reply, which is whole; one without content cannot be continued."""
        if self.threads is None:
            return
        if self.previous is not None:
            self.previous.was_continued = True
        if content:
            self.threads.hold(message_id, self.body, content, at=at)

    def end(self) -> None:
        """Let the reply before be continued again, unless it was."""
        if self.previous is not None:
            self.previous.is_continuing = False


def _previous(thread: Any, betas: str) -> str | None:
    """The id of the reply that is continued; None where a thread is created."""
    if BETA not in betas:
        raise invalid("thread: Extra inputs are not permitted")
    match thread:
        case {"type": "create"}:
            return None
        case {"type": "continue", "previous_message_id": str(previous)}:
            return previous
        case {"type": "continue"}:
            raise invalid("thread.continue.previous_message_id: Field required")
        case _:
            raise invalid("thread: Input tag does not match any of 'create', 'continue'")


def _check_fields(sent: Object) -> None:
    found = tuple(field for field in UNSUPPORTED if sent.get(field) is not None)
    if found:
        raise invalid(
            f"thread: not supported together with {', '.join(found)}",
            code="thread_unsupported_request",
            unsupported=found,
        )


def _name(model: Any) -> str:
    known = find(model) if isinstance(model, str) else None
    return str(model) if known is None else known.id


def _unmarked(value: Any) -> Any:
    """A message without its blocks' cache marks, however deep the blocks stand."""
    if not is_object(value):
        return value
    bare = {key: item for key, item in value.items() if key != "cache_control"}
    content = bare.get("content")
    return {**bare, "content": [_unmarked(item) for item in content]} if is_list(content) else bare
