"""`[[clients]]`: what they say, and what is wrong with them."""

from hashlib import sha256

import pytest

from support.policies import TWO_TIERS
from tierwise.config import parse_book
from tierwise.core.policy import Client
from tierwise.errors import PolicyError

HASH = sha256(b"twk_x").hexdigest()
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
        (ONE + 'budget = "x"', 'scope = "key"'),
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
