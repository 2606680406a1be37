"""Calls whose budget is short, through both drivers: counted, moved to a cheaper tier, queued, or refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from support.plays import BODY, COUNTING, READ_US, Driver, Played, play
from support.policies import book
from support.transcripts import Script, Transcript, error, message
from tierwise.config import Book
from tierwise.core.budgets import AccountRef, Balance, Claim, Lost, Outcome, Reserved
from tierwise.core.policy import Budget
from tierwise.engine import relay
from tierwise.errors import UpstreamDropped, UpstreamUnreachable
from tierwise.money import Nanos, usd
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.sqlite import read_ledger
from tierwise.upstream.port import Outgoing

ACCOUNT: Final = "all|lifetime"
COST: Final = 1000 * 100 + 200 * 500
"""1,000 tokens in and 200 out on claude-haiku-5-5."""
LONG_BODY: Final = {**BODY, "messages": [{"role": "user", "content": "Which firm signed? " * 500}]}
"""About 9,600 bytes: by them, $0.0013 with its cap of 512 tokens; by a count of 2,000 tokens, $0.0005."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture(params=["coroutine", "thread"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.fixture
def budgets() -> MemoryBudgets:
    return MemoryBudgets()


def a_budget(limit: str = "0.001", **terms: Any) -> Budget:
    return replace(Budget(name="all", scope="all", limit=usd(limit)), **terms)


def a_book(*limits: Budget, contract: dict[str, Any] | None = None, **terms: Any) -> Book:
    """Two tiers, and extraction under these budgets."""
    plain = book()
    contracts = dict(plain.policy.contracts)
    contracts["extraction"] = replace(contracts["extraction"], **contract or {})
    return replace(plain, policy=replace(plain.policy, budgets=limits, contracts=contracts, **terms))


def provider(count: Transcript, reply: Transcript | None = None) -> Script:
    """A provider that counts so, and replies so."""
    return lambda request: count if request.target == COUNTING else reply or Transcript(chunks=(message(),))


def counts(tokens: int) -> Transcript:
    return Transcript(chunks=(b'{"input_tokens":%d}' % tokens,))


def answered(played: Played) -> str | None:
    return played.taken.answered.code if played.taken.answered is not None else None


def sent(played: Played) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in played.requests if request.target != COUNTING]


def is_whole(played: Played) -> bool:
    return played.taken.finished and played.taken.answered is None


def in_ledger(path: Path) -> list[tuple[Nanos, Nanos | None]]:
    ledger = read_ledger(path)
    try:
        return [(each.amount_nanos, each.cost_nanos) for each in past(ledger)]
    finally:
        ledger.close()


# Counting.


