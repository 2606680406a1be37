import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest
from inline_snapshot import snapshot

from support.policies import TWO_TIERS
from tierwise.config import Book, load_book, parse_book
from tierwise.config.prices import shipped_prices
from tierwise.core.policy import Budget, Contract, MatchRule, Tier, Upstream
from tierwise.errors import PolicyError

BASE = """\
[tiers.frontier]
model = "claude-opus-5-5"
[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"
[task_types.default]
tier = "fast"
"""
"""Seven lines: what a test adds begins on line 8."""


def read(text: str) -> Book:
    return parse_book(text, file="t.toml")


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        read(text)
    return str(caught.value)


def doubts(text: str) -> str:
    book = read(text)
    return str(PolicyError(file="t.toml", problems=book.warnings))


# --- What a good file becomes.


def test_a_policy_holds_what_the_file_says() -> None:
    text = """
    mode = "observe"
    strict = true
    conversation_ttl = "90s"
    time_zone = "Europe/Berlin"
    [tiers.frontier]
    model = "claude-opus-5-5"
    effort = "medium"
    [tiers.fast]
    model = "claude-haiku-5-5"
    effort = "keep"
    thinking = "adaptive"
    thinking_floor = 512
    [task_types.extraction]
    tier = "fast"
    max_tokens = 1024
    min_tokens = 512
    max_cost_usd = "0.05"
    effort = "keep"
    thinking = "keep"
    mode = "route"
    description = "Fields."
    [[match]]
    task_type = "extraction"
    model = "claude-*"
    user_id = "u?"
    headers.X-Team = "billing*"
    [[budgets]]
    name = "nightly"
    scope = "type"
    limit_usd = "2.50"
    window = "day"
    warn_at = [90, 50]
    when_short = ["refuse"]
    [[budgets]]
    scope = "key"
    limit_usd = 1
    kind = "warn"
    [upstream]
    base_url = "http://127.0.0.1:9/v/"
    proxy = "http://proxy:3128"
    ca_file = "ca.pem"
    connect_timeout = "2s"
    read_timeout = "15m"
    """

    policy = read(text).policy

    assert (policy.mode, policy.strict, policy.conversation_ttl_s) == ("observe", True, 90)
    assert policy.tiers == {
        "frontier": Tier(name="frontier", model="claude-opus-5-5", effort="medium"),
        "fast": Tier(
            name="fast", model="claude-haiku-5-5", effort="keep", thinking="adaptive", thinking_floor=512
        ),
    }
    assert policy.contracts == {
        "extraction": Contract(
            name="extraction",
            tier="fast",
            max_tokens=1024,
            effort="keep",
            thinking="keep",
            mode="route",
            min_tokens=512,
            max_cost_nanos=50_000_000,
            description="Fields.",
        )
    }
    assert policy.rules == (
        MatchRule(task_type="extraction", model="claude-*", user_id="u?", headers={"x-team": "billing*"}),
    )
    assert policy.time_zone == "Europe/Berlin"
    assert policy.budgets == (
        Budget(
            name="nightly",
            scope="type",
            limit=2_500_000_000,
            window="day",
            warn_at=(50, 90),
            when_short=("refuse",),
            pending_share=50,
        ),
        Budget(name="key-lifetime", scope="key", limit=1_000_000_000, hard=False),
    )
    assert policy.upstream == Upstream(
        base_url="http://127.0.0.1:9/v",
        proxy="http://proxy:3128",
        ca_file="ca.pem",
        connect_timeout_s=2.0,
        read_timeout_s=900.0,
    )


def test_what_a_file_leaves_out_is_as_the_policy_has_it() -> None:
    policy = read(BASE).policy

    assert (policy.mode, policy.strict, policy.conversation_ttl_s) == ("route", False, 3600)
    assert (policy.rules, policy.upstream) == ((), Upstream())
    assert (policy.budgets, policy.time_zone) == ((), "UTC")
    assert (policy.contracts["default"].min_tokens, policy.contracts["default"].max_cost_nanos) == (
        None,
        None,
    )


def test_the_first_tier_of_the_file_is_the_frontier() -> None:
    assert read(BASE).policy.frontier.name == "frontier"


def test_the_version_is_the_hash_of_the_bytes() -> None:
    assert read(BASE).policy.version == sha256(BASE.encode()).hexdigest()[:12]
    assert read(BASE + "# more").policy.version != read(BASE).policy.version


def test_a_byte_order_mark_is_no_part_of_the_policy() -> None:
    assert read("\ufeff" + BASE).policy.tiers == read(BASE).policy.tiers


def test_a_policy_without_prices_has_those_of_the_package() -> None:
    assert read(BASE).prices is shipped_prices()


def test_the_policys_own_prices_go_before_those_of_the_package() -> None:
    text = BASE + '[[prices]]\nmodel = "claude-opus-5-5"\ninput_usd_per_mtok = "3.60"\n'

    book = read(text)

    price = book.prices.price("claude-opus-5-5", at_us=0)
    assert price is not None
    assert (price.card.input, price.card.output) == (Decimal("3.60"), Decimal("20.00"))
    assert book.prices.version == f"{shipped_prices().version}+{book.policy.version}"


def test_prices_of_several_days_build_on_each_other_in_whatever_order_they_stand() -> None:
    later = '[[prices]]\nmodel = "new"\nfrom = 2026-12-01\ninput_usd_per_mtok = 1\n'
    first = '[[prices]]\nmodel = "new"\ninput_usd_per_mtok = 2\noutput_usd_per_mtok = "3"\n'

    prices = read(BASE + later + first).prices

    december = int(datetime(2026, 12, 2, tzinfo=UTC).timestamp()) * 10**6
    price = prices.price("new", at_us=december)
    assert price is not None
    assert (price.card.input, price.card.output) == (1, 3)


# --- Files that are no policy.


def test_a_missing_file_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load_book(tmp_path / "tierwise.toml")

    assert str(caught.value).replace(str(tmp_path), "…") == snapshot("""\
…/tierwise.toml: there is no such file
    `tierwise init` writes one\
""")


def test_a_directory_is_a_policy_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load_book(tmp_path)

    assert str(caught.value).replace(str(tmp_path), "…") == snapshot("…: cannot be read: Is a directory")


