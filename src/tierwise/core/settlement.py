"""What the ledger is told of a call: at its decision, and at its end.

Three baselines price the same tokens elsewhere: at the frontier tier's model, at the model that the caller asked
for, and at the decided one. They assume equal lengths, which no two models have; counts are converted where
the models' tokenizers differ. Where the provider may not bill a call, they are as unknown as its cost.
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from tierwise.core.attempts import ONLY, Attempt
from tierwise.core.catalog import converted, find
from tierwise.core.changes import REMOVED, Change
from tierwise.core.ledger import NO_TIMINGS, Decided, Failed, Fault, Posted, Timings
from tierwise.core.planning import Plan, Refused
from tierwise.core.pricing import PriceBook
from tierwise.core.tasks import LONGEST_ID, virtual_type
from tierwise.money import Nanos
from tierwise.usage import Metered, Usage, UsageLine
from tierwise.values import maker, value


@value
class Ending:
    """How a call ended, as the wire tells it."""

    at_us: int
    status: int | None = None
    """HTTP status of the provider's reply; None where there was none."""
    served_model: str | None = None
    stop_reason: str | None = None
    metered: Metered | None = None
    """What the provider had counted; of a broken stream, what it had counted by then. None: it had not said."""
    finished: bool = True
    """Whether the reply came to its end, so that `metered` is final."""
    unbilled: bool | None = False
    """True where the provider does not bill (an error in place of a reply); None where its documents leave it
    open (a refusal before the first word)."""
    error: str | None = None
    """The error's type, where the reply is one or broke."""
    passed: bool | None = None
    """Whether the whole reply passes the check of its cascade; None where that was not asked, or cannot be told."""
    fault: Fault | None = None
    request_id: str | None = None


