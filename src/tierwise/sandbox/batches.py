"""Message Batches: many requests at once, answered later, at half price, in any order.

A batch is worked on when it is first looked at: until then it can be canceled whole. The header `x-sandbox-batch` of
the request that creates it plays what takes hours at the provider: `hold` answers every second item and leaves the
others until the batch is canceled; `expire` lets those others expire. Each item is checked by itself, and one that the
provider would refuse is errored. Results come in an order of their own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec

from tierwise.sandbox import encode
from tierwise.sandbox.bill import Call, price
from tierwise.sandbox.charges import at_batch_rates
from tierwise.sandbox.encode import Envelope
from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.exchange import reply_to, what_was_sent
from tierwise.sandbox.intake import Headers, check_credentials
from tierwise.sandbox.provider import Provider
from tierwise.sandbox.shapes import Object, is_list, is_object

PATH: Final = "/v1/messages/batches"
MAX_REQUESTS: Final = 100_000
MAX_BODY_BYTES: Final = 256_000_000


@dataclass(slots=True, kw_only=True)
class Batch:
    """One batch, and how far it has come."""

    id: str
    items: Sequence[Object]
    headers: Headers
    """Of the request that created it."""
    created_at: datetime
    played: str
    """What the header asks for: hold, expire, or nothing."""
    status: str = "in_progress"
    canceled_at: datetime | None = None
    ended_at: datetime | None = None
    results: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By custom id."""


class Batches:
    """The batches of one provider."""

    def __init__(self, provider: Provider) -> None:
        """Begin without any."""
        self._provider = provider
        self._batches: dict[str, Batch] = {}

    def reset(self) -> None:
        """Forget all batches."""
        self._batches.clear()

    def answer(
        self, method: str, path: str, headers: Headers, query: Mapping[str, Sequence[str]], body: bytes
    ) -> Any:
        """The JSON value that answers a request, or the bytes of results. Raises ApiError."""
        check_credentials(headers)
        found = _PATH.fullmatch(path)
        if found is None:
            raise ApiError(status=404, message=f"Not found: {method} {path}")
        batch_id, what = found[1], found[2]
        match method, batch_id, what:
            case "POST", None, None:
                return self._described(self._create(headers, body), headers)
            case "GET", None, None:
                return self._page(headers, query)
            case "GET", str(), None:
                return self._described(self._looked_at(batch_id), headers)
            case "DELETE", str(), None:
                return self._delete(batch_id)
            case "POST", str(), "cancel":
                return self._described(self._cancel(batch_id), headers)
            case "GET", str(), "results":
                return self._results(self._looked_at(batch_id))
            case _:
                raise ApiError(status=404, message=f"Not found: {method} {path}")

    def _create(self, headers: Headers, raw: bytes) -> Batch:
        items = _checked(raw)
        batch = Batch(
            id=f"msgbatch_sandbox{len(self._batches) + 1:08d}",
            items=items,
            headers=headers,
            created_at=self._now(),
            played=headers.get(b"x-sandbox-batch", b"").decode("latin-1"),
        )
        self._batches[batch.id] = batch
        return batch

    def _looked_at(self, batch_id: str) -> Batch:
        """The batch, after what has happened to it since it was created."""
        batch = self._found(batch_id)
        if batch.status == "ended" or (
            batch.played == "hold" and batch.status == "in_progress" and batch.results
        ):
            return batch
        if not batch.results:
            self._work(batch, every=1 if not batch.played else 2)
        if batch.played != "hold" or batch.status == "canceling":
            self._finish(batch, left="canceled" if batch.status == "canceling" else "expired")
        return batch

    def _work(self, batch: Batch, *, every: int) -> None:
        if batch.status == "canceling":
            return
        for place, item in enumerate(batch.items):
            if place % every == 0:
                batch.results[item["custom_id"]] = self._result(batch, place, item)

    def _finish(self, batch: Batch, *, left: str) -> None:
        for item in batch.items:
            batch.results.setdefault(item["custom_id"], {"type": left})
        batch.status = "ended"
        batch.ended_at = self._now()

    def _result(self, batch: Batch, place: int, item: Object) -> dict[str, Any]:
        request_id = f"req_{batch.id}_{place}"
        try:
            _check_params(item["params"])
            answered = reply_to(self._provider, batch.headers, msgspec.json.encode(item["params"]))
        except ApiError as error:
            return {"type": "errored", "error": msgspec.json.decode(error.body(request_id))}
        bill = at_batch_rates(answered.bill)
        billed = answered.fault.refusal != "refusal"
        self._provider.ledger.add(
            Call(
                request_id=request_id,
                model=bill.told.model,
                charges=bill.charges,
                nanos=price(bill.charges) if billed else 0,
                billed=billed,
                ending=answered.reply.stop_reason,
                cut_tokens=answered.reply.cut_tokens,
                sent=what_was_sent(answered.turn.sent, batch.headers) | {"custom_id": item["custom_id"]},
            )
        )
        envelope = Envelope(
            message_id=f"msg_{batch.id}_{place}", told=bill.told, no_usage=answered.fault.no_usage
        )
        return {"type": "succeeded", "message": msgspec.Raw(encode.message(answered.reply, envelope))}

    def _cancel(self, batch_id: str) -> Batch:
        batch = self._found(batch_id)
        if batch.status == "ended":
            raise invalid(f"Batch {batch_id} cannot be canceled because it has ended.")
        batch.status = "canceling"
        batch.canceled_at = batch.canceled_at or self._now()
        return batch

    def _delete(self, batch_id: str) -> dict[str, Any]:
        if self._found(batch_id).status != "ended":
            raise invalid(f"Batch {batch_id} cannot be deleted while it is in progress.")
        del self._batches[batch_id]
        return {"id": batch_id, "type": "message_batch_deleted"}

    def _results(self, batch: Batch) -> bytes:
        if batch.status != "ended":
            raise ApiError(status=404, message=f"Batch {batch.id} has no available results.")
        lines = [
            msgspec.json.encode({"custom_id": custom_id, "result": result})
            for custom_id, result in batch.results.items()
        ]
        Random(batch.id).shuffle(lines)  # noqa: S311 - an order, not a secret
        return b"".join(line + b"\n" for line in lines)

    def _page(self, headers: Headers, query: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        newest = sorted(self._batches.values(), key=lambda batch: batch.id, reverse=True)
        limit = int(query.get("limit", ["20"])[0])
        after = query.get("after_id", [""])[0]
        rest = [batch for batch in newest if not after or batch.id < after]
        shown = rest[:limit]
        return {
            "data": [self._described(batch, headers) for batch in shown],
            "has_more": len(rest) > len(shown),
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
        }

    def _described(self, batch: Batch, headers: Headers) -> dict[str, Any]:
        ended = batch.status == "ended"
        host = headers.get(b"host", b"").decode("latin-1")
        counts = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
        if ended:  # the provider counts none before that
            for result in batch.results.values():
                counts[result["type"]] += 1
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": batch.status,
            "request_counts": {"processing": 0 if ended else len(batch.items), **counts},
            "created_at": _time(batch.created_at),
            "expires_at": _time(batch.created_at + timedelta(hours=24)),
            "ended_at": _time(batch.ended_at),
            "cancel_initiated_at": _time(batch.canceled_at),
            "archived_at": None,
            "results_url": f"http://{host}{PATH}/{batch.id}/results" if ended else None,
        }

    def _found(self, batch_id: str) -> Batch:
        batch = self._batches.get(batch_id)
        if batch is None:
            raise ApiError(status=404, message=f"No batch {batch_id}")
        return batch

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._provider.settings.now(), UTC)


