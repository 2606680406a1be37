"""Whose a batch is: a client sees and touches those alone that were made with its key, as the ledger has it."""

import asyncio
import re
from collections.abc import Collection
from contextlib import closing
from typing import Final
from urllib.parse import parse_qsl, urlencode

from tierwise.engine.doors import BATCHES
from tierwise.engine.endings import readable, why_no_reply
from tierwise.engine.headers import returned_headers
from tierwise.errors import LedgerError, UpstreamError
from tierwise.gateway.asgi import Scope, Send, answer
from tierwise.gateway.door import Stopped, Visitor, stopped_on_the_way
from tierwise.gateway.errors import answer_error, turn_away
from tierwise.gateway.messages import Parts, headers_for
from tierwise.gateway.passthrough import relay
from tierwise.stores.ledger.batches import made_with
from tierwise.upstream.port import Outgoing, Reply
from tierwise.wire.batch_lists import BatchPage, page_of, read_page
from tierwise.wire.batches import at_this_address

_OF_ONE: Final = re.compile(re.escape(BATCHES) + "/([^/]+)(?:/.*)?")


async def stopped_by_owner(scope: Scope, parts: Parts, visitor: Visitor) -> Stopped | None:
    """Say why a visitor may not use a path of batches, other than to create one; None where it may."""
    client = visitor.client
    if client is None or lists(scope):
        return None
    asked = _OF_ONE.fullmatch(scope["path"])
    if asked is None:
        return stopped_on_the_way(client, scope["method"], scope["path"])
    own = await _own([asked[1]], parts, visitor)
    if own:
        return own if isinstance(own, Stopped) else None
    return Stopped(
        "not-allowed",
        f"The client {client.name} has no batch {asked[1]}: it may use those alone that it made.",
    )


def lists(scope: Scope) -> bool:
    """Whether a request asks for the list of batches."""
    return scope["path"] == BATCHES and scope["method"] == "GET"


async def list_own(scope: Scope, send: Send, parts: Parts, visitor: Visitor) -> None:
    """Answer with the next page that has batches of a client's, and no others; the SDKs stop at an empty one."""
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    try:
        while True:
            reply = await parts.upstream.send(_asking(query, scope, parts, visitor))
            if reply.status != 200:
                return await relay(reply, send)
            page = await _page(reply)
            if page is None:
                return await answer_error(send, "internal", _UNREADABLE)
            own = await _own(page.batches, parts, visitor)
            if isinstance(own, Stopped):
                return await turn_away(send, own)
            if own or not _goes_on(page, query):
                break
    except UpstreamError as error:
        return await answer_error(send, why_no_reply(error), str(error))
    headers = [each for each in returned_headers(reply.headers) if each[0] != b"content-length"]
    return await answer(send, 200, headers, at_this_address(page_of(page, own)))


_UNREADABLE: Final = (
    "The provider's list of batches cannot be read, so nobody knows which of them are the caller's."
)


def _asking(query: dict[str, str], scope: Scope, parts: Parts, visitor: Visitor) -> Outgoing:
    target = f"{BATCHES}?{urlencode(query)}" if query else BATCHES
    return Outgoing(method="GET", target=target, headers=headers_for(scope, parts, visitor), body=b"")


async def _page(reply: Reply) -> BatchPage | None:
    with closing(reply):
        return read_page(await reply.read()) if readable(reply.headers) else None


def _goes_on(page: BatchPage, query: dict[str, str]) -> bool:
    """Turn the query to the page after this one, in its own direction; False where there is none."""
    if not page.has_more or not page.batches:
        return False
    first, *_, last = (*page.batches, *page.batches)
    query |= {"before_id": first} if "before_id" in query else {"after_id": last}
    return True


async def _own(batch_ids: Collection[str], parts: Parts, visitor: Visitor) -> set[str] | Stopped:
    """Those of some batches that were made with a visitor's key."""

    def look_up() -> set[str]:
        with closing(parts.read()) as ledger:
            return made_with(ledger, batch_ids, visitor.key_id)

    try:
        return await asyncio.to_thread(look_up)
    except LedgerError as error:
        return Stopped("ledger", f"Whose batch it is cannot be looked up now: {error}")
