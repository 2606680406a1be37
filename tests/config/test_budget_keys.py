import re
from dataclasses import replace
from decimal import Decimal

import pytest
from inline_snapshot import snapshot

from tierwise.config import Book, parse_book
from tierwise.config.addresses import Address, StoreAddress
from tierwise.config.kinds import Amount, Misfit
from tierwise.core.policy import Budget, Policy
from tierwise.errors import PolicyError
from tierwise.money import usd
from tierwise.stores.budgets.address import parse_address

TIERS = """\
[tiers.frontier]
model = "claude-opus-5-5"
[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"
"""
"""Five lines."""

BASE = TIERS + '[task_types.default]\ntier = "frontier"\nmax_tokens = 8192\n'
"""Eight lines: what a test adds begins on line 9, in the default contract."""

ALL = '[[budgets]]\nscope = "all"\nlimit_usd = "25.00"\n'
"""Three lines: what a test adds to `BASE` and them stands on line 12."""

DOWN = 'downgrade_to = "fast"\n'
MOVES = 'when_short = ["downgrade", "refuse"]\n'


def read(text: str) -> Book:
    return parse_book(text, file="t.toml")


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        read(text)
    return str(caught.value)


def doubts(text: str) -> str:
    return str(PolicyError(file="t.toml", problems=read(text).warnings))


def default_budgets(lines: str) -> tuple[Budget, ...]:
    return read(BASE + lines).policy.contracts["default"].budgets


# --- What holds for all budgets.


def test_what_a_file_leaves_out_is_as_the_policy_has_it() -> None:
    policy, plain = read(BASE).policy, Policy(tiers={}, contracts={})

    assert replace(policy, version="", tiers={}, contracts={}) == plain
    contract = policy.contracts["default"]
    assert (contract.budgets, contract.downgrade_to, contract.task_budget) == ((), None, None)


def test_the_terms_of_all_budgets_are_what_the_file_says() -> None:
    policy = read(
        'keep_for = "1h"\nqueue_for = "30s"\nprompt_bound = "calibrated"\ncount_near_limit = false\n'
        'budget_store = "valkeys://valkey.internal:6380/2"\nbudget_store_lost = "allow"\n'
        'warn_url = "https://hooks.example.com/a/?b=c"\n' + BASE
    ).policy

    assert (policy.keep_for_s, policy.queue_for_s) == (3600, 30)
    assert (policy.prompt_bound, policy.count_near_limit) == ("calibrated", False)
    assert (policy.budget_store, policy.when_lost) == ("valkeys://valkey.internal:6380/2", "allow")
    assert policy.warn_url == "https://hooks.example.com/a/?b=c"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'keep_for = "59m"',
            snapshot("""\
t.toml:1: keep_for: must be at least "1h", not "59m"
    write "1h" or more: no call runs for so long, so none is posted while it runs\
"""),
        ),
        (
            'keep_for = "0s"',
            snapshot("""\
t.toml:1: keep_for: must be at least "1h", not "0s"
    write "1h" or more: no call runs for so long, so none is posted while it runs\
"""),
        ),
        (
            "keep_for = 86400",
            snapshot("""\
t.toml:1: keep_for: must be a duration such as "90s", "15m" or "1h", not 86400
    write its unit: "86400s"\
"""),
        ),
        (
            'keep_for = "400d"',
            snapshot('t.toml:1: keep_for: must be between one second and a year, not "400d"'),
        ),
        (
            'queue_for = "0s"',
            snapshot('t.toml:1: queue_for: must be between one second and a year, not "0s"'),
        ),
        (
            'prompt_bound = "byte"',
            snapshot("""\
t.toml:1: prompt_bound: must be "bytes" or "calibrated", not "byte"
    write "bytes"\
"""),
        ),
        ("count_near_limit = 1", snapshot("t.toml:1: count_near_limit: must be true or false, not 1")),
        (
            'budget_store_lost = "refused"',
            snapshot("""\
t.toml:1: budget_store_lost: must be "refuse" or "allow", not "refused"
    write "refuse"\
"""),
        ),
        (
            "budget_store = true",
            snapshot('t.toml:1: budget_store: must be an address such as "valkey://valkey:6379", not true'),
        ),
        (
            'budget_store = "valkey://user:pw@valkey"',
            snapshot("""\
t.toml:1: budget_store: must not hold credentials
    set TIERWISE_VALKEY_USER and TIERWISE_VALKEY_PASSWORD in the environment\
"""),
        ),
        (
            'budget_store = "redis://valkey?password=pw"',
            snapshot("""\
t.toml:1: budget_store: must not hold credentials
    set TIERWISE_VALKEY_USER and TIERWISE_VALKEY_PASSWORD in the environment\
"""),
        ),
        (
            'budget_store = "valkey.internal:6379"',
            snapshot("""\
t.toml:1: budget_store: must be an address such as "valkey://valkey:6379", not "valkey.internal:6379"
    begin it with valkey://, or with valkeys:// for TLS\
"""),
        ),
        (
            'budget_store = "http://valkey.internal"',
            snapshot("""\
t.toml:1: budget_store: must be an address such as "valkey://valkey:6379", not "http://valkey.internal"
    write valkey://HOST:PORT/DB, or valkeys://HOST:PORT/DB for TLS\
"""),
        ),
        (
            'budget_store = "unix://run/valkey.sock"',
            snapshot("""\
t.toml:1: budget_store: must be an address such as "valkey://valkey:6379", not "unix://run/valkey.sock"
    write unix:///PATH, or unix:///PATH?db=DB\
"""),
        ),
        (
            'budget_store = "/run/valkey.sock"',
            snapshot("""\
t.toml:1: budget_store: must be an address such as "valkey://valkey:6379", not "/run/valkey.sock"
    begin the path of a socket with unix://\
"""),
        ),
        (
            'budget_store = "valkey://valkey:99999"',
            snapshot("""\
t.toml:1: budget_store: must be an address such as "valkey://valkey:6379", not "valkey://valkey:99999"
    write valkey://HOST:PORT/DB, or valkeys://HOST:PORT/DB for TLS\
"""),
        ),
        ("warn_url = 1", snapshot("t.toml:1: warn_url: must be an http or https address, not 1")),
        (
            'warn_url = "hooks.example.com"',
            snapshot("""\
t.toml:1: warn_url: must be an http or https address, not "hooks.example.com"
    begin it with http:// or https://\
"""),
        ),
        (
            'warn_url = "https://user:pw@hooks.example.com"',
            snapshot("""\
t.toml:1: warn_url: must not hold credentials
    set TIERWISE_WARN_URL in the environment\
"""),
        ),
        ('warn_url = "https://hooks.example.com/#a"', snapshot("t.toml:1: warn_url: must end before the #")),
    ],
)
def test_a_term_of_all_budgets_that_cannot_be_is_told_what_it_may_be(line: str, told: str) -> None:
    assert complaint(line + "\n" + BASE) == told


