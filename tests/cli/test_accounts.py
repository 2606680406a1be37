"""Accounts of a ledger, matched with the budgets of a policy."""

from datetime import UTC, datetime

import pytest
import typer

from support.policies import TWO_TIERS, book
from tierwise.cli.accounts import Account, Wanted, accounts_in, chosen
from tierwise.core.budgets import accounts_of
from tierwise.core.policy import Policy
from tierwise.core.tasks import Declared, TaskRef
from tierwise.money import usd
from tierwise.stores.ledger.reservations import AccountTotals

AT = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 1_000_000


def one(window: str, zone: str = "UTC", *, scope: str = "run") -> Policy:
    budgets = f'[[budgets]]\nscope = "{scope}"\nlimit_usd = "10"\nwindow = "{window}"\nname = "mine"\n'
    return book(f'time_zone = "{zone}"\n{TWO_TIERS}{budgets}').policy


OWN_BUDGETS = TWO_TIERS.replace(
    "[task_types.extraction]\n", "[task_types.extraction]\nmax_calls = 40\nbudget.per_task_usd = '2'\n"
)


def account(
    key: str, posted_nanos: int = 0, *, pending_nanos: int = 0, topped_up_nanos: int = 0
) -> AccountTotals:
    return AccountTotals(
        key=key,
        reservations=1,
        reserved_nanos=posted_nanos + pending_nanos,
        pending_nanos=pending_nanos,
        posted_nanos=posted_nanos,
        released_nanos=0,
        overrun_nanos=0,
        topped_up_nanos=topped_up_nanos,
    )


def matched(policy: Policy, *keys: str, at_us: int = AT) -> list[Account]:
    return accounts_in([account(key) for key in keys], policy, at_us=at_us)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Kiritimati"])
@pytest.mark.parametrize("window", ["lifetime", "hour", "day", "month"])
@pytest.mark.parametrize("scope", ["all", "key", "run", "agent", "type", "task"])
def test_the_account_that_a_call_is_charged_to_is_read_as_it_was_written(
    scope: str, window: str, zone: str
) -> None:
    policy = one(window, zone, scope=scope)
    task = TaskRef(type="extraction", declared=Declared.HEADER, task_id="t|1", run_id="r%1", agent="é\n")
    charged, *_ = accounts_of(task, key_id="k1", policy=policy, at_us=AT)

    (read,) = matched(policy, charged.key)

    assert (read.budget, read.value, read.ends_us) == (charged.budget, charged.value, charged.ends_us)
    assert read.current


def test_a_window_is_current_until_the_moment_that_it_ends() -> None:
    day_ends = int(datetime(2026, 11, 20, 23, tzinfo=UTC).timestamp()) * 1_000_000
    policy, key = one("day", "Europe/Berlin"), "mine|k1|r1|2026-11-20"

    before, after = (matched(policy, key, at_us=day_ends + late)[0] for late in (-1, 0))

    assert (before.current, after.current) == (True, False)
    assert before.ends_us == day_ends


def test_a_budget_whose_window_was_changed_has_no_limit_for_the_accounts_of_the_old_one() -> None:
    new, old = matched(one("day"), "mine|k1|r1|lifetime", "mine|k1|r1|2026-11-20")

    assert (new.window, new.left) == ("2026-11-20", usd(10))
    assert (old.window, old.left) == ("lifetime", None)


def test_accounts_stand_newest_window_first_and_then_by_use() -> None:
    totals = [
        account("mine|k1|a|2026-11-19", usd(9)),
        account("mine|k1|b|2026-11-20", usd(1)),
        account("mine|k1|c|2026-11-20", usd(2)),
    ]

    found = accounts_in(totals, one("day"), at_us=AT)

    assert [each.value for each in found] == ["c", "b", "a"]


def test_an_account_above_its_limit_has_less_than_nothing_left() -> None:
    (found,) = accounts_in([account("mine|k1|a|lifetime", usd(12))], one("lifetime"), at_us=AT)

    assert (found.left, found.used_share) == (usd(-2), 1.2)


def test_what_a_limit_was_raised_by_is_part_of_it() -> None:
    (found,) = accounts_in(
        [account("mine|k1|a|lifetime", usd(12), topped_up_nanos=usd(5))], one("lifetime"), at_us=AT
    )

    assert (found.limit, found.left, found.used_share) == (usd(15), usd(3), 0.8)


def test_an_account_that_counts_calls_has_no_money() -> None:
    found, dollars = matched(book(OWN_BUDGETS).policy, CALLS, CALLS.removeprefix("#"))

    assert (found.name, found.counts, found.limit) == ("extraction.max-calls", "calls", 40)
    assert (dollars.counts, dollars.limit) == ("usd", None)


CALLS = "#extraction.max-calls|k1|r1|t1|lifetime"


def test_the_account_of_a_task_tells_its_run_too() -> None:
    (found,) = matched(book(OWN_BUDGETS).policy, CALLS)

    assert (found.key_id, found.run_id, found.value) == ("k1", "r1", "t1")