_PATH: Final = re.compile(re.escape(PATH) + r"(?:/([^/]+)(?:/(cancel|results))?)?")


def _checked(raw: bytes) -> list[Object]:
    try:
        body: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise invalid("The request body is not valid JSON.") from error
    requests: Any = body.get("requests") if is_object(body) else None
    if not is_list(requests) or not 1 <= len(requests) <= MAX_REQUESTS:
        raise invalid(f"requests: Input should be a list of 1 to {MAX_REQUESTS}")
    ids: set[str] = set()
    items: list[Object] = []
    for place, item in enumerate(requests):
        if not is_object(item) or not is_object(item.get("params")):
            raise invalid(f"requests.{place}: Input should be an object with params")
        custom_id = item.get("custom_id")
        if not isinstance(custom_id, str) or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", custom_id):
            raise invalid(
                f"requests.{place}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
            )
        if custom_id in ids:
            raise invalid(f"requests.{place}.custom_id: {custom_id} is there twice")
        ids.add(custom_id)
        items.append(item)
    return items


def _check_params(params: Object) -> None:
    """Refuse what batches do not take."""
    for name in ("fallbacks", "thread"):
        if params.get(name) is not None:
            raise invalid(f"{name}: not supported in Message Batches")
    if params.get("stream"):
        raise invalid("stream: not supported in Message Batches")
    if params.get("speed") == "fast":
        raise invalid("speed: fast mode is not supported in Message Batches")
    if params.get("max_tokens") == 0:
        raise invalid("max_tokens: 0 is not supported in Message Batches")


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%SZ")