STORES = [
    "valkey://valkey",
    "valkeys://valkey.internal:6380/2",
    "redis://127.0.0.1:6379/",
    "rediss://[::1]:6379/0",
    "unix:///run/valkey/valkey.sock",
    "unix:///run/valkey.sock?db=1",
]


@pytest.mark.parametrize("address", STORES)
def test_the_address_of_a_store_is_one_that_the_store_takes(address: str) -> None:
    assert StoreAddress().read(address) == address
    assert parse_address(address).text == address


@pytest.mark.parametrize(
    "address",
    [
        *STORES,
        "valkey://",
        "valkey://:6379",
        "valkey://a:x",
        "valkey://a/b",
        "valkey://a?db=1",
        "valkey://a b",
        "valkey://p@a",
        "tcp://a",
        "unix://a/b",
        "unix:///a?b=1",
        "",
    ],
)
def test_the_schema_takes_the_addresses_of_stores_that_are_read(address: str) -> None:
    is_read = not isinstance(StoreAddress().read(address), Misfit)

    assert bool(re.search(StoreAddress().schema()["pattern"], address)) == is_read


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("end", ["", "/", "/a?b=c", "?b", "/#c", "/a b", "@b"])
def test_the_schema_takes_the_addresses_that_are_read(*, whole: bool, end: str) -> None:
    kind = Address(whole=whole)

    is_read = not isinstance(kind.read(f"https://example.com{end}"), Misfit)

    assert bool(re.search(kind.schema()["pattern"], f"https://example.com{end}")) == is_read


def test_a_store_that_is_lost_without_being_there_is_doubtful() -> None:
    lost = 'budget_store_lost = "allow"\n' + BASE

    assert doubts(lost) == snapshot("""\
t.toml:1: budget_store_lost: is never used: without budget_store this process has the balances, and cannot lose them
    remove the line, or add budget_store\
""")
    assert doubts('budget_store = "valkey://valkey"\n' + lost) == ""


