"""Which tiers a type is compared with, as the policy says it."""

import pytest

from tierwise.config import parse_book
from tierwise.core.policy import Contract
from tierwise.errors import PolicyError

BASE = """
[tiers.frontier]
model = "claude-opus-5-5"
[tiers.frontier-low]
model = "claude-opus-5-5"
effort = "low"
[tiers.fast]
model = "claude-haiku-5-5"
[task_types.synthesis]
tier = "frontier"
max_tokens = 8192
"""


def contract(more: str) -> Contract:
    return parse_book(BASE + more, file="t.toml").policy.contracts["synthesis"]


def complaint(more: str) -> str:
    with pytest.raises(PolicyError) as caught:
        contract(more)
    return str(caught.value)


def test_a_type_names_the_tiers_that_it_is_compared_with_or_none() -> None:
    assert contract('shadow = true\nshadow_on = ["fast", "frontier-low"]').shadow_on == (
        "fast",
        "frontier-low",
    )
    assert contract("shadow = true").shadow_on == ()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('["quick"]', 'there is no tier "quick"'),
        ('["frontier"]', "names the type's own tier alone"),
        ('["fast", "fast"]', "must have each tier once"),
        ('"fast"', 'write ["fast"]'),
        ("[]", "must be a list of tiers"),
        ('["Fast!"]', "is not a name"),
        ("[1]", "must be a name"),
    ],
)
def test_what_cannot_be_compared_with_is_told(value: str, told: str) -> None:
    assert told in complaint(f"shadow = true\nshadow_on = {value}")


def test_alternatives_of_a_type_that_is_not_compared_are_told() -> None:
    warnings = parse_book(BASE + 'shadow_on = ["fast"]', file="t.toml").warnings

    assert [warning.fix for warning in warnings if "shadow_on" in str(warning)] == ["add shadow = true"]
