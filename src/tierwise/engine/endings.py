"""Endings: what the wire tells of a reply's end, in the machine's words. Both drivers speak them."""

from typing import Final, Literal

from tierwise.core.effects import NoReply, ReplyBegan
from tierwise.core.ledger import Fault
from tierwise.core.settlement import Ending
from tierwise.errors import UpstreamDropped, UpstreamError, UpstreamTimeout
from tierwise.upstream.port import Headers
from tierwise.values import maker
from tierwise.wire.openai_streams import StreamReader
from tierwise.wire.replies import ReplyFacts
from tierwise.wire.waits import asked_wait_us

EVENT_STREAM: Final = b"text/event-stream"


def header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of a header; names are lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def streams(headers: Headers) -> bool:
    """Whether a reply is a stream of events."""
    kind = header(headers, b"content-type")
    return kind is not None and kind.lower().startswith(EVENT_STREAM)


def readable(headers: Headers) -> bool:
    """Whether a reply's bytes are plain: the gateway asks for no encoding, and cannot read one."""
    return header(headers, b"content-encoding") in (None, b"identity")


def request_id(headers: Headers) -> str | None:
    """The provider's own id of the call."""
    value = header(headers, b"request-id") or header(headers, b"x-request-id")
    return None if value is None else value.decode("latin-1")[:200]


def began(*, status: int, headers: Headers, at_us: int) -> ReplyBegan:
    """A reply's status is here; of an error, also what it says of another try."""
    if status < 400:
        return ReplyBegan(at_us=at_us)
    wait_us = asked_wait_us(
        milliseconds=header(headers, b"retry-after-ms"),
        seconds_or_date=header(headers, b"retry-after"),
        at_us=at_us,
    )
    should_retry = _SHOULD_RETRY.get(header(headers, b"x-should-retry") or b"")
    return ReplyBegan(at_us=at_us, status=status, should_retry=should_retry, wait_us=wait_us)


_SHOULD_RETRY: Final = {b"true": True, b"false": False}


def not_again(headers: Headers) -> Headers:
    """The headers of an error whose caller is told not to try again."""
    return [*(each for each in headers if each[0] != b"x-should-retry"), (b"x-should-retry", b"false")]


def without_length(headers: Headers) -> Headers:
    """The headers of a stream out of which its usage is taken: what is left of it is shorter."""
    return [each for each in headers if each[0] != b"content-length"]


def known(facts: StreamReader | ReplyFacts) -> ReplyFacts:
    """What is known of a reply by now, of whichever form it is."""
    return facts if isinstance(facts, ReplyFacts) else facts.facts()


def ended(facts: ReplyFacts, *, status: int, headers: Headers, at_us: int) -> Ending:
    """A reply that came to its end: a finished one, or an error, which is not billed before it streams."""
    return _make_ending(
        at_us=at_us,
        status=status,
        served_model=facts.served_model,
        stop_reason=facts.stop_reason,
        metered=facts.metered,
        finished=facts.finished,
        unbilled=_unbilled(facts, status),
        error=facts.error if facts.error or facts.finished else "stream-broke",
        fault=Fault.PROVIDER,
        request_id=request_id(headers),
    )


def cut(facts: ReplyFacts, *, error: str, fault: Fault, status: int, headers: Headers, at_us: int) -> Ending:
    """A reply that was cut: by the provider, the network, the caller or the gateway's own end.

    Where its usage had already become final, only the end of the bytes is missing: it is a finished one.
    """
    return _make_ending(
        at_us=at_us,
        status=status,
        served_model=facts.served_model,
        stop_reason=facts.stop_reason,
        metered=facts.metered,
        finished=facts.finished,
        unbilled=_unbilled(facts, status),
        error=None if facts.finished and facts.metered is not None else facts.error or error,
        fault=fault,
        request_id=request_id(headers),
    )


def given_up(*, at_us: int, error: str, fault: Fault) -> Ending:
    """A call that was given up before the provider answered: what it costs is unknown."""
    return Ending(at_us=at_us, finished=False, error=error, fault=fault)


def not_sent(*, at_us: int, error: str, fault: Fault) -> Ending:
    """A call that was given up before it left: it costs nothing."""
    return Ending(at_us=at_us, finished=False, unbilled=True, error=error, fault=fault)


def why_no_reply(error: UpstreamError) -> Literal["unreachable", "dropped", "timeout"]:
    """Name what kept a reply from coming: only a call that could not be sent is surely not billed."""
    match error:
        case UpstreamTimeout():
            return "timeout"
        case UpstreamDropped():
            return "dropped"
        case _:
            return "unreachable"


def no_reply(error: UpstreamError, *, at_us: int) -> NoReply:
    """The provider gave no reply."""
    return NoReply(at_us=at_us, error=why_no_reply(error), sentence=str(error))


def _unbilled(facts: ReplyFacts, status: int) -> bool | None:
    """An error is not billed; whether a refusal before the first word is, the provider leaves open."""
    return True if status >= 400 else None if facts.empty_refusal else False


_make_ending: Final = maker(Ending)