def test_a_file_that_is_not_utf_8_names_the_line_that_is_not(tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_bytes(b"# one\n# caf\xe9\n")

    with pytest.raises(PolicyError) as caught:
        load_book(file)

    assert str(caught.value).replace(str(tmp_path), "…") == snapshot("""\
…/tierwise.toml:2: is not UTF-8 text
    save it as UTF-8\
""")


def test_a_file_is_read_as_its_text_is(tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_bytes(BASE.replace("\n", "\r\n").encode())

    assert load_book(str(file)).policy.tiers == read(BASE).policy.tiers


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[tiers.a]\nmodel = 1\n[tiers.a]\n",
            snapshot("""\
t.toml:3: this table is there already
    keep one of the two\
"""),
        ),
        (
            'mode = "route"\n\nmode = "observe"\n',
            snapshot("""\
t.toml:3: this key is there already
    keep one of the two\
"""),
        ),
        (
            'mode = "route\n',
            snapshot("""\
t.toml:1: a string has no end
    close it with a quote\
"""),
        ),
        (
            "\nmode = route\n",
            snapshot("""\
t.toml:2: this is not a value
    put text in quotes; write true, false and numbers without\
"""),
        ),
        (
            "mode: route\n",
            snapshot("""\
t.toml:1: not TOML: Expected '=' after a key in a key/value pair
    text needs quotes, and each key its own line\
"""),
        ),
        (
            "[tiers.a b]\n",
            snapshot("""\
t.toml:1: not TOML: Expected ']' at the end of a table declaration
    text needs quotes, and each key its own line\
"""),
        ),
        (
            "x = " + "9" * 5000,
            snapshot("t.toml: is not a policy: a number is too long, or lists are nested too deeply"),
        ),
        (
            "x = " + "[" * 5000,
            snapshot("t.toml: is not a policy: a number is too long, or lists are nested too deeply"),
        ),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, told: str) -> None:
    assert complaint(text) == told


def test_a_table_of_tiers_without_any_has_no_tier() -> None:
    assert complaint("[tiers]\n") == complaint("")


def test_an_empty_file_has_no_tier() -> None:
    assert complaint("") == snapshot("""\
t.toml: the policy has no tier
    `tierwise init` writes a policy to start from\
""")


def test_tables_that_are_none_say_how_they_are_written() -> None:
    text = "tiers = 3\ntask_types = []\nmatch = {}\nupstream = true\nprices = [4]\n"

    assert complaint(text) == snapshot("""\
t.toml:1: tiers: must be tables, not 3
    write [tiers.NAME]
t.toml:2: task_types: must be tables, not a list
    write [task_types.NAME]
t.toml:3: match: must be a list of tables, not a table
    write [[match]]
t.toml:4: upstream: must be a table, not true
    write [upstream]
t.toml:5: prices[0]: must be a table, not 4
    write [[prices]]\
""")


# --- Keys and values.


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = 'mode = "rout"\n' + BASE + 'max_token = 5\n[task_types.x]\ntier = "fats"\n'

    assert complaint(text) == snapshot("""\
t.toml:1: mode: must be "route" or "observe", not "rout"
    write "route"
t.toml:9: task_types.default.max_token: is not known
    did you mean max_tokens?
t.toml:11: task_types.x.tier: there is no tier "fats"
    did you mean fast?\
""")


def test_an_unknown_key_is_told_the_nearest_one() -> None:
    assert complaint(BASE + "max_token = 5\n") == snapshot("""\
t.toml:8: task_types.default.max_token: is not known
    did you mean max_tokens?\
""")


def test_an_unknown_key_that_is_near_to_nothing_is_told_all_of_them() -> None:
    assert complaint(BASE + "zzz = 5\n") == (
        "t.toml:8: task_types.default.zzz: is not known\n"
        "    the keys in [task_types.NAME] are tier, max_tokens, min_tokens, max_cost_usd, max_calls, downgrade_to, "
        "task_budget, effort, thinking, mode, shadow, description, on_truncation, cascade, fallback, budget, quality"
    )
    assert complaint("zzz = 5\n" + BASE) == (
        "t.toml:1: zzz: is not known\n"
        "    the keys at the top are mode, strict, durability, conversation_ttl, time_zone, keep_for, queue_for, "
        "prompt_bound, count_near_limit, budget_store, budget_store_lost, warn_url, "
        "tiers, task_types, match, budgets, audit, clients, upstream, openai, prices"
    )


