"""`POST /tierwise/outcomes`: an orchestrator tells how its tasks and runs came out, late and in parts."""

from typing import Final

import msgspec

from tierwise.engine.clock import call_ids
from tierwise.errors import MalformedOutcome
from tierwise.gateway.asgi import Receive, Scope, Send, answer
from tierwise.gateway.door import Stopped
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.intake import BodyRefused, CallerLeftEarly, read_body
from tierwise.gateway.messages import Parts
from tierwise.wire.outcomes import outcome_entry, read_outcomes


async def outcomes(scope: Scope, receive: Receive, send: Send, parts: Parts) -> None:
    """Read, record, and answer once they are durable: all of them or none."""
    visitor = parts.door.hear(scope["headers"], parts.desk.book.policy.clients)
    if isinstance(visitor, Stopped):
        return await turn_away(send, visitor)
    if parts.ledger.trouble is not None:
        return await answer_error(send, "ledger", f"Outcomes cannot be recorded now: {parts.ledger.trouble}")
    try:
        told = read_outcomes(await read_body(scope, receive, parts.intake))
    except BodyRefused as refused:
        return await turn_away(send, refused)
    except CallerLeftEarly:
        return None
    except MalformedOutcome as error:
        return await answer_error(send, "malformed", str(error))
    client = visitor.client
    entries = [
        outcome_entry(
            one,
            teller=visitor.key_id,
            only_own=client is not None and client.is_restricted,
            at_us=parts.clock(),
            new_id=_new_id,
        )
        for one in told
    ]
    for entry in entries[:-1]:
        parts.ledger.put(entry)  # they are durable when the last one is: entries are written in order
    if entries and not await parts.ledger.record(entries[-1]):
        return await answer_error(send, "ledger", "Outcomes cannot be recorded now: send them again.")
    body = msgspec.json.encode({"outcomes": [entry.outcome_id for entry in entries]})
    return await answer(send, 200, ((b"content-type", b"application/json"),), body)


_new_id: Final = call_ids()