def decided_entry(
    plan: Plan | Refused,
    *,
    call_id: str,
    key_id: str | None,
    at_us: int,
    attempt: Attempt = ONLY,
    purpose: str | None = None,
) -> Decided:
    """Make the entry that is written before a call leaves."""
    call, task = plan.call, plan.task
    decision = plan.decision if isinstance(plan, Plan) else None
    return _make_decided(
        call_id=call_id,
        at_us=at_us,
        task_type=task.type,
        declared=task.declared,
        unknown_type=task.unknown_type,
        nearest_type=task.nearest_type,
        task_id=task.task_id,
        run_id=task.run_id,
        agent=task.agent,
        key_id=key_id,
        requested_model=call.requested_model[:LONGEST_ID],
        tier=decision.tier if decision else None,
        decided_model=decision.model[:LONGEST_ID] if decision else None,
        acts=decision.acts if decision else True,
        stream=call.stream,
        max_tokens_asked=call.max_tokens,
        max_tokens_sent=plan.max_tokens_sent if isinstance(plan, Plan) else None,
        policy_version=plan.policy.version,
        selection_probability=decision.selection_probability if decision else 1.0,
        reasons=(plan.refusal.sentence,)
        if isinstance(plan, Refused)
        else tuple([reason.sentence for reason in plan.decision.reasons]),
        changes=tuple(map(describe, plan.changes)) if isinstance(plan, Plan) else (),
        purpose=purpose,
        attempt=attempt.number,
        first_call_id=attempt.first_call_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models whose prices a reply is held against."""

    frontier: str
    """The frontier tier's."""
    requested: str
    """As the caller wrote it, virtual names included."""
    decided: str
    acts: bool
    """Whether the decided model is the one that the call was sent with."""


def ending_entry(
    ending: Ending, *, plan: Plan, prices: PriceBook, call_id: str, timings: Timings
) -> Posted | Failed:
    """Make the entry that is written before a reply's final chunk is released."""
    models = _make_models(
        frontier=plan.policy.frontier.model,
        requested=plan.call.requested_model,
        decided=plan.decision.model,
        acts=plan.decision.acts,
    )
    return _ending(
        ending, models=models, prices=prices, priced_us=ending.at_us, call_id=call_id, timings=timings
    )


def item_entry(
    ending: Ending, *, models: Models, prices: PriceBook, priced_us: int, call_id: str, batch_id: str
) -> Posted | Failed:
    """Make the entry of an item of a Message Batch, once its result is here.

    Args:
        ending: how it ended, by its result.
        models: to hold its cost against.
        prices: what tokens cost.
        priced_us: the instant whose prices hold, in microseconds since 1970 UTC: results do not tell when an item ran,
            and it is priced as it was reserved, at the making of its batch.
        call_id: names the call.
        batch_id: the provider's id of the batch.
    """
    entry = _ending(
        ending, models=models, prices=prices, priced_us=priced_us, call_id=call_id, timings=NO_TIMINGS
    )
    return replace(entry, batch_id=batch_id)


def describe(change: Change) -> str:
    """Write a change as the ledger has it: `max_tokens: 32000 -> 512 (decision.cap)`."""
    path = ".".join(change.path)
    if change.after is REMOVED:
        return f"{path}: removed ({change.rule})"
    before = "" if change.before is None else f"{_written(change.before):.{LONGEST_ID}} "
    return f"{path}: {before}-> {_written(change.after)} ({change.rule})"


def _written(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def refused_entry(*, call_id: str, at_us: int, error: str, prices: PriceBook) -> Failed:
    """Make the entry of a call that the gateway itself answered with an error: nothing left, nothing is billed."""
    return Failed(
        call_id=call_id,
        at_us=at_us,
        fault=Fault.GATEWAY,
        error=error,
        status=None,
        served_model=None,
        usage=None,
        cost_nanos=0,
        at_least_nanos=None,
        price_version=prices.version,
        timings=NO_TIMINGS,
        request_id=None,
    )


def at_equal_tokens(metered: Metered, *, model: str, prices: PriceBook, at_us: int) -> Nanos | None:
    """Price the same tokens at another model; None where it has no price.

    Counts are converted where the models' tokenizers differ. Fast mode is left out: it is the served model's.
    """
    lines = [_moved(line, model) for line in metered.lines]
    return prices.cost(_make_metered(lines=tuple(lines), billed_apart=metered.billed_apart), at_us)


def _ending(
    ending: Ending, *, models: Models, prices: PriceBook, priced_us: int, call_id: str, timings: Timings
) -> Posted | Failed:
    if ending.error is None and ending.finished and ending.metered is not None:
        return _posted(
            ending,
            ending.metered,
            models=models,
            prices=prices,
            priced_us=priced_us,
            call_id=call_id,
            timings=timings,
        )
    return _failed(ending, prices=prices, priced_us=priced_us, call_id=call_id, timings=timings)


def _posted(
    ending: Ending,
    metered: Metered,
    *,
    models: Models,
    prices: PriceBook,
    priced_us: int,
    call_id: str,
    timings: Timings,
) -> Posted:
    cost = None if ending.unbilled is None else prices.cost(metered, priced_us)
    sent = models.decided if models.acts else models.requested

    known = {sent: cost}

    def at(model: str) -> Nanos | None:
        if ending.unbilled is None:
            return None
        if model not in known:
            known[model] = at_equal_tokens(metered, model=model, prices=prices, at_us=priced_us)
        return known[model]

    return _make_posted(
        call_id=call_id,
        at_us=ending.at_us,
        served_model=ending.served_model or metered.lines[0].model,
        stop_reason=ending.stop_reason,
        usage=metered.total,
        thinking_tokens=metered.thinking_tokens,
        cost_nanos=cost,
        price_version=prices.version,
        at_frontier_nanos=at(models.frontier),
        as_asked_nanos=at(_asked_model(models) or sent),
        as_decided_nanos=at(models.decided),
        timings=timings,
        request_id=ending.request_id,
    )


def _failed(ending: Ending, *, prices: PriceBook, priced_us: int, call_id: str, timings: Timings) -> Failed:
    metered = ending.metered
    counted = None if metered is None else prices.cost(replace(metered, billed_apart=False), priced_us)
    return Failed(
        call_id=call_id,
        at_us=ending.at_us,
        fault=ending.fault or Fault.PROVIDER,
        error=ending.error or "no-usage",
        status=ending.status,
        served_model=ending.served_model,
        usage=None if metered is None else metered.total,
        cost_nanos=0 if ending.unbilled else None,
        at_least_nanos=None if ending.unbilled else counted,
        price_version=prices.version,
        timings=timings,
        request_id=ending.request_id,
    )


def _asked_model(models: Models) -> str | None:
    """The model that the caller asked for; None where it named a task type in its place."""
    return None if virtual_type(models.requested) is not None else models.requested


def _moved(line: UsageLine, model: str) -> UsageLine:
    return _make_usage_line(
        model=model, usage=_converted(line.usage, line.model, model), us_only=line.us_only, batch=line.batch
    )


def _converted(usage: Usage, source: str, target: str) -> Usage:
    here, there = find(source), find(target)
    if here is None or there is None or here.tokenizer == there.tokenizer:
        return usage
    return _make_usage(
        input_tokens=converted(usage.input_tokens, source=here, target=there),
        cache_write_5m_tokens=converted(usage.cache_write_5m_tokens, source=here, target=there),
        cache_write_1h_tokens=converted(usage.cache_write_1h_tokens, source=here, target=there),
        cache_read_tokens=converted(usage.cache_read_tokens, source=here, target=there),
        output_tokens=converted(usage.output_tokens, source=here, target=there),
        web_search_requests=usage.web_search_requests,
    )


_make_decided: Final = maker(Decided)
_make_models: Final = maker(Models)
_make_posted: Final = maker(Posted)
_make_usage_line: Final = maker(UsageLine)
_make_usage: Final = maker(Usage)
_make_metered: Final = maker(Metered)