def test_a_missing_key_is_told_on_the_line_of_its_table() -> None:
    assert complaint(BASE + "[task_types.x]\nmax_tokens = 5\n[tiers.y]\n") == snapshot("""\
t.toml:8: task_types.x: needs tier
    add tier = "fast"
t.toml:10: tiers.y: needs model
    add model = "claude-opus-5-5"\
""")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'max_tokens = "512"',
            snapshot("""\
t.toml:8: task_types.default.max_tokens: must be a whole number of tokens, not "512"
    take the quotes away\
"""),
        ),
        (
            "max_tokens = 0",
            snapshot(
                "t.toml:8: task_types.default.max_tokens: must be a whole number from 1 to 10,000,000, not 0"
            ),
        ),
        (
            "max_tokens = true",
            snapshot("t.toml:8: task_types.default.max_tokens: must be a whole number of tokens, not true"),
        ),
        (
            "max_tokens = 5.5",
            snapshot("t.toml:8: task_types.default.max_tokens: must be a whole number of tokens, not 5.5"),
        ),
        (
            "max_tokens = 2026-01-01",
            snapshot("t.toml:8: task_types.default.max_tokens: must be a whole number of tokens, not a date"),
        ),
        (
            'mode = "rout"',
            snapshot("""\
t.toml:8: task_types.default.mode: must be "route" or "observe", not "rout"
    write "route"\
"""),
        ),
        (
            'mode = ""',
            snapshot('t.toml:8: task_types.default.mode: must be "route" or "observe", not ""'),
        ),
        (
            'description = "  "',
            snapshot('t.toml:8: task_types.default.description: must be a string, not "  "'),
        ),
        (
            "description = [1]",
            snapshot("t.toml:8: task_types.default.description: must be a string, not a list"),
        ),
        (
            'effort = "low"',
            snapshot("""\
t.toml:8: task_types.default.effort: must be "keep", not "low"
    effort belongs to a tier: set it there, or write "keep" to leave the caller's\
"""),
        ),
        (
            "thinking = {}",
            snapshot("""\
t.toml:8: task_types.default.thinking: must be "keep", not a table
    thinking belongs to a tier: set it there, or write "keep" to leave the caller's\
"""),
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_what_it_should_be(line: str, told: str) -> None:
    assert complaint(BASE + line + "\n") == told


def test_a_huge_number_is_not_repeated() -> None:
    assert complaint(BASE + "max_tokens = 0x" + "f" * 6000).endswith(", not a huge number")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "conversation_ttl = 3600",
            snapshot("""\
t.toml:1: conversation_ttl: must be a duration such as "90s", "15m" or "1h", not 3600
    write its unit: "3600s"\
"""),
        ),
        (
            'conversation_ttl = "1 hour"',
            snapshot(
                't.toml:1: conversation_ttl: must be a duration such as "90s", "15m" or "1h", not "1 hour"'
            ),
        ),
        (
            'conversation_ttl = "0s"',
            snapshot('t.toml:1: conversation_ttl: must be between one second and a year, not "0s"'),
        ),
        (
            'conversation_ttl = "367d"',
            snapshot('t.toml:1: conversation_ttl: must be between one second and a year, not "367d"'),
        ),
        (
            "conversation_ttl = true",
            snapshot('t.toml:1: conversation_ttl: must be a duration such as "90s", "15m" or "1h", not true'),
        ),
        (
            'strict = "True"',
            snapshot("""\
t.toml:1: strict: must be true or false, not "True"
    take the quotes away\
"""),
        ),
        ('strict = "on"', snapshot('t.toml:1: strict: must be true or false, not "on"')),
    ],
)
def test_a_wrong_value_at_the_top_is_told_too(line: str, told: str) -> None:
    assert complaint(line + "\n" + BASE) == told


@pytest.mark.parametrize(
    ("text", "seconds"), [('"90s"', 90), ('"15m"', 900), ('"1h"', 3600), ('"2d"', 172_800)]
)
def test_durations_have_units(text: str, seconds: int) -> None:
    assert read(f"conversation_ttl = {text}\n" + BASE).policy.conversation_ttl_s == seconds


@pytest.mark.parametrize(
    "line",
    ['quality.judge = "claude-opus-5-5"', "holdback = 0.1"],
)
def test_a_planned_key_of_a_task_type_is_refused_not_ignored(line: str) -> None:
    assert "is planned and not in this version" in complaint(BASE + line + "\n")


def test_planned_tables_are_refused_not_ignored() -> None:
    text = BASE + '[cascade]\nper_run_usd = "1"\n[autopilot]\n'

    assert complaint(text) == snapshot("""\
t.toml:8: cascade: is planned and not in this version
    remove the table
t.toml:10: autopilot: is planned and not in this version
    remove the table\
""")


def test_a_key_that_belongs_elsewhere_is_told_where() -> None:
    text = BASE + 'model = "claude-haiku-5-5"\n[tiers.x]\nmodel = "claude-haiku-5-5"\nmax_tokens = 5\n'

    assert complaint('max_cost_usd = "1"\n' + BASE) == snapshot("""\
t.toml:1: max_cost_usd: is not a key here
    it is for the calls of one task type: move it to [task_types.NAME]\
""")
    assert complaint(text) == snapshot("""\
t.toml:8: task_types.default.model: is not a key here
    a contract names a tier, and the tier names the model: write tier = "…"
t.toml:11: tiers.x.max_tokens: is not a key here
    a cap belongs to a task type: move it to [task_types.NAME]\
""")


@pytest.mark.parametrize("name", ["Fast", "fast_tier", "-fast", "fast tier", "é"])
def test_a_name_has_small_letters_digits_and_dashes(name: str) -> None:
    assert "is not a name" in complaint(f'[tiers."{name}"]\nmodel = "claude-haiku-5-5"\n')


def test_a_bad_name_is_told_a_good_one() -> None:
    assert complaint(BASE + '[task_types."Data Cleaning"]\ntier = "fast"\n') == snapshot("""\
t.toml:8: task_types."Data Cleaning": is not a name: names have small letters, digits and dashes only
    call it data-cleaning\
""")


# --- Secrets.


def test_a_credential_is_an_error_and_is_not_repeated() -> None:
    secret = "sk-ant-api03-abcdefgh"
    text = f'# {secret}\nmode = "{secret}"\n' + BASE + f'"{secret}" = 1\n[tiers.x]\nmodel = "{secret}"\n'

    told = complaint(text)

    assert secret not in told
    assert re.sub("are tier, .*", "are …", told) == snapshot("""\
t.toml:1: a credential stands here, and the policy is for everybody to read
    revoke it, and set ANTHROPIC_API_KEY in the environment to another
t.toml:2: mode: must be "route" or "observe", not "…"
t.toml:2: a credential stands here, and the policy is for everybody to read
    revoke it, and set ANTHROPIC_API_KEY in the environment to another
t.toml:10: task_types.default.…: is not known
    the keys in [task_types.NAME] are …
t.toml:10: a credential stands here, and the policy is for everybody to read
    revoke it, and set ANTHROPIC_API_KEY in the environment to another
t.toml:12: tiers.x.model: "…" is not a model that this version knows
    if it is new, give it a price in [[prices]]
t.toml:12: a credential stands here, and the policy is for everybody to read
    revoke it, and set ANTHROPIC_API_KEY in the environment to another\
""")


@pytest.mark.parametrize(
    "key", ["api_key", "token", "auth-token", "ANTHROPIC_API_KEY", "password", "x-api-key"]
)
def test_a_key_for_a_credential_is_told_where_credentials_go(key: str) -> None:
    told = complaint(BASE + f'[upstream]\n{key} = "hunter2"\n')

    assert "hunter2" not in told
    assert told == (
        f"t.toml:9: upstream.{key}: would hold a credential, and the policy is for everybody to read\n"
        "    remove the line, and set ANTHROPIC_API_KEY in the environment"
    )