def test_every_limit_is_a_number_that_a_store_can_count() -> None:
    highest = Decimal("999999.999999999")

    assert Amount().read(str(highest)) == highest
    assert isinstance(Amount().read("1000000"), Misfit)
    assert usd(highest) < 2**53  # it computes in doubles


# --- Budgets of a task type.


def test_a_task_type_may_have_budgets_of_its_own() -> None:
    lines = 'max_calls = 40\nbudget.per_task_usd = 1\nbudget.per_run_usd = "2.00"\n'

    assert default_budgets(lines) == (
        Budget(name="default.per-run", scope="run", limit=usd(2), only="default"),
        Budget(name="default.per-task", scope="task", limit=usd(1), only="default"),
        Budget(
            name="default.max-calls",
            scope="task",
            limit=40,
            counts="calls",
            only="default",
            warn_at=(),
            when_short=("refuse",),
        ),
    )


def test_a_task_type_may_say_what_its_budgets_do_when_short() -> None:
    lines = (
        'max_calls = 1\nbudget = { per_run_usd = 1, per_task_usd = 1, when_short = ["queue", "refuse"] }\n'
    )

    assert [budget.when_short for budget in default_budgets(lines)] == [
        ("queue", "refuse"),
        ("queue", "refuse"),
        ("refuse",),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "max_calls = 0",
            snapshot(
                "t.toml:9: task_types.default.max_calls: must be a whole number from 1 to 1,000,000,000, not 0"
            ),
        ),
        (
            'max_calls = "4"',
            snapshot("""\
t.toml:9: task_types.default.max_calls: must be a whole number of calls, not "4"
    take the quotes away\
"""),
        ),
        (
            "max_calls = 1.5",
            snapshot("t.toml:9: task_types.default.max_calls: must be a whole number of calls, not 1.5"),
        ),
        (
            "budget = 1",
            snapshot("""\
t.toml:9: task_types.default.budget: must be a table, not 1
    write [task_types.NAME.budget]\
"""),
        ),
        (
            "budget = {}",
            snapshot("t.toml:9: task_types.default.budget: needs at least one of per_run_usd, per_task_usd"),
        ),
        (
            'budget.when_short = ["refuse"]',
            snapshot("t.toml:9: task_types.default.budget: needs at least one of per_run_usd, per_task_usd"),
        ),
        (
            "budget.per_run_usd = 0",
            snapshot("t.toml:9: task_types.default.budget.per_run_usd: must be more than zero, not 0"),
        ),
        (
            "budget.per_run_usd = 0.5",
            snapshot("""\
t.toml:9: task_types.default.budget.per_run_usd: must be an amount in quotes such as "4.00", not 0.5
    put it in quotes: "0.5"\
"""),
        ),
        (
            "budget.per_day_usd = 1\nbudget.per_run_usd = 1",
            snapshot("""\
t.toml:9: task_types.default.budget.per_day_usd: is not known
    did you mean per_task_usd?\
"""),
        ),
        (
            'budget.per_run_usd = 1\nbudget.when_short = ["wait"]',
            (
                't.toml:10: task_types.default.budget.when_short: must be "shrink", "downgrade", "queue" or '
                '"refuse", not "wait"'
            ),
        ),
        (
            "budgets.per_run_usd = 1",
            snapshot("""\
t.toml:9: task_types.default.budgets: is not a key here
    write budget, or [[budgets]] at the top\
"""),
        ),
        (
            "task_budget = 19999",
            snapshot("""\
t.toml:9: task_types.default.task_budget: must be a whole number from 20,000 to 10,000,000, not 19999
    write at least 20000, as the provider asks, or remove the line\
"""),
        ),
        (
            'task_budget = "20000"',
            snapshot("""\
t.toml:9: task_types.default.task_budget: must be a whole number of tokens, not "20000"
    take the quotes away\
"""),
        ),
    ],
)
def test_a_budget_of_a_type_that_cannot_be_is_told_what_it_may_be(line: str, told: str) -> None:
    assert complaint(BASE + line + "\n") == told


def test_a_budget_at_the_top_is_told_where_it_goes() -> None:
    assert complaint('[budget]\nper_run_usd = "1"\n' + BASE) == snapshot("""\
t.toml:1: budget: is not a key here
    write [[budgets]], or put it into [task_types.NAME]\
""")


