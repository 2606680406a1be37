"""The desk: where a call is read, planned and given its machine. Every door, gateway or client, begins here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from tierwise.audit.acting import Acting, draw
from tierwise.config import Book
from tierwise.core.attempts import ONLY, Attempt, TryAgain, first_attempt
from tierwise.core.calibration import UNCALIBRATED, Calibration
from tierwise.core.call import UNCAPPED, Call
from tierwise.core.decision import Drawn
from tierwise.core.exchange import Exchange
from tierwise.core.lengths import UNKNOWN_LENGTHS, Lengths
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Policy
from tierwise.core.reserving import Asked, ask, is_counted
from tierwise.core.routing import cascaded
from tierwise.core.tasks import TaskRef, continues, conversation_key, name_task
from tierwise.stores.conversations import Conversations
from tierwise.values import maker, value
from tierwise.wire.dialects import MESSAGES, Dialect
from tierwise.wire.requests import Body, read_request


@value
class Reading:
    """A call as it was read, before it is decided."""

    at_us: int
    raw: bytes
    call: Call
    body: Body
    task: TaskRef
    book: Book
    """The policy that was in force."""
    conversation: str | None
    """The key of its conversation; None for a call whose tier nothing remembers."""
    kept: str | None
    """The tier that its conversation has here."""
    is_strange: bool
    """Whether it continues a conversation that is not known here: another gateway may know it."""
    dialect: Dialect = MESSAGES


@value
class Opened:
    """A call on its way: what it is, and the machine that sees it through."""

    call_id: str
    body: Body
    exchange: Exchange
    keep_tier: Callable[[str], None]
    """Remembers another tier for its conversation than was decided first."""
    dialect: Dialect = MESSAGES

    @property
    def plan(self) -> Plan | Refused:
        """What the call is sent as, as far as is known by now."""
        return self.exchange.plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item of a Message Batch, before its budgets are asked."""

    call_id: str
    at_us: int
    """When it was read, in microseconds since 1970 UTC."""
    body: Body
    asked: Asked
    book: Book
    purpose: str | None = None
    """What it is made for, where it is no caller's."""
    first_call_id: str | None = None
    """Of the call that it repeats, where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a call would be sent as."""

    body: Body
    plan: Plan | Refused