def test_a_duplicate_table_named_by_a_secret_is_not_repeated() -> None:
    secret = "sk-ant-api03-abcdefgh"

    assert secret not in complaint(f"[tiers.{secret}]\n[tiers.{secret}]\n")


# --- Tiers.


def test_an_unknown_model_is_told_the_nearest_one() -> None:
    assert complaint(BASE.replace("opus-5-5", "opus-5-6")) == snapshot("""\
t.toml:2: tiers.frontier.model: "claude-opus-5-6" is not a model that this version knows
    did you mean claude-opus-5-5? If not, give it a price in [[prices]]\
""")
    assert complaint(BASE.replace("claude-opus-5-5", "gpt")) == snapshot("""\
t.toml:2: tiers.frontier.model: "gpt" is not a model that this version knows
    if it is new, give it a price in [[prices]]\
""")


def test_a_known_model_without_a_price_is_an_error() -> None:
    fewer = shipped_prices()
    prices = type(fewer)(
        [price for price in fewer.prices if price.model != "claude-haiku-5-5"], terms=fewer.terms, version="1"
    )

    with pytest.raises(PolicyError) as caught:
        parse_book(BASE, file="t.toml", prices=prices)

    assert str(caught.value) == snapshot("""\
t.toml:4: tiers.fast.model: "claude-haiku-5-5" has no price
    give it one in [[prices]]\
""")


def test_an_unknown_model_with_a_price_is_doubtful_and_allowed() -> None:
    text = BASE.replace("claude-opus-5-5", "new") + (
        '[[prices]]\nmodel = "new"\ninput_usd_per_mtok = "9"\noutput_usd_per_mtok = "45"\n'
    )

    assert doubts(text) == snapshot(
        't.toml:2: tiers.frontier.model: "new" has a price and is not in the catalogue: bodies go to it as they are'
    )


@pytest.mark.parametrize(
    ("tier", "told"),
    [
        (
            'model = "claude-opus-4-6"\neffort = "xhigh"',
            snapshot("""\
t.toml:10: tiers.x.effort: claude-opus-4-6 does not take xhigh, only low, medium, high, max
    write "high"\
"""),
        ),
        (
            'model = "claude-haiku-4-5"\neffort = "low"',
            snapshot("""\
t.toml:10: tiers.x.effort: claude-haiku-4-5 takes no effort
    remove the line\
"""),
        ),
        (
            'model = "claude-opus-5-5"\nthinking = "off"',
            snapshot("""\
t.toml:10: tiers.x.thinking: claude-opus-5-5 always thinks: it cannot be turned off
    remove the line, and lower effort to have it think less\
"""),
        ),
        (
            'model = "claude-haiku-4-5"\nthinking_floor = 64001',
            snapshot(
                "t.toml:10: tiers.x.thinking_floor: 64001 is more than claude-haiku-4-5 can write: 64000 tokens"
            ),
        ),
    ],
)
def test_a_tier_may_ask_only_what_its_model_takes(tier: str, told: str) -> None:
    assert complaint(BASE + f"[tiers.x]\n{tier}\n") == told


def test_a_cheaper_first_tier_is_doubtful() -> None:
    text = """\
[tiers.fast]
model = "claude-haiku-5-5"
[tiers.frontier]
model = "claude-opus-5-5"
[task_types.default]
tier = "frontier"
"""

    assert doubts(text) == snapshot("""\
t.toml:1: tiers.fast: is the first tier and so the frontier, and the tier frontier costs more
    put the strongest tier first: the order of the file is the order of strength\
""")


# --- Contracts.


def test_a_missing_tier_is_told_the_nearest_one() -> None:
    assert complaint(BASE + '[task_types.x]\ntier = "fats"\n') == snapshot("""\
t.toml:9: task_types.x.tier: there is no tier "fats"
    did you mean fast?\
""")
    assert complaint(BASE + '[task_types.x]\ntier = "zzz"\n') == snapshot("""\
t.toml:9: task_types.x.tier: there is no tier "zzz"
    the tiers are frontier, fast\
""")
    assert complaint('[task_types.x]\ntier = "fast"\n') == snapshot("""\
t.toml: the policy has no tier
    `tierwise init` writes a policy to start from
t.toml:2: task_types.x.tier: there is no tier "fast"
    there are no tiers yet\
""")


def test_a_cap_above_what_the_model_can_write_is_an_error() -> None:
    assert complaint(BASE + "max_tokens = 128001\n") == snapshot("""\
t.toml:8: task_types.default.max_tokens: 128001 is more than claude-haiku-5-5 can write
    write at most 128000\
""")


@pytest.mark.parametrize(
    ("tier", "contract", "told"),
    [
        (
            'model = "claude-opus-5-5"',
            "",
            snapshot("""\
t.toml:13: task_types.x.max_tokens: 500 leaves no room to think: claude-opus-5-5 on x needs 2048 or more
    raise it to 2048, or use tier = "fast": claude-opus-5-5 always thinks\
"""),
        ),
        (
            'model = "claude-opus-5"',
            "",
            snapshot("""\
t.toml:13: task_types.x.max_tokens: 500 leaves no room to think: claude-opus-5 on x needs 4096 or more
    raise it to 4096, or set thinking = "off" in [tiers.x]\
"""),
        ),
        (
            'model = "claude-haiku-5-5"\nthinking = "off"',
            'thinking = "keep"',
            snapshot("""\
t.toml:14: task_types.x.max_tokens: 500 leaves no room to think: claude-haiku-5-5 on x needs 2048 or more
    raise it to 2048, or remove thinking = "keep": the tier has it off\
"""),
        ),
        (
            'model = "claude-haiku-5-5"\nthinking_floor = 700',
            "",
            snapshot("""\
t.toml:14: task_types.x.max_tokens: 500 leaves no room to think: claude-haiku-5-5 on x needs 700 or more
    raise it to 700, or lower thinking_floor in [tiers.x]\
"""),
        ),
    ],
)
def test_a_cap_without_room_to_think_is_told_the_ways_out(tier: str, contract: str, told: str) -> None:
    text = BASE + f'[tiers.x]\n{tier}\n[task_types.x]\ntier = "x"\n{contract}\nmax_tokens = 500\n'

    assert complaint(text) == told


