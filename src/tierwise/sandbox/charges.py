"""What a reply is charged, and how its usage tells it: one charge, or several where several models worked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tierwise.sandbox import directive, validate
from tierwise.sandbox.bill import Charge, Speed, Usage
from tierwise.sandbox.cache import Split
from tierwise.sandbox.errors import invalid
from tierwise.sandbox.models import find
from tierwise.sandbox.replies import Ask, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the reply says of itself: the model that answered and the top-level usage."""

    model: str
    usage: Usage
    speed: str
    geo: str
    iterations: list[dict[str, Any]] | None = None
    """The parts of the usage, where the directive asks for several."""
    service_tier: str = "standard"
    fallback: Mapping[str, Any] | None = None
    """A content block that stands before all others when a fallback model answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a finished reply is charged."""

    charges: tuple[Charge, ...]
    """The last one is that of the model that answered."""
    told: Told

    def for_sent(self, output_tokens: int) -> tuple[Charge, ...]:
        """The charges of a reply of which only so much was sent."""
        *before, own = self.charges
        usage = replace(
            own.usage,
            output_tokens=output_tokens,
            thinking_tokens=min(own.usage.thinking_tokens, output_tokens),
            web_searches=0,
        )
        return (*before, replace(own, usage=usage))


def at_batch_rates(bill: Bill) -> Bill:
    """The bill of the same reply to an item of a Message Batch."""
    return Bill(
        charges=tuple(replace(charge, batch=True) for charge in bill.charges),
        told=replace(bill.told, service_tier="batch"),
    )


def bill_of(ask: Ask, reply: Reply, split: Split) -> Bill:
    """What a reply is charged. Raises ApiError (400) for iterations the directive cannot have."""
    usage = Usage(
        input_tokens=split.fresh,
        cache_write_5m_tokens=split.write_5m,
        cache_write_1h_tokens=split.write_1h,
        cache_read_tokens=split.read,
        output_tokens=reply.output_tokens,
        thinking_tokens=reply.thinking_tokens,
        web_searches=directive.number(ask.directive, "searches") or 0,
    )
    us_only = ask.body.get("inference_geo") == "us"
    speed: Speed = "fast" if validate.runs_fast(ask.body, ask.model) else "standard"
    own = Charge(model=ask.model.id, usage=usage, us_only=us_only, speed=speed)
    kind = ask.directive.get("iterations")
    if kind is None:
        return Bill(charges=(own,), told=_told(own))
    return _of_iterations(ask, own, kind)


def _of_iterations(ask: Ask, own: Charge, kind: str) -> Bill:
    named = ask.directive.get("helper") or _HELPERS.get(kind)
    helper = find(named or "")
    if kind == "compaction":
        return _with_extra(own, kind, replace(own, usage=_EXTRA_USAGE[kind]))
    if kind not in _HELPERS or helper is None:
        raise invalid(f"sandbox: no iterations {kind!r}, or no model {named!r} to help")
    if kind == "advisor_message":
        extra = Charge(model=helper.id, usage=_EXTRA_USAGE[kind], us_only=own.us_only)
        return _with_extra(own, kind, extra)
    return _handed_over(own, asked=str(ask.body["model"]), to=helper.id)


def _with_extra(own: Charge, kind: str, extra: Charge) -> Bill:
    """The top-level usage does not hold the extra part."""
    parts = [_iteration(kind, extra), _iteration("message", own)]
    return Bill(charges=(extra, own), told=replace(_told(own), iterations=parts))


def _handed_over(own: Charge, *, asked: str, to: str) -> Bill:
    """The model that was asked declines after a few words; the top-level usage covers the one that serves."""
    usage = own.usage
    began = replace(usage, output_tokens=_DECLINED_TOKENS, thinking_tokens=0, web_searches=0)
    declined = replace(own, usage=began)
    serving = Charge(
        model=to,
        usage=Usage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            web_searches=usage.web_searches,
        ),
        us_only=own.us_only,
    )
    block = {
        "type": "fallback",
        "from": {"model": asked},
        "to": {"model": to},
        "trigger": {"type": "refusal", "category": None},
    }
    parts = [_iteration("message", declined), _iteration("fallback_message", serving)]
    return Bill(charges=(declined, serving), told=replace(_told(serving), iterations=parts, fallback=block))


def _told(charge: Charge) -> Told:
    return Told(
        model=charge.model,
        usage=charge.usage,
        speed=charge.speed,
        geo="us" if charge.us_only else "global",
    )


def _iteration(kind: str, charge: Charge) -> dict[str, Any]:
    usage = charge.usage
    fields: dict[str, Any] = {
        "type": kind,
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
    }
    return fields if kind == "compaction" else fields | {"model": charge.model}


_EXTRA_USAGE: Final = {
    "compaction": Usage(input_tokens=2_400, output_tokens=320),
    "advisor_message": Usage(input_tokens=1_200, output_tokens=150),
}
_DECLINED_TOKENS: Final = 12
"""What a model that declines and hands over has written by then."""

_HELPERS: Final[Mapping[str, str]] = {
    "advisor_message": "claude-opus-5-5",
    "fallback_message": "claude-sonnet-5",
}
"""The model that helps when the directive names none."""
