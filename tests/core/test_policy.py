import pytest

from support.calls import a_policy
from tierwise.core.catalog import find, thinking_floor
from tierwise.core.policy import Budget, Contract, Mode, Policy, Tier, cap_floor

PLAIN = Contract(name="x", tier="t")


def floor_of(model: str, *, effort: str | None, thinking: str) -> int:
    known = find(model)
    assert known is not None
    return thinking_floor(known, effort=effort, thinking=thinking)


def test_the_frontier_is_the_first_tier() -> None:
    strong = Tier(name="strong", model="claude-opus-5-5")
    weak = Tier(name="weak", model="claude-haiku-5-5")

    assert Policy(tiers={"strong": strong, "weak": weak}, contracts={}).frontier is strong


@pytest.mark.parametrize(("own", "mode"), [(None, "observe"), ("route", "route"), ("observe", "observe")])
def test_a_contracts_mode_goes_before_the_policys(own: Mode | None, mode: Mode) -> None:
    policy = Policy(tiers={}, contracts={}, mode="observe")

    assert policy.mode_of(Contract(name="x", tier="t", mode=own)) == mode


def test_the_floor_of_a_cap_is_the_tiers_own_where_it_has_one() -> None:
    tier = Tier(name="t", model="claude-haiku-5-5", thinking="off", thinking_floor=700)

    assert cap_floor(tier, PLAIN) == 700


def test_the_floor_of_a_cap_follows_the_tiers_effort() -> None:
    tier = Tier(name="t", model="claude-opus-5-5", effort="xhigh")

    assert cap_floor(tier, PLAIN) == floor_of("claude-opus-5-5", effort="xhigh", thinking="keep")


def test_there_is_no_floor_where_nothing_thinks_or_nothing_is_known() -> None:
    assert cap_floor(Tier(name="t", model="claude-haiku-5-5", thinking="off"), PLAIN) == 0
    assert cap_floor(Tier(name="t", model="new"), PLAIN) == 0


def test_a_contract_that_keeps_what_the_caller_asks_has_the_floor_of_the_models_default() -> None:
    tier = Tier(name="t", model="claude-haiku-5-5", effort="low", thinking="off")
    contract = Contract(name="x", tier="t", effort="keep", thinking="keep")

    assert cap_floor(tier, contract) == floor_of("claude-haiku-5-5", effort=None, thinking="keep")


def test_a_policy_has_budgets_of_its_own_or_of_a_contract() -> None:
    budget = Budget(name="all", scope="all", limit=1)

    assert a_policy(budgets=(budget,)).has_budgets
    assert a_policy(Contract(name="extraction", tier="fast", budgets=(budget,))).has_budgets
    assert not a_policy().has_budgets