def test_a_cap_without_room_to_think_may_have_one_way_out() -> None:
    text = '[tiers.x]\nmodel = "claude-opus-5-5"\n[task_types.default]\ntier = "x"\nmax_tokens = 500\n'

    assert complaint(text) == snapshot("""\
t.toml:5: task_types.default.max_tokens: 500 leaves no room to think: claude-opus-5-5 on x needs 2048 or more
    raise it to 2048\
""")


def test_a_small_cap_is_good_where_nothing_thinks() -> None:
    assert read(BASE + "max_tokens = 1\n").policy.contracts["default"].max_tokens == 1


def test_a_least_cap_above_the_cap_is_an_error() -> None:
    assert complaint(BASE + "max_tokens = 512\nmin_tokens = 513\n") == snapshot("""\
t.toml:9: task_types.default.min_tokens: 513 is more than max_tokens, which is 512
    write at most 512, or raise max_tokens\
""")


def test_a_least_cap_may_be_the_cap_or_stand_alone() -> None:
    assert read(BASE + "max_tokens = 512\nmin_tokens = 512\n").warnings == ()
    assert read(BASE + "min_tokens = 512\n").policy.contracts["default"].min_tokens == 512


def test_a_call_may_not_be_limited_to_nothing() -> None:
    assert complaint(BASE + 'max_cost_usd = "0.00"\n') == snapshot(
        't.toml:8: task_types.default.max_cost_usd: must be more than zero, not "0.00"'
    )


def test_a_type_on_a_tier_that_does_not_fit_is_told_nothing_more() -> None:
    text = BASE + '[tiers.x]\nmodel = 3\n[task_types.y]\ntier = "x"\n'

    assert complaint(text) == snapshot("t.toml:9: tiers.x.model: must be a model's id, not 3")


def test_a_frontier_type_without_a_cap_is_doubtful() -> None:
    assert doubts(BASE + '[task_types.x]\ntier = "frontier"\n') == snapshot(
        "t.toml:8: task_types.x: is on the frontier and has no max_tokens: its replies are as long as callers allow"
    )


def test_a_policy_without_a_default_contract_is_doubtful_unless_it_is_strict() -> None:
    text = BASE.replace("task_types.default", "task_types.x")

    assert doubts(text) == snapshot("""\
t.toml:6: task_types: has no default contract: an unknown type is refused as a model, and ignored in a header
    add [task_types.default], or strict = true to say that this is meant\
""")
    assert doubts("strict = true\n" + text) == ""


def test_a_default_contract_under_strict_is_doubtful() -> None:
    assert doubts("strict = true\n" + BASE) == snapshot(
        "t.toml:7: task_types.default: is never used: strict = true refuses types that are not here"
    )


# --- Match rules.


def test_a_rule_for_a_missing_type_is_told_the_nearest_one() -> None:
    assert complaint(BASE + '[[match]]\ntask_type = "defualt"\nmodel = "x"\n') == snapshot("""\
t.toml:9: match[0].task_type: there is no task type "defualt"
    did you mean default?\
""")


def test_a_rule_needs_a_condition() -> None:
    assert complaint(BASE + '[[match]]\ntask_type = "default"\n') == snapshot(
        "t.toml:8: match[0]: needs at least one of model, user_id, headers"
    )


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ("headers.x = 3", snapshot("t.toml:10: match[0].headers.x: must be a pattern, not 3")),
        (
            'headers.x = "[ab]"',
            snapshot("""\
t.toml:10: match[0].headers.x: cannot match "[": a pattern has only * and ?, and "[ab]" has brackets
    write "?ab?"\
"""),
        ),
        ('headers.x = ""', snapshot('t.toml:10: match[0].headers.x: must be a pattern, not ""')),
        ('headers = "x"', snapshot('t.toml:10: match[0].headers: must be a table, not "x"')),
        (
            'headers.Authorization = "Bearer *"',
            snapshot("""\
t.toml:10: match[0].headers.Authorization: cannot be matched: credentials are never looked at
    remove the line\
"""),
        ),
        (
            "headers = {}",
            snapshot("""\
t.toml:10: match[0].headers: is empty
    name a header, or remove it\
"""),
        ),
        (
            'headers."x team" = "1"',
            snapshot('t.toml:10: match[0].headers."x team": is not the name of a header'),
        ),
        (
            'headers = { x = "1", X = "2" }',
            snapshot("""\
t.toml:10: match[0].headers.X: is there twice: capitals make no difference
    keep one of the two\
"""),
        ),
    ],
)
def test_a_condition_that_cannot_hold_is_an_error(headers: str, told: str) -> None:
    assert complaint(BASE + f'[[match]]\ntask_type = "default"\n{headers}\n') == told


def test_a_rule_that_does_not_fit_hides_no_other_rule() -> None:
    broken = '[[match]]\ntask_type = "default"\nmodel = 3\n[[match]]\nmodel = "*"\n'

    assert "no call reaches" not in complaint(
        BASE + broken + '[[match]]\ntask_type = "default"\nmodel = "x"\n'
    )


def test_a_rule_for_a_virtual_model_is_never_reached() -> None:
    assert complaint(BASE + '[[match]]\ntask_type = "default"\nmodel = "task/*"\n') == snapshot("""\
t.toml:10: match[0].model: no call reaches this rule: a model of this name has declared its type already
    remove the rule\
""")


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ('model = "*"', 'user_id = "x"'),
        ('user_id = "**"', 'model = "x"'),
        ('model = "claude-*"', 'model = "claude-haiku-*"'),
        ('model = "claude-*"', 'model = "claude-?"'),
        ('model = "claude-??"', 'model = "claude-?x"'),
        ('headers.x = "a*"', 'headers.X = "ab"\nmodel = "y"'),
    ],
)
def test_a_rule_behind_a_wider_one_is_never_reached(earlier: str, later: str) -> None:
    text = BASE + "".join(f'[[match]]\ntask_type = "default"\n{rule}\n' for rule in (earlier, later))

    assert complaint(text) == (
        "t.toml:11: match[1]: no call reaches this rule: match[0] matches all that it matches\n"
        "    put the narrower rule first, or remove it"
    )


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ('model = "claude-haiku-*"', 'model = "claude-*"'),
        ('model = "claude-?"', 'model = "claude-*"'),
        ('model = "a*"\nuser_id = "b"', 'model = "ab"'),
        ('headers.x = "a"', 'headers.y = "a"'),
        ('headers.x = "?"', 'model = "a"'),
    ],
)
def test_a_rule_behind_a_narrower_one_is_reached(earlier: str, later: str) -> None:
    text = BASE + "".join(f'[[match]]\ntask_type = "default"\n{rule}\n' for rule in (earlier, later))

    assert len(read(text).policy.rules) == 2