class Desk:
    """Opens calls under the policy that is in force; a call in flight keeps the one it began with."""

    def __init__(
        self,
        book: Book,
        *,
        conversations: Conversations,
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        """Open calls by `book`.

        Args:
            book: the policy and the prices.
            conversations: remembers the tiers of conversations here.
            clock: tells microseconds since 1970 UTC.
            new_id: makes call ids.
        """
        self.book = book
        self.calibration: Calibration = UNCALIBRATED
        """What is known of texts' tokens."""
        self.lengths: Lengths = UNKNOWN_LENGTHS
        """What is known of replies' lengths."""
        self.acting = Acting()
        """Where the autopilot sends task types."""
        self._conversations = conversations
        self._clock = clock
        self.new_id = new_id
        """Makes an id."""
        self.share: Callable[[str, str, int], None] | None = None
        """Tells other gateways the tier of a conversation: its key, the tier, for how many seconds."""

    def read(self, raw: bytes, headers: Mapping[str, str], dialect: Dialect = MESSAGES) -> Reading:
        """Read one call and name its task.

        Args:
            raw: the body.
            headers: request headers by lower-case name, credentials left out.
            dialect: what its caller speaks; of OpenAI's only where the policy serves them.

        Raises:
            MalformedRequest: the body cannot be read.
        """
        at_us = self._clock()
        book = self._book_for(dialect)
        call, body = _read(raw, headers, dialect, book.policy)
        task = name_task(call, policy=book.policy)
        key = conversation_key(call, task) if task.type is not None else None
        kept, strange = None, False
        if key is not None and continues(call, task):
            kept = self._conversations.tier(key, at_us=at_us)
            strange = kept is None
        return _make_reading(
            at_us=at_us,
            raw=raw,
            call=call,
            body=body,
            task=task,
            book=book,
            conversation=key,
            kept=kept,
            is_strange=strange,
            dialect=dialect,
        )

    def begin(
        self,
        reading: Reading,
        *,
        key_id: str = "",
        kept: str | None = None,
        tries_again: bool = False,
        number: int = 1,
    ) -> Opened:
        """Plan one call, and work out what it asks of its budgets.

        Args:
            reading: the call.
            key_id: names the caller's credential, without telling it; empty where there is none to tell apart.
            kept: the tier that its conversation has elsewhere; None where nobody knows one.
            tries_again: whether the door makes another attempt where one is to be made.
            number: which attempt it is by the count of the caller's own library, where that makes them.
        """
        kept = reading.kept or kept
        drawn = cascaded(reading.call, reading.task, reading.book.policy) if tries_again else None
        if drawn is None and self.acting.leans:
            drawn = self._drawn(reading.task, reading.conversation, reading.raw, reading.book)
        planned = plan(reading.call, reading.task, policy=reading.book.policy, kept=kept, drawn=drawn)
        is_new = kept is None and reading.call.turns <= 1
        if tries_again:
            upstream = reading.book.policy.upstream
            attempt = first_attempt(upstream, at_us=reading.at_us, is_new=is_new, lengths=self.lengths)
        else:
            attempt = ONLY if number == 1 else replace(ONLY, number=number)
        return self._open(reading, planned, key_id=key_id, is_new=is_new, attempt=attempt)

    def begin_again(self, reading: Reading, again: TryAgain, *, key_id: str = "") -> Opened:
        """Begin another attempt at a call: as planned, and from now on.

        Args:
            reading: the call.
            again: the attempt.
            key_id: as for `begin`.
        """
        now = replace(reading, at_us=self._clock())
        return self._open(now, again.plan, key_id=key_id, is_new=again.attempt.is_new, attempt=again.attempt)

    def _open(
        self, reading: Reading, planned: Plan | Refused, *, key_id: str, is_new: bool, attempt: Attempt
    ) -> Opened:
        call_id = self.new_id()
        if isinstance(planned, Plan) and planned.decision.tier is not None:
            self._keep(reading, planned.decision.tier)
        asked = self._ask(reading, planned, call_id=call_id, key_id=key_id, is_new=is_new)
        exchange = Exchange(
            asked,
            prices=reading.book.prices,
            call_id=call_id,
            read_us=reading.at_us,
            key_id=key_id or None,
            attempt=attempt,
        )
        return _make_opened(
            call_id=call_id,
            body=reading.body,
            exchange=exchange,
            keep_tier=lambda tier: self._keep(reading, tier),
            dialect=reading.dialect,
        )

    def begin_item(self, reading: Reading, *, key_id: str, kept: str | None = None) -> Item:
        """Plan one item of a Message Batch, and work out what it asks of its budgets, at batch rates.

        It takes the tier of its conversation, where that has one, and gives it none: nothing comes after it that would
        find a warm cache.

        Args:
            reading: the item, read as a call.
            key_id: names the caller's credential, without telling it.
            kept: the tier that its conversation has elsewhere; None where nobody knows one.
        """
        reading = replace(reading, call=replace(reading.call, batch=True))
        kept = reading.kept or kept
        call_id, is_new = self.new_id(), kept is None and reading.call.turns <= 1
        planned = plan(reading.call, reading.task, policy=reading.book.policy, kept=kept)
        return Item(
            call_id=call_id,
            at_us=reading.at_us,
            body=reading.body,
            asked=self._ask(reading, planned, call_id=call_id, key_id=key_id, is_new=is_new),
            book=reading.book,
        )

    def _ask(
        self, reading: Reading, planned: Plan | Refused, *, call_id: str, key_id: str, is_new: bool
    ) -> Asked:
        """Say what a planned call asks of its budgets."""
        if not isinstance(planned, Plan) or not is_counted(planned, key_id):
            return planned
        return ask(
            planned,
            reading.dialect.measure(reading.raw, reading.call),
            call_id=call_id,
            key_id=key_id,
            prices=reading.book.prices,
            at_us=reading.at_us,
            is_new=is_new,
            calibration=self.calibration,
        )

    def open(self, raw: bytes, headers: Mapping[str, str], *, key_id: str = "") -> Opened:
        """Read and begin one call, as far as this process knows its conversation.

        Raises:
            MalformedRequest: the body cannot be read as a Messages request.
        """
        return self.begin(self.read(raw, headers), key_id=key_id)

    def _keep(self, reading: Reading, tier: str) -> None:
        if reading.conversation is None:
            return
        ttl_s = reading.book.policy.conversation_ttl_s
        until_us = reading.at_us + ttl_s * 1_000_000
        self._conversations.keep(reading.conversation, tier, until_us=until_us)
        if self.share is not None:
            self.share(reading.conversation, tier, ttl_s)

    def preview(
        self,
        raw: bytes,
        headers: Mapping[str, str],
        *,
        counting: bool = False,
        dialect: Dialect = MESSAGES,
    ) -> Preview:
        """Plan a call without making it: nothing is remembered.

        Args:
            raw: the body.
            headers: request headers by lower-case name, credentials left out.
            counting: whether it is a `count_tokens` request, which has no `max_tokens`.
            dialect: what its caller speaks; of OpenAI's only where the policy serves them.

        Raises:
            MalformedRequest: the body cannot be read as a request of the dialect.
        """
        book = self._book_for(dialect)
        policy = book.policy
        if counting:
            call, body = read_request(raw, headers, counting=True)
        else:
            call, body = _read(raw, headers, dialect, policy)
        task = name_task(call, policy=policy)
        drawn = cascaded(call, task, policy) or self._drawn(task, conversation_key(call, task), raw, book)
        return Preview(body=body, plan=plan(call, task, policy=policy, kept=None, drawn=drawn))

    def _book_for(self, dialect: Dialect) -> Book:
        if dialect is MESSAGES:
            return self.book
        assert self.book.policy.openai is not None
        return replace(self.book, policy=self.book.policy.openai)

    def _drawn(self, task: TaskRef, conversation: str | None, raw: bytes, book: Book) -> Drawn | None:
        """Draw a tier for a call whose type the autopilot sends elsewhere; one that stands alone by its own text."""
        acting = self.acting
        lean = acting.lean(task.type, book.policy)
        if lean is None:
            return None
        cluster = cluster_name(task.run_id, conversation) or blake2b(raw, digest_size=8).hexdigest()
        return draw(lean, cluster=cluster, salt=acting.salt)


def cluster_name(run_id: str | None, conversation: str | None) -> str | None:
    """Name the run, else the conversation, that a call belongs to, without telling it; None for one alone."""
    whole = run_id or conversation
    return None if whole is None else blake2b(whole.encode(), digest_size=8).hexdigest()


def _read(raw: bytes, headers: Mapping[str, str], dialect: Dialect, policy: Policy) -> tuple[Call, Body]:
    """Read a call; a cap that it may get is spelled as the server knows it. Responses have one spelling."""
    call, body = dialect.read(raw, headers)
    if call.max_tokens == UNCAPPED and call.cap_path == ("max_completion_tokens",):
        call = replace(call, cap_path=(policy.upstream.cap_field,))
    return call, body


_make_reading: Final = maker(Reading)
_make_opened: Final = maker(Opened)
