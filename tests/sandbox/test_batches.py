"""Message Batches of the sandbox, driven by the provider's own SDK."""

import anthropic
import pytest
from anthropic.types.messages.batch_create_params import Request

from tierwise.sandbox.server import Running

HAIKU = "claude-haiku-5-5"


def client_of(sandbox: Running) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=sandbox.base_url, api_key="any", max_retries=0)


def items(number: int, *, max_tokens: int = 500) -> list[Request]:
    return [
        Request(
            custom_id=f"item-{place}",
            params={
                "model": HAIKU,
                "max_tokens": max_tokens,
                "messages": [{"role": "user", "content": f"Item {place}"}],
            },
        )
        for place in range(number)
    ]


def test_a_batch_is_answered_item_by_item_in_an_order_of_its_own(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = client.messages.batches.create(requests=items(20))
        looked_at = client.messages.batches.retrieve(made.id)
        results = list(client.messages.batches.results(made.id))

    assert (made.processing_status, looked_at.processing_status) == ("in_progress", "ended")
    assert looked_at.request_counts.succeeded == 20
    order = [result.custom_id for result in results]
    assert sorted(order) == sorted(f"item-{place}" for place in range(20))
    assert order != [f"item-{place}" for place in range(20)]


def test_an_item_costs_half_of_what_a_call_costs(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = client.messages.batches.create(requests=items(1))
        client.messages.batches.retrieve(made.id)
        (result,) = client.messages.batches.results(made.id)

    assert result.result.type == "succeeded"
    usage = result.result.message.usage
    assert usage.service_tier == "batch"
    assert sandbox.billing()["total_nanos"] * 2 == usage.input_tokens * 100 + usage.output_tokens * 500


def test_an_item_that_the_provider_refuses_is_errored_and_costs_nothing(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = client.messages.batches.create(requests=items(1, max_tokens=0))
        client.messages.batches.retrieve(made.id)
        (result,) = client.messages.batches.results(made.id)

    assert result.result.type == "errored"
    assert sandbox.billing()["total_nanos"] == 0


@pytest.mark.parametrize(("played", "left"), [("hold", "canceled"), ("expire", "expired")])
def test_items_that_are_not_reached_end_canceled_or_expired(sandbox: Running, played: str, left: str) -> None:
    with client_of(sandbox) as client:
        made = client.messages.batches.create(requests=items(4), extra_headers={"x-sandbox-batch": played})
        client.messages.batches.retrieve(made.id)
        if played == "hold":
            client.messages.batches.cancel(made.id)
            client.messages.batches.retrieve(made.id)
        ends = [result.result.type for result in client.messages.batches.results(made.id)]

    assert sorted(ends) == sorted(["succeeded", "succeeded", left, left])


def test_results_are_there_once_the_batch_has_ended(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = client.messages.batches.create(requests=items(2), extra_headers={"x-sandbox-batch": "hold"})
        with pytest.raises(anthropic.AnthropicError):
            list(client.messages.batches.results(made.id))


def test_batches_are_listed_newest_first_and_deleted_once_they_have_ended(sandbox: Running) -> None:
    with client_of(sandbox) as client:
        made = [client.messages.batches.create(requests=items(1)).id for _ in range(3)]
        listed = [batch.id for batch in client.messages.batches.list(limit=2)]
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.delete(made[0])
        client.messages.batches.retrieve(made[0])
        client.messages.batches.delete(made[0])
        left = [batch.id for batch in client.messages.batches.list(limit=2)]

    assert (listed, left) == (made[::-1], made[:0:-1])


@pytest.mark.parametrize(
    "requests",
    [[], [*items(1), *items(1)], [{**items(1)[0], "custom_id": "a space"}]],
    ids=["none", "twice", "id"],
)
def test_a_batch_that_is_not_one_is_refused(sandbox: Running, requests: list[Request]) -> None:
    with client_of(sandbox) as client, pytest.raises(anthropic.BadRequestError):
        client.messages.batches.create(requests=requests)