# --- Budgets.


RUN = '[[budgets]]\nscope = "run"\nlimit_usd = "25.00"\n'
"""Three lines: what a test adds to `BASE` and them stands on line 11."""


def test_a_budget_of_a_scope_and_a_limit_is_hard_and_for_a_lifetime() -> None:
    assert read(BASE + RUN).policy.budgets == (
        Budget(
            name="run-lifetime",
            scope="run",
            limit=25_000_000_000,
            window="lifetime",
            hard=True,
            warn_at=(80, 95),
            when_short=("shrink", "refuse"),
        ),
    )


def test_a_budget_needs_a_scope_and_a_limit() -> None:
    assert complaint(BASE + "[[budgets]]\n") == snapshot("""\
t.toml:8: budgets[0]: needs scope
    add scope = "run"
t.toml:8: budgets[0]: needs limit_usd
    add limit_usd = "25.00"\
""")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'name = "Per run"',
            snapshot("""\
t.toml:11: budgets[0].name: "Per run" is not a name: names have small letters, digits and dashes only
    write "per-run"\
"""),
        ),
        (
            'name = "sk-ant-abc_DEF_1"',
            snapshot("""\
t.toml:11: budgets[0].name: "…" is not a name: names have small letters, digits and dashes only
t.toml:11: a credential stands here, and the policy is for everybody to read
    revoke it, and set ANTHROPIC_API_KEY in the environment to another\
"""),
        ),
        (
            'name = "|"',
            snapshot(
                't.toml:11: budgets[0].name: "|" is not a name: names have small letters, digits and dashes only'
            ),
        ),
        ("name = 3", snapshot("t.toml:11: budgets[0].name: must be a name, not 3")),
        (
            'window = "week"',
            snapshot(
                't.toml:11: budgets[0].window: must be "lifetime", "hour", "day" or "month", not "week"'
            ),
        ),
        (
            'window = "days"',
            snapshot("""\
t.toml:11: budgets[0].window: must be "lifetime", "hour", "day" or "month", not "days"
    write "day"\
"""),
        ),
        ('kind = "soft"', snapshot('t.toml:11: budgets[0].kind: must be "hard" or "warn", not "soft"')),
        (
            "warn_at = 80",
            snapshot("""\
t.toml:11: budgets[0].warn_at: must be a list of whole per cents such as [80, 95], not 80
    write [80]\
"""),
        ),
        (
            'warn_at = "80"',
            snapshot(
                't.toml:11: budgets[0].warn_at: must be a list of whole per cents such as [80, 95], not "80"'
            ),
        ),
        (
            "warn_at = [0]",
            snapshot("t.toml:11: budgets[0].warn_at: must have whole numbers from 1 to 100, not 0"),
        ),
        (
            "warn_at = [101]",
            snapshot("t.toml:11: budgets[0].warn_at: must have whole numbers from 1 to 100, not 101"),
        ),
        (
            "warn_at = [80, 0.9]",
            snapshot("t.toml:11: budgets[0].warn_at: must have whole numbers from 1 to 100, not 0.9"),
        ),
        (
            "warn_at = [true]",
            snapshot("t.toml:11: budgets[0].warn_at: must have whole numbers from 1 to 100, not true"),
        ),
        (
            "warn_at = [95, 80, 95]",
            snapshot("""\
t.toml:11: budgets[0].warn_at: must have each number once
    write [80, 95]\
"""),
        ),
        (
            'when_short = "refuse"',
            snapshot("""\
t.toml:11: budgets[0].when_short: must be a list of "shrink", "downgrade", "queue" and "refuse", not "refuse"
    write ["refuse"]\
"""),
        ),
        (
            'when_short = "shrink"',
            (
                't.toml:11: budgets[0].when_short: must be a list of "shrink", "downgrade", "queue" and '
                '"refuse", not "shrink"'
            ),
        ),
        (
            "when_short = []",
            snapshot("""\
t.toml:11: budgets[0].when_short: must end with "refuse"
    write ["refuse"]\
"""),
        ),
        (
            'when_short = ["shrink"]',
            snapshot("""\
t.toml:11: budgets[0].when_short: must end with "refuse"
    write ["shrink", "refuse"]\
"""),
        ),
        (
            'when_short = ["refuse", "shrink"]',
            snapshot("""\
t.toml:11: budgets[0].when_short: must end with "refuse"
    write ["shrink", "refuse"]\
"""),
        ),
        (
            'when_short = ["refuse", "refuse"]',
            snapshot("""\
t.toml:11: budgets[0].when_short: must have each word once
    remove the second of the two\
"""),
        ),
        (
            'when_short = ["shrnk", "refuse"]',
            snapshot("""\
t.toml:11: budgets[0].when_short: must be "shrink", "downgrade", "queue" or "refuse", not "shrnk"
    write "shrink"\
"""),
        ),
        (
            "when_short = [[]]",
            snapshot(
                't.toml:11: budgets[0].when_short: must be "shrink", "downgrade", "queue" or "refuse", not a list'
            ),
        ),
        (
            'key = "a"',
            snapshot("""\
t.toml:11: budgets[0].key: is not known
    the keys in [[budgets]] are name, scope, limit_usd, window, kind, warn_at, when_short, pending_share, only\
"""),
        ),
    ],
)
def test_a_budget_that_says_something_else_is_told_what_it_may_say(line: str, told: str) -> None:
    assert complaint(BASE + RUN + line + "\n") == told


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ('"0"', snapshot('t.toml:10: budgets[0].limit_usd: must be more than zero, not "0"')),
        ("0", snapshot("t.toml:10: budgets[0].limit_usd: must be more than zero, not 0")),
        (
            "2.5",
            snapshot("""\
t.toml:10: budgets[0].limit_usd: must be an amount in quotes such as "4.00", not 2.5
    put it in quotes: "2.5"\
"""),
        ),
        (
            '"$25"',
            snapshot(
                't.toml:10: budgets[0].limit_usd: must be an amount in quotes such as "4.00", not "$25"'
            ),
        ),
        (
            '"0.0000000001"',
            snapshot(
                't.toml:10: budgets[0].limit_usd: must be an amount in quotes such as "4.00", not "0.0000000001"'
            ),
        ),
    ],
)
def test_a_limit_is_an_exact_amount_above_zero(limit: str, told: str) -> None:
    assert complaint(BASE + RUN.replace('"25.00"', limit)) == told


