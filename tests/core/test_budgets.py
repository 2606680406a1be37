from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.calls import a_policy
from tierwise.core.budgets import (
    RESERVATIONS,
    AccountRef,
    Balance,
    Denied,
    ReservationState,
    ReservationStep,
    accounts_of,
    amount_on,
    cost_on,
    span,
    step_of,
)
from tierwise.core.policy import Budget, Client, Contract, Scope, Window
from tierwise.core.tasks import Declared, TaskRef

QUARTER_US = 900_000_000
SCOPES: tuple[Scope, ...] = ("all", "key", "run", "agent", "type", "task")
NAMES = st.one_of(st.none(), st.text(alphabet="a|%7C25", max_size=6))


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def a_span(window: Window, text: str, time_zone: str = "UTC") -> tuple[str, int | None]:
    return span(window, us(text) // QUARTER_US, time_zone)


def a_task(**names: str | None) -> TaskRef:
    return TaskRef(declared=Declared.HEADER, type=names.pop("type", "extraction"), **names)


def an_account(task: TaskRef, scope: Scope, *, key_id: str = "k1", window: Window = "lifetime") -> AccountRef:
    budget = Budget(name="b", scope=scope, limit=1, window=window)
    (account,) = accounts_of(
        task, key_id=key_id, policy=a_policy(budgets=(budget,)), at_us=us("2026-03-04T05:06:07Z")
    )
    return account


def test_a_cost_settles_nothing_voids_and_an_unknown_one_is_lost_sight_of() -> None:
    assert step_of(1) is ReservationStep.SETTLE
    assert step_of(0) is ReservationStep.VOID
    assert step_of(None) is ReservationStep.LOSE_SIGHT


def test_every_step_leads_on_from_a_pending_reservation() -> None:
    assert {step for state, step in RESERVATIONS if state is ReservationState.PENDING} == set(ReservationStep)


def test_every_state_but_the_first_is_reached_by_some_step() -> None:
    assert set(RESERVATIONS.values()) == set(ReservationState) - {ReservationState.PENDING}


@pytest.mark.parametrize("step", ReservationStep)
@pytest.mark.parametrize("state", [ReservationState.POSTED, ReservationState.VOIDED])
def test_nothing_leads_on_from_a_reservation_that_is_booked(
    state: ReservationState, step: ReservationStep
) -> None:
    assert (state, step) not in RESERVATIONS


def test_a_kept_reservation_is_settled_late() -> None:
    assert RESERVATIONS[ReservationState.KEPT, ReservationStep.SETTLE] is ReservationState.POSTED


def test_what_counts_against_a_limit_is_posted_and_pending() -> None:
    assert Balance(reserved_nanos=9, posted_nanos=2, pending_nanos=3, released_nanos=4).used_nanos == 5


@pytest.mark.parametrize(
    ("balance", "holds"),
    [
        (Balance(), True),
        (Balance(reserved_nanos=9, posted_nanos=2, pending_nanos=3, released_nanos=4), True),
        (Balance(reserved_nanos=9, posted_nanos=12, overrun_nanos=3), True),
        (Balance(reserved_nanos=9, posted_nanos=2, pending_nanos=3, released_nanos=5), False),
        (Balance(reserved_nanos=9, posted_nanos=12), False),
    ],
)
def test_a_balance_holds_where_all_that_was_reserved_or_overrun_is_accounted_for(
    balance: Balance, holds: bool
) -> None:
    assert balance.holds is holds


def test_a_lifetime_never_ends() -> None:
    assert a_span("lifetime", "2026-03-04T05:06:00Z") == ("lifetime", None)


@pytest.mark.parametrize(
    ("window", "time_zone", "at", "label", "ends"),
    [
        ("hour", "UTC", "2026-03-04T05:45:00Z", "2026-03-04T05:00Z", "2026-03-04T06:00:00Z"),
        ("hour", "UTC", "2026-12-31T23:45:00Z", "2026-12-31T23:00Z", "2027-01-01T00:00:00Z"),
        ("hour", "Asia/Kolkata", "2026-03-04T05:45:00Z", "2026-03-04T05:30Z", "2026-03-04T06:30:00Z"),
        ("hour", "Asia/Kathmandu", "2026-03-04T05:00:00Z", "2026-03-04T04:15Z", "2026-03-04T05:15:00Z"),
        ("day", "UTC", "2026-03-04T23:45:00Z", "2026-03-04", "2026-03-05T00:00:00Z"),
        ("day", "UTC", "2026-12-31T12:00:00Z", "2026-12-31", "2027-01-01T00:00:00Z"),
        ("day", "UTC", "2028-02-28T12:00:00Z", "2028-02-28", "2028-02-29T00:00:00Z"),
        ("day", "Pacific/Auckland", "2026-12-31T11:00:00Z", "2027-01-01", "2027-01-01T11:00:00Z"),
        ("day", "America/Los_Angeles", "2027-01-01T07:45:00Z", "2026-12-31", "2027-01-01T08:00:00Z"),
        ("month", "UTC", "2026-01-31T23:45:00Z", "2026-01", "2026-02-01T00:00:00Z"),
        ("month", "UTC", "2028-02-29T12:00:00Z", "2028-02", "2028-03-01T00:00:00Z"),
        ("month", "UTC", "2026-12-01T00:00:00Z", "2026-12", "2027-01-01T00:00:00Z"),
        ("month", "Asia/Tokyo", "2026-12-31T15:00:00Z", "2027-01", "2027-01-31T15:00:00Z"),
    ],
)
def test_a_window_is_the_calendars_of_its_time_zone(
    window: Window, time_zone: str, at: str, label: str, ends: str
) -> None:
    assert a_span(window, at, time_zone) == (label, us(ends))


@pytest.mark.parametrize(
    ("time_zone", "at", "label", "ends"),
    [
        ("Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-29", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25", "2026-10-25T23:00:00Z"),
        ("America/Havana", "2026-10-31T16:00:00Z", "2026-10-31", "2026-11-01T04:00:00Z"),
        ("America/Havana", "2026-03-07T17:00:00Z", "2026-03-07", "2026-03-08T05:00:00Z"),
        ("Pacific/Apia", "2011-12-29T22:00:00Z", "2011-12-29", "2011-12-30T10:00:00Z"),
    ],
    ids=["an hour short", "an hour long", "midnight twice", "no midnight", "the next day left out"],
)
def test_a_day_ends_at_the_next_days_first_moment_where_the_clock_is_changed(
    time_zone: str, at: str, label: str, ends: str
) -> None:
    assert a_span("day", at, time_zone) == (label, us(ends))


def test_a_month_in_which_the_clock_is_changed_ends_by_the_new_time() -> None:
    assert a_span("month", "2026-03-01T12:00:00Z", "Europe/Berlin") == ("2026-03", us("2026-03-31T22:00:00Z"))
    assert a_span("month", "2026-10-01T12:00:00Z", "Europe/Berlin") == ("2026-10", us("2026-10-31T23:00:00Z"))


def test_the_hour_that_is_repeated_in_autumn_has_its_own_account() -> None:
    first = a_span("hour", "2026-10-25T00:45:00Z", "Europe/Berlin")
    second = a_span("hour", "2026-10-25T01:45:00Z", "Europe/Berlin")

    assert first == ("2026-10-25T00:00Z", us("2026-10-25T01:00:00Z"))
    assert second == ("2026-10-25T01:00Z", us("2026-10-25T02:00:00Z"))


@given(
    window=st.sampled_from(["hour", "day", "month"]),
    quarter=st.integers(us("1990-01-01T00:00:00Z") // QUARTER_US, us("2037-12-31T00:00:00Z") // QUARTER_US),
    time_zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/Havana", "America/Santiago", "Asia/Beirut", "Asia/Kathmandu"]
    ),
)
def test_a_window_lasts_from_each_of_its_moments_to_its_end_and_the_next_begins_there(
    window: Window, quarter: int, time_zone: str
) -> None:
    label, ends_us = span(window, quarter, time_zone)

    assert ends_us is not None
    assert ends_us % QUARTER_US == 0
    last = ends_us // QUARTER_US - 1
    assert last >= quarter
    assert span(window, last, time_zone) == (label, ends_us)
    assert span(window, last + 1, time_zone)[0] != label


@given(at_us=st.integers(us("2026-01-01T00:00:00Z"), us("2026-12-31T00:00:00Z")))
def test_a_call_is_in_the_day_on_its_zones_calendar(at_us: int) -> None:
    label, _ = span("day", at_us // QUARTER_US, "Asia/Kolkata")

    local = datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(ZoneInfo("Asia/Kolkata"))
    assert label == local.date().isoformat()


@pytest.mark.parametrize(
    ("scope", "key", "value"),
    [
        ("all", "b|lifetime", ""),
        ("key", "b|k1|lifetime", "k1"),
        ("run", "b|k1|r1|lifetime", "r1"),
        ("agent", "b|k1|reader|lifetime", "reader"),
        ("type", "b|extraction|lifetime", "extraction"),
        ("task", "b|k1|r1|t1|lifetime", "t1"),
    ],
)
def test_each_scope_has_its_own_account(scope: Scope, key: str, value: str) -> None:
    account = an_account(a_task(run_id="r1", agent="reader", task_id="t1"), scope)

    assert (account.key, account.value) == (key, value)


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ("run", "b|k1||lifetime"),
        ("agent", "b|k1||lifetime"),
        ("type", "b||lifetime"),
        ("task", "b|k1|||lifetime"),
    ],
)
def test_calls_without_a_name_share_one_account(scope: Scope, key: str) -> None:
    account = an_account(a_task(type=None), scope)

    assert (account.key, account.value) == (key, "")


def test_an_account_is_of_the_window_in_which_the_call_was_read() -> None:
    account = an_account(a_task(), "all", window="day")

    assert account.key == "b|2026-03-04"
    assert account.ends_us == us("2026-03-05T00:00:00Z")


def test_windows_follow_the_policys_time_zone() -> None:
    policy = a_policy(budgets=(Budget(name="b", scope="all", limit=1, window="day"),), time_zone="Asia/Tokyo")

    (account,) = accounts_of(a_task(), key_id="k1", policy=policy, at_us=us("2026-03-04T15:00:00Z"))

    assert account.key == "b|2026-03-05"


def test_a_call_has_an_account_for_each_budget_in_the_policys_order() -> None:
    budgets = tuple(Budget(name=f"b-{scope}", scope=scope, limit=1) for scope in reversed(SCOPES))

    accounts = accounts_of(a_task(), key_id="k1", policy=a_policy(budgets=budgets), at_us=0)

    assert tuple(account.budget for account in accounts) == budgets


def accounts(*budgets: Budget, task: TaskRef | None = None, own: tuple[Budget, ...] = ()) -> list[AccountRef]:
    contract = Contract(name="extraction", tier="fast", budgets=own)
    policy = a_policy(contract, budgets=budgets)
    return [*accounts_of(task or a_task(), key_id="k|1", policy=policy, at_us=0)]


def test_the_budgets_of_a_contract_come_after_the_policys_and_are_for_its_calls_alone() -> None:
    shared, own = Budget(name="b", scope="all", limit=1), Budget(name="own", scope="run", limit=1)

    assert [account.budget for account in accounts(shared, own=(own,))] == [shared, own]
    assert [account.budget for account in accounts(shared, own=(own,), task=a_task(type=None))] == [shared]
    assert [account.budget for account in accounts(shared, own=(own,), task=a_task(type="other"))] == [shared]


A, B, C = (Budget(name=name, scope="all", limit=1) for name in "abc")


@pytest.mark.parametrize(
    ("named", "charged"),
    [
        ({}, {"ada": "abc", "ben": "abc", "nobody": "abc"}),
        ({"ada": "a"}, {"ada": "abc", "ben": "bc", "nobody": "bc"}),
        ({"ada": "a", "ben": "b"}, {"ada": "ac", "ben": "bc", "nobody": "c"}),
        ({"ada": "ca", "ben": "a"}, {"ada": "abc", "ben": "ab", "nobody": "b"}),
        ({"ada": "abc"}, {"ada": "abc", "ben": "", "nobody": ""}),
    ],
)
def test_a_budget_that_clients_name_counts_their_calls_alone_and_any_other_counts_all(
    named: dict[str, str], charged: dict[str, str]
) -> None:
    policy = a_policy(budgets=(A, B, C), clients=some_clients(named))

    found = {
        key_id: "".join(
            each.budget.name for each in accounts_of(a_task(), key_id=key_id, policy=policy, at_us=0)
        )
        for key_id in charged
    }

    assert found == charged


def some_clients(named: dict[str, str]) -> tuple[Client, ...]:
    return tuple(
        Client(name=name, key_sha256=name.encode(), budgets=tuple(named.get(name, "")))
        for name in ("ada", "ben")
    )


def test_a_policy_says_whose_calls_alone_a_budget_counts() -> None:
    policy = a_policy(budgets=(A, B, C), clients=some_clients({"ada": "ab", "ben": "b"}))

    assert [policy.clients_of(each) for each in (A, B, C)] == [("ada",), ("ada", "ben"), ()]


def test_the_budgets_of_a_contract_count_its_calls_whoever_makes_them() -> None:
    contract = Contract(name="extraction", tier="fast", budgets=(C,))
    policy = a_policy(contract, budgets=(A,), clients=some_clients({"ada": "a"}))

    charged = [accounts_of(a_task(), key_id=key_id, policy=policy, at_us=0) for key_id in ("ada", "ben")]

    assert [[each.budget for each in accounts] for accounts in charged] == [[A, C], [C]]


def test_a_budget_of_one_type_counts_no_other_calls() -> None:
    only = Budget(name="b", scope="all", limit=1, only="extraction")

    assert [account.key for account in accounts(only)] == ["b|lifetime"]
    assert accounts(only, task=a_task(type="synthesis")) == []
    assert accounts(only, task=a_task(type=None)) == []


def test_an_account_that_counts_calls_is_marked_and_each_call_holds_one_on_it() -> None:
    (account,) = accounts(Budget(name="b", scope="all", limit=7, counts="calls"))

    assert (account.key, account.limit) == ("#b|lifetime", 7)
    assert (amount_on(account.key, 900), amount_on("b|lifetime", 900)) == (1, 900)


def test_calls_that_name_no_task_are_not_counted_as_calls_of_one() -> None:
    limit = Budget(name="b", scope="task", limit=7, counts="calls")
    of_a_task, of_none = (
        accounts_of(a_task(task_id=task_id), key_id="k1", policy=a_policy(budgets=(limit,)), at_us=0)
        for task_id in ("t1", None)
    )

    assert (len(of_a_task), len(of_none)) == (1, 0)


def test_a_call_that_cost_nothing_is_no_call_on_an_account_that_counts_them() -> None:
    assert (cost_on("#b|lifetime", 900), cost_on("#b|lifetime", 0)) == (1, 0)
    assert (cost_on("b|lifetime", 900), cost_on("b|lifetime", 0)) == (900, 0)


def test_a_budget_that_only_warns_has_no_limit() -> None:
    (account,) = accounts(Budget(name="b", scope="all", limit=7, hard=False))

    assert account.limit is None


def test_what_one_key_may_have_pending_has_an_account_of_its_own_beside_the_budgets() -> None:
    budget = Budget(name="b", scope="all", limit=1_000, pending_share=25)

    whole, pending = accounts(budget)

    assert (whole.key, whole.limit, whole.pending_only) == ("b|lifetime", 1_000, False)
    assert (pending.key, pending.limit, pending.pending_only) == ("~k%7C1|b|lifetime", 250, True)
    assert (pending.value, pending.budget) == ("k|1", budget)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(name="b", scope="all", limit=9),
        Budget(name="b", scope="all", limit=9, pending_share=25, hard=False),
        Budget(name="b", scope="all", limit=9, pending_share=25, counts="calls"),
    ],
)
def test_only_a_hard_limit_of_money_bounds_what_a_key_may_have_pending(budget: Budget) -> None:
    assert [account.pending_only for account in accounts(budget)] == [False]