def test_a_body_whose_bytes_do_not_fit_is_sent_whole_where_its_count_does(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    played = play(
        driver, provider(counts(2_000)), path, body=LONG_BODY, policy=a_book(a_budget()), budgets=budgets
    )

    assert [request.target for request in played.requests] == [COUNTING, "/v1/messages"]
    assert is_whole(played)
    (body,) = sent(played)
    assert body["max_tokens"] == 512
    assert in_ledger(path) == [(2_240 * 100 + 512 * 500, COST)]
    assert played.notes[:3] == ["sent", "decision handed in", "reservation handed in"]


def test_what_is_counted_is_the_body_as_it_would_be_sent(driver: Driver, path: Path) -> None:
    played = play(driver, provider(counts(2_000)), path, body=LONG_BODY, policy=a_book(a_budget()))

    counted = json.loads(played.requests[0].body)
    assert counted["model"] == "claude-haiku-5-5"
    assert counted["messages"] == LONG_BODY["messages"]
    assert "max_tokens" not in counted


@pytest.mark.parametrize(
    "count",
    [
        error("rate_limit_error", 429),
        Transcript(no_reply=UpstreamUnreachable(why="no route")),
        Transcript(chunks=(b'{"input',), breaks=UpstreamDropped(why="reset")),
        counts(90_000),
    ],
    ids=["refused", "unreachable", "broken", "no help"],
)
def test_a_call_that_could_not_be_counted_is_asked_for_by_its_bytes(
    driver: Driver, path: Path, budgets: MemoryBudgets, count: Transcript
) -> None:
    limit = a_budget(when_short=("refuse",))

    played = play(driver, provider(count), path, body=LONG_BODY, policy=a_book(limit), budgets=budgets)

    assert answered(played) == "budget"
    assert sent(played) == []
    assert all(played.closed)
    assert budgets.balance(ACCOUNT) == Balance()


def test_a_call_is_shrunk_to_what_its_count_leaves(driver: Driver, path: Path) -> None:
    played = play(driver, provider(counts(5_000)), path, body=LONG_BODY, policy=a_book(a_budget("0.00072")))

    (body,) = sent(played)
    # 5,300 tokens at $0.10 a million, and 380 at $0.50.
    assert body["max_tokens"] == 380
    assert played.call["max_tokens_sent"] == 380


@pytest.mark.parametrize(
    "policy",
    [a_book(a_budget("0.00001")), a_book(a_budget(), count_near_limit=False)],
    ids=["hopeless", "not allowed"],
)
def test_a_prompt_is_not_counted_where_that_cannot_help_or_is_not_wanted(
    driver: Driver, path: Path, policy: Book
) -> None:
    played = play(driver, provider(counts(1)), path, body=LONG_BODY, policy=policy)

    assert COUNTING not in [request.target for request in played.requests]


def test_a_count_that_does_not_come_in_time_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, budgets: MemoryBudgets
) -> None:
    monkeypatch.setattr(relay, "COUNTING_S", 0.01)
    hangs = Transcript(hangs="after the chunks")
    limit = a_budget(when_short=("refuse",))

    # The play ends what hangs by leaving: a count that is given up in time comes before that.
    played = play(
        "coroutine",
        provider(hangs),
        path,
        body=LONG_BODY,
        policy=a_book(limit),
        budgets=budgets,
        hangs_on=True,
    )

    assert answered(played) == "budget"
    assert played.closed == [True]


@pytest.mark.parametrize("hangs", ["before the reply", "after the chunks"])
@pytest.mark.parametrize(("stops", "error_type"), [(False, "caller-left"), (True, "gateway-stopped")])
def test_a_call_that_ends_while_its_prompt_is_counted_has_spent_nothing(
    path: Path, budgets: MemoryBudgets, hangs: Any, stops: bool, error_type: str
) -> None:
    played = play(
        "coroutine",
        provider(Transcript(hangs=hangs)),
        path,
        body=LONG_BODY,
        policy=a_book(a_budget()),
        budgets=budgets,
        stops=stops,
    )

    assert (played.call["error"], played.call["cost_nanos"]) == (error_type, 0)
    assert (played.cancelled, sent(played)) == (stops, [])
    assert all(played.closed)
    assert budgets.open_reservations == 0


