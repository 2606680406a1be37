"""`tierwise explain`: what a request would be sent as and why, or what a recorded call was and cost.

Both are shown under the names of the ledger's columns, and a request's through the very functions that a call goes
through, so that what is explained is what is recorded.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tierwise.audit.acting import Acting
from tierwise.cli.console import ExitCode, err, new_table, out, print_json, say
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    JsonOption,
    LedgerOption,
    PolicyOption,
)
from tierwise.config import Book, load_book
from tierwise.core.planning import Plan, Refused
from tierwise.core.policy import Policy
from tierwise.core.settlement import decided_entry
from tierwise.core.tasks import TASK_TYPE_HEADER
from tierwise.engine.autopilot import acting_of
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.desk import Desk
from tierwise.engine.headers import readable_headers
from tierwise.money import format_usd
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.opening import read_ledger, shown
from tierwise.stores.ledger.rows import DECIDED
from tierwise.wire import dialects
from tierwise.wire.dialects import MESSAGES, Dialect


class Api(StrEnum):
    """What a body may be of."""

    MESSAGES = "messages"
    CHAT = "chat"
    RESPONSES = "responses"


_DIALECTS: Final = {
    Api.MESSAGES: dialects.MESSAGES,
    Api.CHAT: dialects.CHAT,
    Api.RESPONSES: dialects.RESPONSES,
}


def explain(
    request: Annotated[
        str | None, typer.Argument(metavar="REQUEST.json", help="A body; - reads it from stdin.")
    ] = None,
    task_type: Annotated[
        str | None, typer.Option("--type", help=f"Declare this type, as the header {TASK_TYPE_HEADER} does.")
    ] = None,
    api: Annotated[
        Api, typer.Option("--api", help="What the body is of: the last two are of OpenAI's clients.")
    ] = Api.MESSAGES,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="NAME:VALUE", help="A request header; repeatable."),
    ] = None,
    call: Annotated[
        str | None,
        typer.Option("--call", metavar="ID", help="A recorded call: the reply's x-tierwise-call-id."),
    ] = None,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Explain what a request would be sent as, or what a call was.

    Of a request: its task and how it was declared, the tier, the model, the cap asked for and sent, every change of
    the body and every reason; nothing is sent and nothing recorded. It is taken for the first of its conversation:
    a later one keeps the tier of the first. Of a recorded call: the same as it was recorded, how it ended, what it
    consumed and what that cost.

    Example: tierwise explain request.json --type extraction

    Example: tierwise explain chat.json --api chat

    Example: tierwise explain --call c0006545d2cc1cc7a1b2c3d4e500000000
    """
    if (request is None) == (call is None):
        raise typer.BadParameter("give either a request or --call, and not both")
    if request is not None:
        book = load_book(policy)
        if api is not Api.MESSAGES and book.policy.openai is None:
            raise typer.BadParameter(f"{policy} has no [openai], and serves no calls of OpenAI's clients")
        _explain_request(
            request, _headers(header or (), task_type), book, ledger, dialect=_DIALECTS[api], as_json=as_json
        )
    elif call is not None:
        _explain_call(call, ledger, as_json=as_json)


def _explain_request(
    request: str,
    headers: Iterable[tuple[str, str]],
    book: Book,
    ledger: str,
    *,
    dialect: Dialect,
    as_json: bool,
) -> None:
    raw = sys.stdin.buffer.read() if request == "-" else Path(request).read_bytes()
    explained = explain_request(raw, headers, book, _acting(book.policy, ledger), dialect=dialect)
    if as_json:
        print_json(explained)
    else:
        _print_decision(explained)
        _print_reasons(explained)
    if explained["error"] is not None:
        raise typer.Exit(ExitCode.WRONG)


