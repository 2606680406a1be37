import tomllib
from pathlib import Path

import pytest

from tierwise.config import load_book, parse_book
from tierwise.config.starter import PAIRS, SCHEMA_FILE, Pair, starter_policy
from tierwise.core.policy import cap_floor

FRONTIER = {"synthesis", "architecture-coding", "edge-case", "evaluation"}
FAST = {
    "summarization",
    "extraction",
    "classification",
    "formatting",
    "template-filling",
    "reranking",
    "default",
}

SOURCES = Path(__file__).parents[2] / "src" / "tierwise"
FLEET_POLICY = SOURCES / "data" / "fleet-policy.toml"
FLEET = tomllib.loads((SOURCES / "sandbox" / "fleet.toml").read_text("utf-8"))["types"]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_starter_loads_without_error_or_warning(pair: Pair) -> None:
    book = parse_book(starter_policy(pair), file="tierwise.toml")

    assert book.warnings == ()
    assert {
        name for name, contract in book.policy.contracts.items() if contract.tier == "frontier"
    } == FRONTIER
    assert {name for name, contract in book.policy.contracts.items() if contract.tier == "fast"} == FAST


@pytest.mark.parametrize(
    ("pair", "models"),
    [
        ("5.5", ("claude-opus-5-5", "medium", "claude-haiku-5-5", None)),
        ("4.6", ("claude-opus-4-6", "medium", "claude-haiku-4-5-20251001", None)),
    ],
)
def test_each_pair_has_its_own_models(pair: Pair, models: tuple[str, ...]) -> None:
    tiers = parse_book(starter_policy(pair), file="tierwise.toml").policy.tiers

    frontier, fast = tiers.values()
    assert (frontier.model, frontier.effort, fast.model, fast.effort) == models
    assert fast.thinking == "off"


@pytest.mark.parametrize("pair", PAIRS)
def test_every_type_of_the_starter_has_a_cap_and_says_what_belongs_to_it(pair: Pair) -> None:
    contracts = parse_book(starter_policy(pair), file="tierwise.toml").policy.contracts

    assert all(contract.max_tokens and contract.description for contract in contracts.values())


def test_the_starter_can_be_read_on_two_screens() -> None:
    assert len(starter_policy().splitlines()) <= 110


def test_the_starter_names_its_schema_only_where_it_lies_beside_it() -> None:
    assert starter_policy(schema=True).startswith(f"#:schema ./{SCHEMA_FILE}\n")
    assert "#:schema" not in starter_policy()


def test_the_match_rule_in_the_starters_comments_works() -> None:
    text = starter_policy().replace("# [[match]]", "[[match]]").replace("# task_type", "task_type")
    text = text.replace("# headers.x-team", "headers.x-team")

    rules = parse_book(text, file="tierwise.toml").policy.rules

    assert [(rule.task_type, dict(rule.headers)) for rule in rules] == [
        ("extraction", {"x-team": "billing*"})
    ]


def test_the_fleets_policy_has_each_type_on_the_tier_that_its_team_tagged() -> None:
    contracts = load_book(FLEET_POLICY).policy.contracts

    assert {name: contract.tier for name, contract in contracts.items() if name != "default"} == {
        name: task_type["tagged_tier"] for name, task_type in FLEET.items()
    }


def test_the_fleets_policy_loads_without_warning() -> None:
    assert load_book(FLEET_POLICY).warnings == ()


@pytest.mark.parametrize("name", FLEET)
def test_a_cap_of_the_fleets_policy_leaves_room_for_the_longest_good_replies(name: str) -> None:
    policy = load_book(FLEET_POLICY).policy
    contract, task_type = policy.contracts[name], FLEET[name]
    tier = policy.tiers[contract.tier]
    spread = task_type.get("output_sigma", 0.5)

    in_a_hundred = task_type["output_tokens"] * 2.718 ** (2.326 * spread)

    assert contract.max_tokens is not None
    assert contract.max_tokens >= in_a_hundred
    assert contract.max_tokens >= cap_floor(tier, contract)
    assert contract.max_tokens <= task_type.get("runaway_tokens", 24_000) / 2