def test_a_gateway_that_fails_while_it_counts_ends_the_call_for_nothing(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    def fails(_request: Outgoing) -> Transcript:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play(driver, fails, path, body=LONG_BODY, policy=a_book(a_budget()), budgets=budgets)

    assert budgets.balance(ACCOUNT) == Balance()


# Downgrading.

DOWNGRADES: Final = a_book(
    a_budget("0.005", when_short=("downgrade", "refuse")),
    contract={"tier": "frontier", "downgrade_to": "fast"},
)


def test_a_new_conversation_is_moved_to_the_cheaper_tier_and_stays_there(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(chunks=(message(),)), path, policy=DOWNGRADES)

    (body,) = sent(played)
    assert body["model"] == "claude-haiku-5-5"
    assert played.call["tier"] == "fast"
    assert played.tier_kept == "fast"


def test_a_later_call_of_a_conversation_is_not_moved(driver: Driver, path: Path) -> None:
    turns = [
        *BODY["messages"],
        {"role": "assistant", "content": "Acme."},
        {"role": "user", "content": "When?"},
    ]

    played = play(
        driver, Transcript(chunks=(message(),)), path, body={**BODY, "messages": turns}, policy=DOWNGRADES
    )

    assert answered(played) == "budget"
    assert played.tier_kept == "frontier"


# Queueing.

QUEUES: Final = a_book(a_budget("0.0005", when_short=("queue", "refuse")), count_near_limit=False)


def taken_by_another(budgets: MemoryBudgets) -> None:
    """Another call holds the whole budget."""
    (limit,) = QUEUES.policy.budgets
    account = AccountRef(key=ACCOUNT, budget=limit, value="", ends_us=None)
    claim = Claim(call_id="other", accounts=(account,), amount_nanos=usd("0.0005"), least_nanos=usd("0.0005"))
    assert isinstance(budgets.reserve(claim), Reserved)


def after(waits: int, act: Callable[[], None]) -> Callable[[], None]:
    """Act at the last of some waits."""
    left = [act, *[lambda: None] * (waits - 1)]
    return lambda: left.pop()() if left else None


def test_a_call_waits_for_money_and_goes_when_it_comes_back(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    taken_by_another(budgets)

    played = play(
        driver,
        Transcript(chunks=(message(),)),
        path,
        policy=QUEUES,
        budgets=budgets,
        during_wait=after(3, lambda: budgets.settle("other", 0)),
    )

    assert is_whole(played)
    assert played.notes[:4] == ["waits", "waits", "waits", "decision handed in"]
    balance = budgets.balance(ACCOUNT)
    assert (balance.posted_nanos, balance.pending_nanos) == (COST, 0)


def test_a_call_waits_no_longer_than_its_policy_says(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    taken_by_another(budgets)

    played = play(driver, Transcript(), path, policy=QUEUES, budgets=budgets)

    assert answered(played) == "budget"
    assert played.requests == []
    assert played.taken.answered is not None
    waited_us = played.taken.answered.at_us - READ_US
    assert 10_000_000 <= waited_us < 10_250_000
    assert budgets.open_reservations == 1


def test_a_caller_that_leaves_while_its_call_waits_has_spent_nothing(
    path: Path, budgets: MemoryBudgets
) -> None:
    taken_by_another(budgets)

    played = play("coroutine", Transcript(), path, policy=QUEUES, budgets=budgets, leaves_waiting=True)

    assert (played.call["error"], played.call["cost_nanos"]) == ("caller-left", 0)
    assert (played.cancelled, played.requests) == (False, [])
    assert played.notes.count("decision handed in") == 1


def test_a_gateway_that_fails_while_a_call_waits_ends_it_for_nothing(
    driver: Driver, path: Path, budgets: MemoryBudgets
) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    taken_by_another(budgets)

    with pytest.raises(ZeroDivisionError):
        play(driver, Transcript(), path, policy=QUEUES, budgets=budgets, during_wait=fails)

    assert budgets.open_reservations == 1


# Other limits.


def test_a_limit_of_calls_lets_as_many_through_and_one_that_cost_nothing_is_none(
    driver: Driver, tmp_path: Path, budgets: MemoryBudgets
) -> None:
    policy = a_book(a_budget(limit="1", counts="calls"))
    limit = replace(policy.policy.budgets[0], limit=2)
    policy = replace(policy, policy=replace(policy.policy, budgets=(limit,)))
    whole, failed = Transcript(chunks=(message(),)), error("overloaded_error", 529)

    codes = [
        answered(play(driver, script, tmp_path / f"{number}", policy=policy, budgets=budgets))
        for number, script in enumerate((whole, failed, whole, whole))
    ]

    assert codes == [None, None, None, "budget"]
    assert budgets.balance("#" + ACCOUNT).posted_nanos == 2


def test_one_key_may_have_no_more_pending_than_its_share(
    driver: Driver, tmp_path: Path, budgets: MemoryBudgets
) -> None:
    policy = a_book(a_budget("0.01", pending_share=5), count_near_limit=False)
    dropped, whole = Transcript(no_reply=UpstreamDropped(why="reset")), Transcript(chunks=(message(),))

    play(driver, dropped, tmp_path / "1", policy=policy, budgets=budgets)
    played = play(driver, whole, tmp_path / "2", policy=policy, budgets=budgets, call_id="c2")

    assert answered(played) == "budget"
    assert played.taken.answered is not None
    assert played.taken.answered.sentence.startswith("One key may have $0.00050 of the budget all set aside")


def test_what_one_key_has_spent_does_not_count_as_pending(
    driver: Driver, tmp_path: Path, budgets: MemoryBudgets
) -> None:
    policy = a_book(a_budget("0.01", pending_share=5), count_near_limit=False)

    for number in range(4):
        whole = Transcript(chunks=(message(),))
        assert is_whole(play(driver, whole, tmp_path / f"{number}", policy=policy, budgets=budgets))

    assert budgets.balance(ACCOUNT).posted_nanos == 4 * COST


def test_a_budget_of_a_contract_is_spent_by_its_calls_alone(
    driver: Driver, tmp_path: Path, budgets: MemoryBudgets
) -> None:
    own = a_budget("0.0001", name="own")
    policy = a_book(contract={"budgets": (own,)})
    other = {**BODY, "model": "task/synthesis"}

    assert answered(play(driver, Transcript(), tmp_path / "1", policy=policy, budgets=budgets)) == "budget"
    whole = Transcript(chunks=(message(),))
    assert is_whole(play(driver, whole, tmp_path / "2", body=other, policy=policy, budgets=budgets))
    assert dict(budgets.balances()) == {}


def test_a_raised_limit_lets_calls_through(driver: Driver, path: Path, budgets: MemoryBudgets) -> None:
    budgets.top_up("t1", ACCOUNT, usd("1"))

    played = play(
        driver, Transcript(chunks=(message(),)), path, policy=a_book(a_budget("0.0001")), budgets=budgets
    )

    assert is_whole(played)


def test_a_budget_that_comes_near_its_limit_is_warned_of_once(
    driver: Driver, tmp_path: Path, budgets: MemoryBudgets
) -> None:
    policy, whole = a_book(a_budget("0.00044", warn_at=(80,))), Transcript(chunks=(message(),))

    first, second = (
        play(driver, whole, tmp_path / f"{number}", policy=policy, budgets=budgets) for number in range(2)
    )

    assert [(crossing.account.key, crossing.percent) for crossing in first.crossings] == [(ACCOUNT, 80)]
    assert second.crossings == []


class Unreachable(MemoryBudgets):
    """Balances that nobody can reach."""

    def reserve(self, claim: Claim) -> Outcome:
        return Lost(why="no route to the balances")


def test_while_the_balances_cannot_be_reached_nothing_is_sent(driver: Driver, path: Path) -> None:
    played = play(driver, Transcript(), path, policy=a_book(a_budget("1")), budgets=Unreachable())

    assert answered(played) == "budget-store"
    assert played.requests == []
    assert (played.call["error"], played.call["cost_nanos"]) == ("budget-store", 0)
    assert in_ledger(path) == []


def test_a_policy_may_let_calls_go_without_balances_and_the_ledger_has_their_reservations(
    driver: Driver, path: Path
) -> None:
    policy = a_book(a_budget("1"), when_lost="allow")

    played = play(driver, Transcript(chunks=(message(),)), path, policy=policy, budgets=Unreachable())

    assert is_whole(played)
    ((reserved, cost),) = in_ledger(path)
    assert reserved > COST == cost