def test_a_task_budget_is_told_to_models_that_take_it() -> None:
    book = read(BASE + "task_budget = 20_000\n")

    assert book.policy.contracts["default"].task_budget == 20_000
    assert book.warnings == ()


def test_a_task_budget_that_the_model_is_not_told_is_doubtful() -> None:
    old = BASE.replace("claude-opus-5-5", "claude-opus-4-6") + "task_budget = 20_000\n"
    new = BASE.replace("claude-opus-5-5", "new") + "task_budget = 20_000\n"
    price = '[[prices]]\nmodel = "new"\ninput_usd_per_mtok = "1"\noutput_usd_per_mtok = "90"\n'

    assert doubts(old) == snapshot("""\
t.toml:9: task_types.default.task_budget: is not told to claude-opus-4-6, which takes none
    remove the line, or use a tier whose model takes one\
""")
    assert doubts(new + price) == snapshot("""\
t.toml:2: tiers.frontier.model: "new" has a price and is not in the catalogue: bodies go to it as they are
t.toml:9: task_types.default.task_budget: is not told to new, which is not in the catalogue
    remove the line, or use a tier whose model takes one\
""")


# --- Where calls go when a budget is short.


def test_a_contract_may_name_a_cheaper_tier_and_a_budget_send_calls_there() -> None:
    book = read(BASE + DOWN + ALL + 'when_short = ["queue", "downgrade", "shrink", "refuse"]\n')

    assert book.policy.contracts["default"].downgrade_to == "fast"
    assert book.policy.budgets[0].when_short == ("queue", "downgrade", "shrink", "refuse")
    assert book.warnings == ()


def test_calls_are_moved_to_a_tier_that_is_there_and_cheaper() -> None:
    on_fast = BASE.replace('tier = "frontier"', 'tier = "fast"')

    assert complaint(BASE + 'downgrade_to = "fst"\n') == snapshot("""\
t.toml:9: task_types.default.downgrade_to: there is no tier "fst"
    did you mean fast?\
""")
    assert complaint(BASE + 'downgrade_to = "frontier"\n') == snapshot("""\
t.toml:9: task_types.default.downgrade_to: frontier is the type's own tier
    name a later tier of the file: fast\
""")
    assert complaint(on_fast + DOWN) == snapshot("""\
t.toml:9: task_types.default.downgrade_to: fast is the type's own tier
    remove the line: no tier is cheaper\
""")
    assert complaint(on_fast + 'downgrade_to = "frontier"\n') == snapshot("""\
t.toml:9: task_types.default.downgrade_to: frontier is stronger than fast
    remove the line: no tier is cheaper\
""")
    assert complaint(BASE + "downgrade_to = 1\n") == snapshot(
        "t.toml:9: task_types.default.downgrade_to: must be a tier's name, not 1"
    )


def test_a_missing_tier_is_told_once() -> None:
    assert complaint(BASE.replace('tier = "frontier"', 'tier = "x"') + DOWN) == snapshot("""\
t.toml:7: task_types.default.tier: there is no tier "x"
    the tiers are frontier, fast\
""")


@pytest.mark.parametrize(
    ("fast", "told"),
    [
        (
            'model = "claude-haiku-5-5"',
            snapshot("""\
t.toml:9: task_types.default.downgrade_to: max_tokens = 256 leaves no room to think on fast, which needs 2048 or more
    raise max_tokens to 2048, or set thinking = "off" in [tiers.fast]\
"""),
        ),
        (
            'model = "claude-haiku-5-5"\nthinking_floor = 900',
            snapshot("""\
t.toml:10: task_types.default.downgrade_to: max_tokens = 256 leaves no room to think on fast, which needs 900 or more
    raise max_tokens to 900, or lower thinking_floor in [tiers.fast]\
"""),
        ),
        (
            'model = "claude-opus-5-5"\neffort = "low"',
            snapshot("""\
t.toml:10: task_types.default.downgrade_to: max_tokens = 256 leaves no room to think on fast, which needs 1024 or more
    raise max_tokens to 1024\
"""),
        ),
    ],
)
def test_the_cheaper_tier_must_leave_room_to_think_too(fast: str, told: str) -> None:
    strong = '[tiers.frontier]\nmodel = "claude-opus-5"\nthinking = "off"\n'
    contract = '[task_types.default]\ntier = "frontier"\nmax_tokens = 256\n'

    assert complaint(f"{strong}[tiers.fast]\n{fast}\n{contract}{DOWN}") == told