def test_what_one_key_has_pending_is_bounded_by_a_share_of_the_limit_and_spending_does_not_count() -> None:
    policy = one("day", scope="all")
    key = "~k1|mine|2026-11-20"

    (found,) = accounts_in([account(key, usd(9), pending_nanos=usd(1))], policy, at_us=AT)

    assert (found.budget, found.pending_of, found.value) == (policy.budgets[0], "k1", "")
    assert (found.limit, found.used, found.left) == (usd(5), usd(1), usd(4))


def test_a_budget_whose_scope_was_changed_has_no_limit_for_the_accounts_of_the_old_one() -> None:
    (old,) = matched(one("lifetime", scope="key"), "mine|k1|r1|lifetime")

    assert old.budget is None


# --- Which account is meant.


def meant(policy: Policy, *keys: str, **said: str) -> str:
    wanted = Wanted(name=said.pop("name", "mine"), **said)
    return chosen(wanted, matched(policy, *keys), policy, at_us=AT).totals.key


def test_the_only_account_of_a_budget_is_meant_by_its_name() -> None:
    policy = one("day")

    assert meant(policy, "mine|k1|a|2026-11-20", "mine|k1|a|2026-11-19", "~k1|mine|k1|a|2026-11-20") == (
        "mine|k1|a|2026-11-20"
    )


def test_several_accounts_are_told_apart_by_whose_they_are_and_by_the_beginning_of_the_key() -> None:
    accounts = (
        "mine|3f2a9c000000|a|lifetime",
        "mine|9c4100000000|a|lifetime",
        "mine|9c4100000000|b|lifetime",
    )
    policy = one("lifetime")

    assert meant(policy, *accounts, value="b") == accounts[2]
    assert meant(policy, *accounts, value="a", key="9c") == accounts[1]
    assert meant(policy, *accounts, name=accounts[0]) == accounts[0]
    with pytest.raises(typer.BadParameter, match="2 accounts fit") as ambiguous:
        meant(policy, *accounts, value="a")
    assert all(account in str(ambiguous.value) for account in accounts[:2])


@pytest.mark.parametrize("window", ["lifetime", "day"])
@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("all", {}),
        ("key", {"value": "3f2a9c000000"}),
        ("run", {"value": "r|1", "key": "3f2a9c000000"}),
        ("agent", {"value": "é", "key": "3f2a9c000000"}),
        ("type", {"value": "extraction"}),
        ("task", {"value": "t1", "run": "r|1", "key": "3f2a9c000000"}),
    ],
)
def test_an_account_that_no_call_has_met_is_the_one_that_a_call_would_make(
    scope: str, window: str, said: dict[str, str]
) -> None:
    policy = one(window, scope=scope)
    task = TaskRef(
        type="extraction",
        declared=Declared.HEADER,
        task_id="t1",
        run_id="r|1",
        agent="é",
    )
    charged, *_ = accounts_of(task, key_id="3f2a9c000000", policy=policy, at_us=AT)

    assert meant(policy, **said) == charged.key


def test_an_account_of_a_task_types_own_budget_can_be_new_too() -> None:
    policy = book(OWN_BUDGETS).policy

    found = meant(policy, name="extraction.max-calls", value="t1", run="r1", key="gateway")

    assert found == "#extraction.max-calls|gateway|r1|t1|lifetime"


def test_a_new_account_is_within_a_key_that_the_ledger_knows_by_its_first_digits() -> None:
    found = meant(one("lifetime"), "mine|3f2a9c000000|a|lifetime", value="b", key="3f")

    assert found == "mine|3f2a9c000000|b|lifetime"


@pytest.mark.parametrize(
    ("scope", "said", "missing"),
    [
        ("key", {}, "--value KEYID"),
        ("run", {"value": "a"}, "--key KEYID"),
        ("run", {"key": "3f2a9c000000"}, "--value RUN"),
        ("task", {"value": "t1", "key": "3f2a9c000000"}, "--run RUN"),
        ("run", {"value": "a", "key": "3f"}, "give all 12 digits"),
    ],
)
def test_a_new_account_has_to_be_named_whole(scope: str, said: dict[str, str], missing: str) -> None:
    with pytest.raises(typer.BadParameter, match=missing):
        meant(one("lifetime", scope=scope), **said)


def test_a_client_of_the_policy_is_a_key_too_before_its_first_call() -> None:
    text = TWO_TIERS + '[[budgets]]\nscope = "key"\nlimit_usd = "10"\nname = "mine"\n'
    for name, digit in (("jobs", "1"), ("jobs-2", "2")):
        text += f'[[clients]]\nname = "{name}"\nkey_sha256 = "{digit * 64}"\n'

    assert meant(book(text).policy, value="jobs") == "mine|jobs|lifetime"
    assert meant(book(text).policy, value="jobs-") == "mine|jobs-2|lifetime"


def test_a_whole_key_id_is_meant_by_itself_and_not_as_a_beginning() -> None:
    accounts = ("mine|jobs|a|lifetime", "mine|jobs-2|a|lifetime")

    assert meant(one("lifetime"), *accounts, value="a", key="jobs") == accounts[0]


def test_a_budget_that_is_gone_has_no_new_accounts() -> None:
    with pytest.raises(typer.BadParameter, match="the policy has no such budget"):
        meant(one("lifetime"), "gone|k1|a|lifetime", name="gone", value="b")
