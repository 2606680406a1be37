"""`[openai]` of a policy file."""

import pytest

from support.policies import OPENAI_PRICES, TWO_TIERS, book, with_openai
from tierwise.core.policy import Policy
from tierwise.errors import PolicyError

URL = "https://api.openai.com/v1"


def openai_of(text: str) -> Policy:
    policy = book(text).policy.openai
    assert policy is not None
    return policy


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        book(text)
    return str(caught.value)


def test_a_policy_without_the_table_serves_no_openai_clients() -> None:
    assert book().policy.openai is None


def test_openais_clients_have_the_same_contracts_with_tiers_of_their_own() -> None:
    whole = book(with_openai(TWO_TIERS, URL))
    policy = openai_of(with_openai(TWO_TIERS, URL))

    assert (policy.contracts, policy.version) == (whole.policy.contracts, whole.policy.version)
    assert [(tier.name, tier.model, tier.effort) for tier in policy.tiers.values()] == [
        ("frontier", "gpt-5", "medium"),
        ("fast", "gpt-5-mini", "keep"),
    ]
    assert policy.upstream.base_url == URL
    assert policy.openai is None
    assert [tier.model for tier in whole.policy.tiers.values()] == ["claude-opus-5-5", "claude-haiku-5-5"]
    assert not [warning for warning in whole.warnings if "openai" in warning.path]


def test_the_order_of_strength_is_that_of_all_tiers() -> None:
    text = f"""{TWO_TIERS}{OPENAI_PRICES}
[openai]
base_url = "{URL}"
[openai.tiers.fast]
model = "gpt-5-mini"
[openai.tiers.frontier]
model = "gpt-5"
"""

    assert list(openai_of(text).tiers) == ["frontier", "fast"]
    assert openai_of(text).frontier.model == "gpt-5"


def test_every_key_is_read() -> None:
    more = """
cap_field = "max_tokens"
proxy = "http://proxy:3128"
connect_timeout = "5s"
read_timeout = "15m"
retries = 0
retry_for = "1m"
retry_timeouts = false
"""
    policy = openai_of(
        with_openai(TWO_TIERS, URL, more) + 'effort = "none"\nmax_tokens = 77\nthinking_floor = 9\n'
    )

    upstream, fast = policy.upstream, policy.tiers["fast"]
    assert (upstream.cap_field, upstream.proxy) == ("max_tokens", "http://proxy:3128")
    assert (upstream.connect_timeout_s, upstream.read_timeout_s) == (5, 900)
    assert (upstream.retries, upstream.retry_for_s, upstream.retry_timeouts) == (0, 60, False)
    assert (fast.effort, fast.max_tokens, fast.thinking_floor) == ("none", 77, 9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[openai]\n", "needs base_url"),
        (f'[openai]\nbase_url = "{URL}"\n', "has no tier"),
        ("openai = 1\n", "openai: must be a table"),
        (f'[openai]\nbase_url = "{URL}"\ntiers = 1\n', "openai.tiers: must be tables"),
        ('[openai]\nbase_url = "https://me:secret@x/v1"\n', "OPENAI_API_KEY"),
        (f'[openai]\nbase_url = "{URL}"\n[openai.tiers.fats]\nmodel = "gpt-5"\n', "did you mean fast?"),
        (f'[openai]\nbase_url = "{URL}"\n[openai.tiers.Fast]\nmodel = "gpt-5"\n', "is not a name"),
        (
            f'[openai]\nbase_url = "{URL}"\n[openai.tiers.fast]\neffort = "low"\n',
            "openai.tiers.fast: needs model",
        ),
        (f'[openai]\nbase_url = "{URL}"\n[openai.tiers.fast]\nmodel = "m"\neffort = "huge"\n', "effort"),
    ],
)
def test_what_cannot_work_is_told(text: str, told: str) -> None:
    where = TWO_TIERS + text if text.startswith("[") else text + TWO_TIERS
    assert told in complaint(where)


@pytest.mark.parametrize(
    "text",
    [
        f"translate = true\n{TWO_TIERS}",
        f"{TWO_TIERS}[upstream]\ntranslate = true\n",
        TWO_TIERS.replace("[tiers.fast]\n", "[tiers.fast]\ntranslate = true\n"),
        with_openai(TWO_TIERS, URL, "translate = true"),
        with_openai(TWO_TIERS, URL) + 'translate = "claude-haiku-5-5"\n',
        TWO_TIERS.replace("claude-haiku-5-5", "gpt-5-mini"),
    ],
)
def test_asking_for_translation_is_answered_plainly(text: str) -> None:
    assert "does not translate between Anthropic's API and OpenAI's" in complaint(text)


def test_a_model_without_a_price_is_a_warning() -> None:
    text = f'{TWO_TIERS}[openai]\nbase_url = "{URL}"\n[openai.tiers.fast]\nmodel = "qwen3"\n'
    priced = f"""{TWO_TIERS}
[[prices]]
model = "qwen3"
input_usd_per_mtok = "0"
output_usd_per_mtok = "0"
[openai]
base_url = "{URL}"
[openai.tiers.fast]
model = "qwen3"
"""

    told = [warning.message for warning in book(text).warnings if warning.path.startswith("openai")]
    cached = [warning.message for warning in book(priced).warnings if warning.path.startswith("openai")]
    assert "has no price: its calls are recorded as unpriced" in told[0]
    assert "read from a cache" in cached[0]


def test_a_key_of_openais_in_the_file_is_refused() -> None:
    assert "a credential stands here" in complaint(f"# sk-proj-0123456789\n{TWO_TIERS}")