@pytest.mark.parametrize(
    ("pending_only", "topped_up", "left"), [(False, 0, 2), (False, 5, 7), (True, 0, 7), (True, 5, 12)]
)
def test_what_is_left_is_the_raised_limit_less_what_counts_against_it(
    pending_only: bool, topped_up: int, left: int
) -> None:
    (account,) = accounts(Budget(name="b", scope="all", limit=10))
    denied = Denied(
        account=replace(account, pending_only=pending_only),
        posted_nanos=5,
        pending_nanos=3,
        asked_nanos=20,
        topped_up_nanos=topped_up,
    )

    assert denied.left == left


def test_without_budgets_a_call_has_no_accounts() -> None:
    assert accounts_of(a_task(), key_id="k1", policy=a_policy(), at_us=0) == ()


@given(first=st.tuples(NAMES, NAMES, NAMES), second=st.tuples(NAMES, NAMES, NAMES))
def test_two_tasks_share_an_account_only_where_all_its_names_are_the_same(
    first: tuple[str | None, str | None, str | None], second: tuple[str | None, str | None, str | None]
) -> None:
    keys = [
        an_account(a_task(run_id=run, task_id=task), "task", key_id=key or "").key
        for key, run, task in (first, second)
    ]

    same = [name or "" for name in first] == [name or "" for name in second]
    assert (keys[0] == keys[1]) is same


@given(own=st.tuples(NAMES, NAMES, NAMES), forged=st.tuples(NAMES, NAMES, NAMES))
def test_no_name_of_a_callers_choosing_reaches_another_keys_account(
    own: tuple[str | None, str | None, str | None], forged: tuple[str | None, str | None, str | None]
) -> None:
    tasks = [a_task(run_id=run, agent=agent, task_id=task) for run, agent, task in (own, forged)]
    scopes: tuple[Scope, ...] = ("key", "run", "agent", "task")

    for scope, (mine, theirs) in product(scopes, [("k", "k|r"), ("k", "k%7Cr"), ("k1", "k2")]):
        account = an_account(tasks[0], scope, key_id=mine)
        reached = an_account(tasks[1], scope, key_id=theirs)
        assert account.key != reached.key


@pytest.mark.parametrize("scope", ["all", "type"])
def test_budgets_of_everything_and_of_types_are_shared_by_all_keys(scope: Scope) -> None:
    assert an_account(a_task(), scope, key_id="k1").key == an_account(a_task(), scope, key_id="k2").key