def test_a_limit_may_be_a_single_nanodollar() -> None:
    (budget,) = read(BASE + RUN.replace("25.00", "0.000000001")).policy.budgets

    assert budget.limit == 1


def test_a_budget_of_an_unknown_scope_is_told_the_nearest_one() -> None:
    assert complaint(BASE + RUN.replace('"run"', '"runs"')) == snapshot("""\
t.toml:9: budgets[0].scope: must be "all", "key", "run", "agent", "type" or "task", not "runs"
    write "run"\
""")


def test_a_hard_budget_may_never_warn() -> None:
    (budget,) = read(BASE + RUN + "warn_at = []\n").policy.budgets

    assert budget.warn_at == ()


def test_a_budget_that_only_warns_is_never_short_and_has_to_warn() -> None:
    warns = RUN + 'kind = "warn"\n'

    assert complaint(BASE + warns + 'when_short = ["refuse"]\n') == snapshot("""\
t.toml:12: budgets[0].when_short: has no meaning where kind = "warn": such a budget is never short
    remove the line, or write kind = "hard"\
""")
    assert complaint(BASE + warns + "warn_at = []\n") == snapshot("""\
t.toml:12: budgets[0].warn_at: is empty, and kind = "warn": such a budget does nothing
    write warn_at = [50, 80, 95]\
""")


def test_two_budgets_of_one_name_are_an_error() -> None:
    assert complaint(BASE + RUN + RUN.replace("25", "20")) == snapshot("""\
t.toml:11: budgets[1].name: budgets[0] is called run-lifetime too
    give one of the two another name, such as name = "run-lifetime-2"\
""")
    assert complaint(BASE + RUN + 'name = "a"\n' + RUN + 'name = "a"\n') == snapshot("""\
t.toml:15: budgets[1].name: budgets[0] is called a too
    give one of the two another name, such as name = "a-2"\
""")
    assert complaint(BASE + RUN + RUN.replace('"run"', '"all"') + 'name = "run-lifetime"\n') == snapshot("""\
t.toml:14: budgets[1].name: budgets[0] is called run-lifetime too
    give one of the two another name, such as name = "run-lifetime-2"\
""")


def test_budgets_of_one_scope_may_differ_in_name_or_window() -> None:
    text = BASE + RUN + RUN + 'window = "day"\n' + RUN + 'name = "early"\nkind = "warn"\n'

    names = [budget.name for budget in read(text).policy.budgets]

    assert names == ["run-lifetime", "run-day", "early"]


def test_hard_budgets_under_observe_are_doubtful() -> None:
    warns = RUN + 'name = "w"\nkind = "warn"\n'

    assert doubts('mode = "observe"\n' + BASE + RUN + warns) == snapshot("""\
t.toml:1: mode: changes no call, and budgets hold all the same: run-lifetime
    write kind = "warn" in [[budgets]] where no call is to be refused\
""")
    assert doubts('mode = "observe"\n' + BASE + warns) == ""
    assert doubts(BASE + RUN) == ""


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        (
            '"Europe/Belin"',
            snapshot("""\
t.toml:1: time_zone: must be a time zone such as "Europe/Berlin", not "Europe/Belin"
    write "Europe/Berlin"\
"""),
        ),
        (
            '"utc"',
            snapshot("""\
t.toml:1: time_zone: must be a time zone such as "Europe/Berlin", not "utc"
    write "UTC"\
"""),
        ),
        (
            '"../zone"',
            snapshot("""\
t.toml:1: time_zone: must be a time zone such as "Europe/Berlin", not "../zone"
    write a name such as "America/New_York", or "UTC"\
"""),
        ),
        ("1", snapshot('t.toml:1: time_zone: must be a time zone such as "Europe/Berlin", not 1')),
    ],
)
def test_a_time_zone_that_is_none_is_told_one(zone: str, told: str) -> None:
    assert complaint(f"time_zone = {zone}\n" + BASE) == told