def explain_request(
    raw: bytes,
    headers: Iterable[tuple[str, str]],
    book: Book,
    acting: Acting | None = None,
    *,
    dialect: Dialect = MESSAGES,
) -> dict[str, Any]:
    """Return what the gateway would record of a request, and what it would change in it.

    Args:
        raw: the body.
        headers: names and values; credentials among them are not looked at.
        book: the policy to decide by.
        acting: where the autopilot sends task types; None: nowhere.
        dialect: what the body is written in; of OpenAI's only where the policy serves them.

    Raises:
        MalformedRequest: the body cannot be read as a request of the dialect.
    """
    desk = Desk(book, conversations=Conversations(), clock=now_us, new_id=call_ids())
    desk.acting = acting or desk.acting
    wire = [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in headers
    ]
    return _decision(desk.preview(raw, readable_headers(wire), dialect=dialect).plan)


def _acting(policy: Policy, ledger: str) -> Acting | None:
    """Where the autopilot sends task types; a ledger is looked at only where it may send any."""
    if not any(policy.autopilot_of(contract) for contract in policy.contracts.values()):
        return None
    with closing(read_ledger(ledger)) as reader:
        return acting_of(reader, policy)


_OF_A_CALL: Final = ("call_id", "kind", "at_us", "key_id")
"""Columns that a request has no values for until it is made."""


def _decision(plan: Plan | Refused) -> dict[str, Any]:
    entry = decided_entry(plan, call_id="", at_us=0, key_id=None)
    recorded = {name: getattr(entry, name) for name in DECIDED if name not in _OF_A_CALL}
    match plan:
        case Plan(decision=decision, changes=changes):
            more = {"effort": decision.effort, "thinking": decision.thinking}
            whys = [change.why for change in changes]
            refusal = {"error": None, "sentence": None}
        case Refused(refusal=refused):
            more = {"effort": None, "thinking": None}
            whys = []
            refusal = {"error": refused.code, "sentence": refused.sentence}
    return {**recorded, "nearest_type": plan.task.nearest_type, **more, "changes_why": whys, **refusal}


def _headers(given: Iterable[str], task_type: str | None) -> Iterator[tuple[str, str]]:
    for header in given:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise typer.BadParameter(f"{header!r} has not the form NAME:VALUE", param_hint="--header")
        yield name.strip(), value.strip()
    if task_type is not None:
        yield TASK_TYPE_HEADER, task_type


def _explain_call(call_id: str, ledger: str, *, as_json: bool) -> None:
    recorded = recorded_call(call_id, ledger)
    if recorded is None:
        say(f"tierwise: the ledger {shown(ledger)} has no call {call_id!r}", err)
        raise typer.Exit(ExitCode.WRONG)
    if as_json:
        print_json(recorded)
        return
    _print_decision(recorded)
    _print_reasons(recorded)
    _print_ending(recorded)


def recorded_call(call_id: str, ledger: str | Path) -> dict[str, Any] | None:
    """Return a call as the ledger's view `calls` has it; None where it has none of this id.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    with closing(read_ledger(ledger)) as reader:
        row = next(reader.rows("SELECT * FROM calls WHERE call_id = ?", (call_id,)), None)
    if row is None:
        return None
    recorded = dict(row)
    recorded |= {name: bool(recorded[name]) for name in ("acts", "stream")}
    recorded |= {name: json.loads(recorded[name]) for name in ("reasons", "changes")}
    return recorded


_DECLARED: Final[Mapping[str, str]] = {
    "model": "declared by the model's name",
    "header": "declared by the header",
    "match": "recognised by a match rule",
    "undeclared": "undeclared",
}


def _print_decision(call: Mapping[str, Any]) -> None:
    _line("call", call.get("call_id"))
    _line("task type", _task(call))
    for name in ("run_id", "task_id", "agent"):
        _line(name.replace("_", " "), call[name])
    _line("key id", call.get("key_id"))
    if call["decided_model"] is not None:
        _line("tier", call["tier"] or "none: no contract applies")
        _line("model", _from_to(call["requested_model"], call["decided_model"]))
        _line("max_tokens", _from_to(call["max_tokens_asked"], call["max_tokens_sent"]))
        _line("effort", _setting(call, "effort"))
        _line("thinking", _setting(call, "thinking"))
        _line("acts", "yes" if call["acts"] else "no: the call goes as it was asked")
    _line("policy", call["policy_version"])


def _task(call: Mapping[str, Any]) -> str:
    how = _DECLARED[call["declared"]]
    if call["unknown_type"] is None:
        return how if call["task_type"] is None else f"{call['task_type']}, {how}"
    return (
        f"{call['task_type'] or 'none'}, for {call['unknown_type']!r}, which the policy does not know, {how}"
    )


def _from_to(asked: object, sent: object) -> str:
    return str(asked) if asked == sent else f"{asked} -> {sent}"


def _setting(call: Mapping[str, Any], name: str) -> str | None:
    """The tier's effort or thinking, in words; None where it is not known: the ledger does not hold it."""
    if name not in call:
        return None
    return {None: "the model's own default", "keep": "as the caller sends it"}.get(call[name], call[name])


