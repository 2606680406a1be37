"""Clients that name their budgets: each call is charged to those of its client, whichever door it comes through."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest

from support.gateways import RunningGateway, running_gateway
from support.policies import TWO_TIERS, with_openai
from support.processes import breaches
from support.waiting import eventually
from tierwise.sandbox.server import Running, running
from tierwise.stores.ledger.opening import read_ledger
from tierwise.stores.ledger.reservations import balances

KEYS: Final = {name: f"twk_of-{name}" for name in ("ada", "ben", "eve")}
BUDGETS: Final = """
[[budgets]]
name = "team-a"
scope = "all"
limit_usd = "1.00"

[[budgets]]
name = "team-b"
scope = "key"
limit_usd = "0.000001"

[[budgets]]
name = "teams"
scope = "all"
limit_usd = "5.00"
kind = "warn"

[[budgets]]
name = "everybody"
scope = "all"
limit_usd = "5.00"
pending_share = 100
"""


def clients(**budgets: list[str]) -> str:
    """Clients, each with the budgets that it names."""
    return "".join(
        f'[[clients]]\nname = "{name}"\nkey_sha256 = "{sha256(key.encode()).hexdigest()}"\n'
        + (f"budgets = {budgets[name]}\n" if name in budgets else "")
        for name, key in KEYS.items()
    )


POLICY: Final = TWO_TIERS + BUDGETS + clients(ada=["team-a", "teams"], ben=["teams", "team-b"])


@pytest.fixture
def sandbox() -> Iterator[Running]:
    with running(seed=3) as sandbox:
        yield sandbox


@pytest.fixture
def gateway(tmp_path: Path, sandbox: Running) -> Generator[RunningGateway]:
    policy = with_openai(POLICY, f"{sandbox.base_url}/v1")
    with running_gateway(
        tmp_path, sandbox.base_url, policy=policy, key="sk-provider", openai_key="sk-openais"
    ) as gateway:
        yield gateway


Way = Callable[[str, str], Any]

BODY: Final[dict[str, Any]] = {
    "model": "task/extraction",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": "Which firm signed?"}],
}


def by_message(base_url: str, key: str) -> None:
    with anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0) as client:
        client.messages.create(**BODY)


def by_batch(base_url: str, key: str) -> None:
    with anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0) as client:
        made = client.messages.batches.create(requests=[{"custom_id": "a", "params": BODY}])  # pyright: ignore[reportArgumentType] — a plain dictionary, as users write it
        client.messages.batches.retrieve(made.id)
        list(client.messages.batches.results(made.id))


def by_chat(base_url: str, key: str) -> None:
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key=key, max_retries=0) as client:
        client.chat.completions.create(model="task/extraction", messages=BODY["messages"])


WAYS: Final = [by_message, by_batch, by_chat]


def spent(ledger: Path) -> dict[str, int]:
    """What each budget's accounts have posted, by name."""
    with closing(read_ledger(ledger)) as reader:
        return {key.partition("|")[0]: balance.posted_nanos for key, balance in balances(reader).items()}


@pytest.mark.parametrize("way", WAYS)
def test_a_call_is_charged_to_the_budgets_that_its_client_names_and_to_those_that_nobody_names(
    gateway: RunningGateway, way: Way
) -> None:
    way(gateway.base_url, KEYS["ada"])

    (recorded,) = gateway.settled()
    cost = recorded["cost_nanos"]
    assert cost > 0
    charged = {"team-a": cost, "teams": cost, "everybody": cost}
    assert {name: nanos for name, nanos in spent(gateway.ledger_path).items() if name in NAMES} == charged
    assert breaches(gateway.ledger_path) == 0


NAMES: Final = ("team-a", "team-b", "teams", "everybody")


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_names_none_is_charged_to_those_that_nobody_names(
    gateway: RunningGateway, way: Way
) -> None:
    way(gateway.base_url, KEYS["eve"])

    (recorded,) = gateway.settled()
    assert spent(gateway.ledger_path) == {"everybody": recorded["cost_nanos"]}


@pytest.mark.parametrize("way", WAYS)
def test_a_short_budget_refuses_the_clients_that_name_it_and_says_which_it_is(
    gateway: RunningGateway, sandbox: Running, way: Way
) -> None:
    with pytest.raises((anthropic.APIStatusError, openai.APIStatusError)) as refused:
        way(gateway.base_url, KEYS["ben"])
    way(gateway.base_url, KEYS["ada"])

    told = refused.value.response.headers
    assert refused.value.status_code == 429
    assert "The budget team-b of key ben is short" in refused.value.message
    assert (told["x-tierwise-budget"], told["x-tierwise-budget-scope"]) == ("team-b", "key")
    assert [(call["key_id"], call["error"]) for call in gateway.settled()] == [
        ("ben", "budget"),
        ("ada", None),
    ]
    assert len(sandbox.calls()) <= 1


def test_a_client_that_is_given_other_budgets_is_charged_to_them_from_its_next_call_on(
    gateway: RunningGateway,
) -> None:
    by_message(gateway.base_url, KEYS["ada"])
    before = spent(gateway.ledger_path)
    text = gateway.policy_path.read_text()
    gateway.policy_path.write_text(text.replace("['team-a', 'teams']", "['team-b']"))

    def is_refused() -> bool:
        try:
            by_message(gateway.base_url, KEYS["ada"])
        except anthropic.APIStatusError as error:
            return error.status_code == 429 and "team-b of key ada" in error.message
        return False

    assert eventually(is_refused, until=bool)
    assert before["team-a"] > 0
    assert breaches(gateway.ledger_path) == 0
