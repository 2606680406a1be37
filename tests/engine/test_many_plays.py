"""Many calls together on one small budget: however they end, no money is lost and none is spent twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from support.plays import COUNTING, calls, play_together
from support.policies import book
from support.transcripts import EVENTS, STREAM, Transcript, error, message
from tierwise.config import Book
from tierwise.core.policy import Budget, WhenShort
from tierwise.errors import UpstreamDropped, UpstreamUnreachable
from tierwise.money import usd
from tierwise.stores.budgets.memory import MemoryBudgets
from tierwise.stores.ledger.reservations import past
from tierwise.stores.ledger.sqlite import read_ledger
from tierwise.upstream.port import Outgoing

ACCOUNT: Final = "all|lifetime"
REPLIES: Final = (
    Transcript(chunks=(message(),)),
    Transcript(headers=EVENTS, chunks=STREAM),
    Transcript(headers=EVENTS, chunks=STREAM[:3], breaks=UpstreamDropped(why="reset")),
    Transcript(no_reply=UpstreamUnreachable(why="no route")),
    Transcript(no_reply=UpstreamDropped(why="reset")),
    error("overloaded_error", 529),
)
COUNTS: Final = (error("rate_limit_error", 429), Transcript(chunks=(b'{"input_tokens":20}',)))
WORDS: st.SearchStrategy[tuple[WhenShort, ...]] = st.sampled_from(
    [("queue", "refuse"), ("shrink", "queue", "refuse"), ("queue", "shrink", "downgrade"), ("refuse",)]
)


def a_book(words: tuple[WhenShort, ...], limit: int) -> Book:
    plain = book()
    budget = Budget(name="all", scope="all", limit=limit, when_short=words)
    return replace(plain, policy=replace(plain.policy, budgets=(budget,), queue_for_s=1))


class Provider:
    """Plays replies in the order that was drawn, and remembers how many calls it was sent."""

    def __init__(self, replies: list[Transcript], count: Transcript) -> None:
        self._replies: Iterator[Transcript] = iter(replies)
        self._count = count
        self.sent = 0

    def __call__(self, request: Outgoing) -> Transcript:
        if request.target == COUNTING:
            return self._count
        self.sent += 1
        return next(self._replies)


@settings(max_examples=25, deadline=None)
@given(
    words=WORDS,
    limit=st.integers(usd("0.0001"), usd("0.0015")),
    count=st.sampled_from(COUNTS),
    scenes=st.lists(
        st.tuples(st.sampled_from(REPLIES), st.sampled_from((None, None, 1))), min_size=1, max_size=12
    ),
)
def test_calls_that_compete_for_a_budget_each_end_once_and_never_pass_it(
    words: tuple[WhenShort, ...], limit: int, count: Transcript, scenes: list[tuple[Transcript, int | None]]
) -> None:
    budgets, provider = MemoryBudgets(), Provider([reply for reply, _ in scenes], count)
    with TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite3"

        play_together(
            provider,
            path,
            policy=a_book(words, limit),
            budgets=budgets,
            leave_after=[leaves for _, leaves in scenes],
        )

        rows = calls(path)
        ledger = read_ledger(path)
        told = list(past(ledger))
        ledger.close()

    balance = budgets.balance(ACCOUNT)
    assert balance.holds
    assert balance.used_nanos <= limit + balance.overrun_nanos  # what it bills above its own count
    assert len(rows) == len(scenes)
    assert all(row["ending"] for row in rows)
    assert provider.sent == len(told)  # no call left without a reservation in the ledger
    kept = [each.amount_nanos for each in told if each.cost_nanos is None]
    assert (len(kept), sum(kept)) == (budgets.open_reservations, balance.pending_nanos)
    assert sum(each.amount_nanos for each in told) == balance.reserved_nanos
    assert sum(each.cost_nanos or 0 for each in told) == balance.posted_nanos