def _print_reasons(call: Mapping[str, Any]) -> None:
    if call.get("sentence"):
        say(f"\nRefused ({call['error']}): {call['sentence']}")
    _list("Why", call["reasons"])
    whys = call.get("changes_why") or [None] * len(call["changes"])
    _list(
        "Changes of the body",
        (
            f"{change}\n    {why}" if why else change
            for change, why in zip(call["changes"], whys, strict=True)
        ),
    )


def _print_ending(call: Mapping[str, Any]) -> None:
    say("\nEnding")
    _line("  ended", _ending(call))
    _line("  served by", call["served_model"])
    _line("  took", _milliseconds(call))
    _line("  request", call["request_id"])
    if call["ending"] is None and call["cost_nanos"] is None:
        return
    _line("  cost", _cost(call))
    _line("  at frontier", _amount(call["at_frontier_nanos"]))
    _line("  as asked", _amount(call["as_asked_nanos"]))
    _line("  as decided", _amount(call["as_decided_nanos"]))
    _line("  prices", call["price_version"])
    if call["input_tokens"] is not None:
        _print_usage(call)


def _print_usage(call: Mapping[str, Any]) -> None:
    table = new_table("used", "count", numbers=("count",))
    for name in _USAGE:
        if call[name]:
            table.add_row(name.replace("_", " "), f"{call[name]:,}")
    say("")
    out.print(table)


_USAGE: Final = (
    "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens", "output_tokens",
    "thinking_tokens", "web_search_requests",
)  # fmt: skip


def _ending(call: Mapping[str, Any]) -> str:
    match call["ending"]:
        case "posted":
            return f"finished, stop reason {call['stop_reason']}"
        case "failed":
            status = "" if call["status"] is None else f", HTTP {call['status']}"
            return f"failed: {call['error']} (the {call['fault']}'s{status})"
        case _:
            return "not yet: in flight, or lost with its gateway"


def _milliseconds(call: Mapping[str, Any]) -> str | None:
    parts = (
        ("the gateway", "until_sent_us"),
        ("first byte", "until_first_byte_us"),
        ("the rest", "until_end_us"),
    )
    told = [f"{what} {call[name] / 1000:,.1f} ms" for what, name in parts if call[name] is not None]
    return ", ".join(told) or None


def _cost(call: Mapping[str, Any]) -> str:
    if call["cost_nanos"] is None and call["at_least_nanos"] is not None:
        return f"unknown, at least {_amount(call['at_least_nanos'])}"
    told = "" if call["basis"] is None else f", {call['basis']}: {call['note']}"
    return f"{format_usd(call['cost_nanos'], places=9)}{told}"


def _amount(nanos: int | None) -> str | None:
    return None if nanos is None else format_usd(nanos, places=9)


def _line(name: str, value: object) -> None:
    if value is not None:
        say(f"{name:<14} {value}")


def _list(heading: str, items: Iterable[str]) -> None:
    lines = [f"  - {item}" for item in items]
    if lines:
        say("\n".join(("", heading, *lines)))