# --- The provider and its prices.


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'base_url = "https://user:pw@example.com"',
            snapshot("""\
t.toml:9: upstream.base_url: must not hold credentials
    set ANTHROPIC_API_KEY in the environment\
"""),
        ),
        (
            'base_url = "example.com"',
            snapshot("""\
t.toml:9: upstream.base_url: must be an http or https address, not "example.com"
    begin it with http:// or https://\
"""),
        ),
        (
            'base_url = "ftp://example.com"',
            snapshot(
                't.toml:9: upstream.base_url: must be an http or https address, not "ftp://example.com"'
            ),
        ),
        (
            'base_url = "https://"',
            snapshot('t.toml:9: upstream.base_url: must be an http or https address, not "https://"'),
        ),
        (
            'base_url = "https://[::1"',
            snapshot('t.toml:9: upstream.base_url: must be an http or https address, not "https://[::1"'),
        ),
        (
            'base_url = "https://example.com:99999"',
            snapshot(
                't.toml:9: upstream.base_url: must be an http or https address, not "https://example.com:99999"'
            ),
        ),
        (
            'base_url = "https://exam ple.com"',
            snapshot(
                't.toml:9: upstream.base_url: must be an http or https address, not "https://exam ple.com"'
            ),
        ),
        (
            'base_url = "https://example.com/?x=1"',
            snapshot(
                "t.toml:9: upstream.base_url: must end with its path: what follows ? or # would be lost"
            ),
        ),
        (
            "base_url = 1",
            snapshot("t.toml:9: upstream.base_url: must be an http or https address, not 1"),
        ),
        (
            'proxy = "http://user:pw@proxy:3128"',
            snapshot("""\
t.toml:9: upstream.proxy: must not hold credentials
    set HTTPS_PROXY in the environment\
"""),
        ),
        (
            'kind = "bedrock"',
            snapshot("""\
t.toml:9: upstream.kind: is not a key here
    Bedrock and Vertex are not supported yet: remove the line to call the Messages API\
"""),
        ),
        (
            'read_timeout = "10"',
            snapshot(
                't.toml:9: upstream.read_timeout: must be a duration such as "90s", "15m" or "1h", not "10"'
            ),
        ),
    ],
)
def test_an_upstream_that_cannot_be_reached_is_an_error(line: str, told: str) -> None:
    assert complaint(BASE + f"[upstream]\n{line}\n") == told


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            'input_usd_per_mtok = "1"',
            snapshot("""\
t.toml:8: prices[0]: needs model
    add model = "claude-haiku-5-5"\
"""),
        ),
        (
            'model = "claude-opus-5-5"\ninput_usd_per_mtok = 0.1',
            snapshot("""\
t.toml:10: prices[0].input_usd_per_mtok: must be an amount in quotes such as "4.00", not 0.1
    put it in quotes: "0.1"\
"""),
        ),
        (
            'model = "claude-opus-5-5"\ninput_usd_per_mtok = "-1"',
            snapshot(
                't.toml:10: prices[0].input_usd_per_mtok: must be an amount in quotes such as "4.00", not "-1"'
            ),
        ),
        (
            'model = "claude-opus-5-5"\ninput_usd_per_mtok = 1e300',
            snapshot(
                't.toml:10: prices[0].input_usd_per_mtok: must be an amount in quotes such as "4.00", not 1e+300'
            ),
        ),
        (
            'model = "claude-opus-5-5"\nfrom = "2026-12-01"',
            snapshot("""\
t.toml:10: prices[0].from: must be a date such as 2026-12-01, not "2026-12-01"
    take the quotes away\
"""),
        ),
        (
            'model = "claude-opus-5-5"\nfrom = 2026-12-01T00:00:00Z',
            snapshot("t.toml:10: prices[0].from: must be a date such as 2026-12-01, not a date with a time"),
        ),
        (
            'model = "new"\ninput_usd_per_mtok = "1"',
            snapshot(
                "t.toml:8: prices[0]: a model without known prices needs `input_usd_per_mtok` and `output_usd_per_mtok`"
            ),
        ),
        (
            'model = "claude-opus-5-5"\nfast.input_usd_per_mtok = "x"',
            snapshot(
                't.toml:10: prices[0].fast.input_usd_per_mtok: must be an amount in quotes such as "4.00", not "x"'
            ),
        ),
        (
            'model = "claude-opus-5-5"\nfast = 1',
            snapshot("""\
t.toml:10: prices[0].fast: must be a table, not 1
    write [prices.fast]\
"""),
        ),
        (
            'model = "claude-opus-5-5"\nlong_prompt.input_usd = "1"',
            snapshot("""\
t.toml:10: prices[0].long_prompt.input_usd: is not known
    did you mean input_usd_per_mtok?\
"""),
        ),
        (
            'model = "claude-opus-5-5"\nlong_prompt.input_usd_per_mtok = "1"',
            snapshot("t.toml:8: prices[0]: `above_prompt_tokens` must be a whole number above zero"),
        ),
    ],
)
def test_a_price_that_is_none_is_an_error(table: str, told: str) -> None:
    assert complaint(BASE + f"[[prices]]\n{table}\n") == told


def test_two_prices_for_one_day_are_an_error() -> None:
    table = '[[prices]]\nmodel = "claude-opus-5-5"\ninput_usd_per_mtok = "1"\n'

    assert complaint(BASE + table + table) == snapshot("""\
t.toml:11: prices[1]: has the model and the day of another table
    keep one of the two\
""")


def test_reading_a_policy_brings_in_no_validation_library() -> None:
    code = "import sys, tierwise.config; print({'msgspec', 'pydantic', 'typer'} & sys.modules.keys())"

    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert seen.stdout == "set()\n"


@pytest.mark.parametrize(("line", "durability"), [("", "kill"), ('durability = "power"\n', "power")])
def test_entries_survive_a_kill_and_a_loss_of_power_where_the_policy_says_so(
    line: str, durability: str
) -> None:
    policy = parse_book(line + TWO_TIERS, file="tierwise.toml").policy

    assert policy.durability == durability


def test_attempts_are_read_from_the_policy() -> None:
    upstream = 'fallback_urls = ["https://b.example/"]\nretries = 0\nretry_for = "1m"\nretry_timeouts = false'
    contract = 'max_tokens = 512\non_truncation = "escalate"\nfallback = "frontier"'
    policy = read(f"{BASE}{contract}\n[upstream]\n{upstream}\n").policy

    found = policy.upstream
    assert (found.fallback_urls, found.addresses) == (("https://b.example",), 2)
    assert (found.retries, found.retry_for_s, found.retry_timeouts) == (0, 60, False)
    assert policy.contracts["default"].on_truncation == "escalate"
    assert policy.contracts["default"].fallback == "frontier"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('fallback = "frontire"', 'there is no tier "frontire"'),
        ('fallback = "fast"', "is the type's own tier"),
        ("[upstream]\nretries = 11", "must be a whole number from 0 to 10"),
        ('[upstream]\nfallback_urls = "https://b.example"', "must be a list of http or https addresses"),
        ('[upstream]\nfallback_urls = ["https://me@b.example"]', "must not hold credentials"),
    ],
)
def test_attempts_that_cannot_be_made_are_an_error(lines: str, said: str) -> None:
    assert said in complaint(f"{BASE}{lines}\n")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('tier = "frontier"\nmax_tokens = 9000\non_truncation = "escalate"', "finds no stronger tier"),
        ('tier = "fast"\non_truncation = "raise-cap"', "does nothing: without max_tokens"),
    ],
)
def test_other_attempts_at_cut_replies_that_come_to_nothing_are_doubted(lines: str, said: str) -> None:
    assert said in doubts(f"{BASE}[task_types.extraction]\n{lines}\n")
