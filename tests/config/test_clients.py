"""`[[clients]]`: what they say, and what is wrong with them."""

from hashlib import sha256

import pytest

from support.policies import TWO_TIERS
from tierwise.config import parse_book
from tierwise.core.policy import Client
from tierwise.errors import PolicyError

HASH = sha256(b"twk_x").hexdigest()
ALL = """
[[budgets]]
scope = "all"
limit_usd = "1"

[[budgets]]
scope = "all"
limit_usd = "1"
window = "month"
"""
ONE = f'[[clients]]\nname = "ci"\nkey_sha256 = "{HASH}"\n'


def clients(text: str) -> tuple[Client, ...]:
    return parse_book(TWO_TIERS + text, file="t.toml").policy.clients


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        clients(text)
    return str(caught.value)


def test_a_client_may_do_everything_unless_its_lines_say_less() -> None:
    (client,) = clients(ONE)

    assert client == Client(name="ci", key_sha256=bytes.fromhex(HASH))
    assert client.may_call("extraction")
    assert client.may_call(None)


def test_a_client_of_some_types_makes_no_undeclared_calls_unless_its_lines_say_so() -> None:
    (client,) = clients(ONE + 'task_types = ["ext*", "synthesi?"]\nnote = "Ask Ada."')
    (wider,) = clients(ONE + 'task_types = ["extraction"]\nundeclared = true')

    assert [client.may_call(name) for name in ("extraction", "synthesis", "default", None)] == [
        True,
        True,
        False,
        False,
    ]
    assert wider.may_call(None)
    assert client.is_restricted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE + ONE.replace('"ci"', '"other"'), "is another client's key"),
        (ONE + ONE.replace(HASH[:8], "00000000"), "is another client's name"),
        (ONE + 'task_types = ["extractoin"]', '"extractoin" fits no task type\n    did you mean extraction?'),
        (ONE + 'task_types = "extraction"', 'write ["extraction"]'),
        (ONE + 'task_types = ["[a-z]"]', "brackets"),
        (ONE.replace('"ci"', '"My CI"'), 'write "my-ci"'),
        ('[[clients]]\nname = "ci"', "needs key_sha256"),
        (ONE.replace(HASH, HASH[:-1]), "must be 64 hex digits\n    `tierwise client-key NAME`"),
        (ONE + 'key = "x"', "write key_sha256"),
        (ONE + 'budget = "x"', 'write budgets = ["NAME"]'),
        (ONE + 'budgets = "x"', "must be a list of names"),
        (ONE + "budgets = []", "must be a list of names"),
        (ONE + 'budgets = ["Team A"]', 'write "team-a"'),
        (ONE + 'budgets = ["x"]', 'there is no budget "x"\n    there are no budgets yet'),
        (
            f'{ALL}{ONE}budgets = ["all-lifetime", "al-monht"]',
            't.toml:29: clients[0].budgets: there is no budget "al-monht"\n    did you mean all-month?',
        ),
        (f'{ALL}{ONE}budgets = ["team"]', "the budgets are all-lifetime, all-month"),
    ],
)
def test_what_is_wrong_is_told_with_a_fix(text: str, said: str) -> None:
    assert said in complaint(text)


@pytest.mark.parametrize("place", ["key_sha256", "note", "key"])
def test_a_key_in_the_policy_is_refused_and_not_shown(place: str) -> None:
    key = "twk_canary" + "x" * 37

    said = complaint(f'[[clients]]\nname = "ci"\n{place} = "{key}"\n')

    assert "a credential stands here" in said
    assert "make another with `tierwise client-key NAME`" in said
    assert "canary" not in said


def warned(text: str) -> list[str]:
    warnings = parse_book(TWO_TIERS + text, file="t.toml").warnings
    return [
        f"{each.path}: {each.message}; {each.fix}" for each in warnings if each.path.startswith("clients")
    ]


OTHER = ONE.replace('"ci"', '"other"').replace(HASH[:8], "00000000")


def test_a_client_may_name_the_budgets_that_count_its_calls() -> None:
    (client,) = clients(f'{ALL}{ONE}budgets = ["all-month"]')

    assert client.budgets == ("all-month",)


def test_a_client_that_is_left_in_no_budget_is_told() -> None:
    (warning,) = warned(f'{ALL}{OTHER}{ONE}budgets = ["all-month", "all-lifetime"]')

    assert "clients[0].name: other is in no budget: each of [[budgets]] is named by other clients" in warning
    assert 'write budgets = ["all-lifetime"] here' in warning


@pytest.mark.parametrize(
    "text",
    [
        OTHER + ONE,
        f"{ALL}{OTHER}{ONE}",
        f'{ALL}{OTHER}{ONE}budgets = ["all-month"]',
        f'{ALL}{OTHER}budgets = ["all-month"]\n{ONE}budgets = ["all-lifetime"]',
    ],
)
def test_clients_that_are_all_in_some_budget_or_in_no_policy_that_has_one_are_not_warned_of(
    text: str,
) -> None:
    assert warned(text) == []


def test_the_name_of_a_budget_that_cannot_be_read_is_not_said_to_be_missing() -> None:
    said = complaint(f'[[budgets]]\nname = "team"\nscope = "all"\nlimit_usd = "x"\n{ONE}budgets = ["team"]')

    assert "there is no budget" not in said