def test_downgrades_that_never_happen_are_doubtful() -> None:
    other = '[task_types.other]\ntier = "frontier"\nmax_tokens = 8192\n' + DOWN

    assert doubts(BASE + ALL + MOVES) == snapshot("""\
t.toml:12: budgets[0].when_short: has downgrade, and no task type has downgrade_to: no call is moved
    add downgrade_to = "TIER" to [task_types.NAME], or remove the word\
""")
    assert doubts(BASE + other + ALL + MOVES + 'only = "default"\n') == snapshot("""\
t.toml:12: task_types.other.downgrade_to: is never used: no budget of these calls has downgrade in when_short
    write when_short = ["downgrade", "refuse"] in a budget of these calls, or remove the line
t.toml:16: budgets[0].when_short: has downgrade, and the type default has no downgrade_to: no call is moved
    add downgrade_to = "TIER" to [task_types.default], or remove the word\
""")
    assert doubts(BASE + DOWN + ALL) == snapshot("""\
t.toml:9: task_types.default.downgrade_to: is never used: no budget of these calls has downgrade in when_short
    write when_short = ["downgrade", "refuse"] in a budget of these calls, or remove the line\
""")
    assert doubts(BASE + DOWN + "budget.per_run_usd = 1\n" + f"budget.{MOVES}") == ""
    assert doubts(BASE + "budget.per_run_usd = 1\n" + f"budget.{MOVES}") == snapshot("""\
t.toml:10: task_types.default.budget.when_short: has downgrade, and the type has no downgrade_to: no call is moved
    add downgrade_to = "TIER" to the type, or remove the word\
""")


# --- What [[budgets]] count, and what one caller may pin.


@pytest.mark.parametrize(
    ("scope", "share"), [("all", 50), ("type", 50), ("key", 100), ("run", 100), ("agent", 100), ("task", 100)]
)
def test_one_caller_may_pin_half_of_a_budget_that_callers_share(scope: str, share: int) -> None:
    text = BASE + ALL.replace('"all"', f'"{scope}"')

    (budget,) = read(text).policy.budgets
    (said,) = read(text + "pending_share = 25\n").policy.budgets
    (warns,) = read(text + 'kind = "warn"\n').policy.budgets

    assert (budget.pending_share, said.pending_share, warns.pending_share) == (share, 25, 100)


def test_a_budget_may_count_one_task_type_only() -> None:
    (budget,) = read(BASE + ALL + 'only = "default"\n').policy.budgets

    assert budget.only == "default"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "pending_share = 0",
            snapshot("t.toml:12: budgets[0].pending_share: must be a whole number from 1 to 100, not 0"),
        ),
        (
            "pending_share = 101",
            snapshot("t.toml:12: budgets[0].pending_share: must be a whole number from 1 to 100, not 101"),
        ),
        (
            "pending_share = 0.5",
            snapshot("t.toml:12: budgets[0].pending_share: must be a whole number of per cents, not 0.5"),
        ),
        (
            'pending_share = "50"',
            snapshot("""\
t.toml:12: budgets[0].pending_share: must be a whole number of per cents, not "50"
    take the quotes away\
"""),
        ),
        (
            'kind = "warn"\npending_share = 50',
            snapshot("""\
t.toml:13: budgets[0].pending_share: has no meaning where kind = "warn": such a budget is never short
    remove the line, or write kind = "hard"\
"""),
        ),
        (
            'only = "defalt"',
            snapshot("""\
t.toml:12: budgets[0].only: there is no task type "defalt"
    did you mean default?\
"""),
        ),
        ("only = 1", snapshot("t.toml:12: budgets[0].only: must be a task type's name, not 1")),
    ],
)
def test_a_budget_is_told_what_it_may_count_and_share(line: str, told: str) -> None:
    assert complaint(BASE + ALL + line + "\n") == told


def test_budgets_of_task_types_under_observe_are_doubtful() -> None:
    own = "max_calls = 4\nbudget.per_run_usd = 1\n"

    assert doubts('mode = "observe"\n' + BASE + own) == snapshot("""\
t.toml:1: mode: changes no call, and budgets hold all the same: default.per-run, default.max-calls
    remove budget and max_calls of the type where no call is to be refused\
""")
    assert doubts('mode = "observe"\n' + BASE + own + ALL) == snapshot("""\
t.toml:1: mode: changes no call, and budgets hold all the same: all-lifetime, default.per-run, default.max-calls
    write kind = "warn" in [[budgets]] and remove budget and max_calls of the type where no call is to be refused\
""")
