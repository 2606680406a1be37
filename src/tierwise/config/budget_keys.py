"""The keys of budgets and of what goes with them, described once: `[[budgets]]`, those of a type, of all calls."""

from decimal import Decimal
from typing import Final, Literal

from tierwise.config.addresses import Address, StoreAddress
from tierwise.config.kinds import Amount, Duration, Flag, Name, Percents, Text, Whole, Word, Words
from tierwise.config.tables import REQUIRED, Key, Table
from tierwise.core.policy import PromptBound, Scope, WhenLost, WhenShort, Window

_WHEN_SHORT: Final[Words[WhenShort]] = Words(("shrink", "downgrade", "queue", "refuse"))

KEEP_FOR: Final[Key[int]] = Key(
    name="keep_for",
    kind=Duration(
        least="1h", why_least='write "1h" or more: no call runs for so long, so none is posted while it runs'
    ),
    meaning="How long what was set aside for a call whose cost stays unknown is kept, in case its cost is learned. "
    "Then it is posted as assumed, at the call's worst case.",
    example='"48h"',
    absent='"24h"',
)
QUEUE_FOR: Final[Key[int]] = Key(
    name="queue_for",
    kind=Duration(),
    meaning="Longest time that a call waits for money to come back, where a budget's `when_short` has `queue`.",
    example='"30s"',
    absent='"10s"',
)
PROMPT_BOUND: Final[Key[PromptBound]] = Key(
    name="prompt_bound",
    kind=Word(("bytes", "calibrated")),
    meaning="How many tokens a prompt is taken to have at most. `bytes`: one for each byte, which is certain. "
    "`calibrated`: half more than the highest ratio that the ledger has seen for the model, once it has seen enough "
    "calls; a prompt unlike all before may pass it, and shows as overrun.",
    example='"calibrated"',
    absent='"bytes"',
)
COUNT_NEAR_LIMIT: Final[Key[bool]] = Key(
    name="count_near_limit",
    kind=Flag(),
    meaning="Whether the provider is asked to count the prompt, which is free, before a call is cut or refused for "
    "what its prompt may cost at most.",
    example="false",
    absent="true",
)
BUDGET_STORE: Final[Key[str]] = Key(
    name="budget_store",
    kind=StoreAddress(),
    meaning="The Valkey or Redis that holds the balances for several gateways or workers: "
    "`valkey://HOST:PORT/DB`, `valkeys://HOST:PORT/DB` for TLS, or `unix:///PATH`. Its user and password belong in "
    "`TIERWISE_VALKEY_USER` and `TIERWISE_VALKEY_PASSWORD`. Read at a start.",
    example='"valkeys://valkey.internal:6379"',
    absent="each process holds its own, and only one may",
)
BUDGET_STORE_LOST: Final[Key[WhenLost]] = Key(
    name="budget_store_lost",
    kind=Word(("refuse", "allow")),
    meaning="What becomes of calls under hard budgets while the store cannot be reached. `refuse`: nothing is sent. "
    "`allow`: they go, and the budgets may be overspent.",
    example='"allow"',
    absent='"refuse"',
)
WARN_URL: Final[Key[str]] = Key(
    name="warn_url",
    kind=Address(where_credentials_go="set TIERWISE_WARN_URL in the environment", whole=True),
    meaning="Where each warning of a budget is posted, as JSON. An address that is a secret belongs in "
    "`TIERWISE_WARN_URL`.",
    example='"https://hooks.example.com/tierwise"',
    absent="`TIERWISE_WARN_URL` of the environment; else warnings are only logged",
)

MAX_CALLS: Final[Key[int]] = Key(
    name="max_calls",
    kind=Whole("calls", most=1_000_000_000),
    meaning="Most calls of one task, by its id in `x-tierwise-task-id`. Calls of a run without an id share one "
    "count.",
    example="40",
    absent="no limit",
)
DOWNGRADE_TO: Final[Key[str]] = Key(
    name="downgrade_to",
    kind=Text(noun="a tier's name"),
    meaning="The cheaper tier that calls of this type go to where a budget is short whose `when_short` has "
    "`downgrade`. Only new conversations are moved.",
    example='"fast"',
    absent="calls are not moved",
)
TASK_BUDGET: Final[Key[int]] = Key(
    name="task_budget",
    kind=Whole("tokens", least=20_000),
    meaning="Tokens that the model is told it has for a task, where it can be told and the caller tells it none. "
    "The model paces itself by it; it is no limit.",
    example="50000",
    absent="nothing is told",
    advice="write at least 20000, as the provider asks, or remove the line",
)

PER_RUN: Final[Key[Decimal]] = Key(
    name="per_run_usd",
    kind=Amount(above_zero=True),
    meaning="Dollars that the type's calls may cost in one run.",
    example='"2.00"',
    absent="no limit",
)
PER_TASK: Final[Key[Decimal]] = Key(
    name="per_task_usd",
    kind=Amount(above_zero=True),
    meaning="Dollars that the type's calls may cost in one task, by its id. Calls of a run without an id share one "
    "account.",
    example='"0.50"',
    absent="no limit",
)
TYPE_WHEN_SHORT: Final[Key[tuple[WhenShort, ...]]] = Key(
    name="when_short",
    kind=_WHEN_SHORT,
    meaning="What is tried where less is left than a call may cost, as in `[[budgets]]`; for both.",
    example='["downgrade", "shrink", "refuse"]',
    absent='["shrink", "refuse"]',
)

BUDGET_NAME: Final[Key[str]] = Key(
    name="name",
    kind=Name(),
    meaning="Names the budget in refusals and reports. What is spent is kept by this name: a budget that is "
    "renamed begins anew.",
    example='"per-run"',
    absent="SCOPE-WINDOW, such as `run-lifetime`",
)
BUDGET_SCOPE: Final[Key[Scope]] = Key(
    name="scope",
    kind=Word(("all", "key", "run", "agent", "type", "task")),
    meaning="Whose calls share the limit: all there are, or those of each caller's key, of each run, agent, "
    "task type or task. Runs, agents and tasks of different keys are different.",
    example='"run"',
    absent=REQUIRED,
)
BUDGET_LIMIT: Final[Key[Decimal]] = Key(
    name="limit_usd",
    kind=Amount(above_zero=True),
    meaning="Dollars that they may cost in each window.",
    example='"25.00"',
    absent=REQUIRED,
)
BUDGET_WINDOW: Final[Key[Window]] = Key(
    name="window",
    kind=Word(("lifetime", "hour", "day", "month")),
    meaning="When the limit begins anew: never, or with each hour, day or month of `time_zone`.",
    example='"day"',
    absent='"lifetime"',
)
BUDGET_KIND: Final[Key[Literal["hard", "warn"]]] = Key(
    name="kind",
    kind=Word(("hard", "warn")),
    meaning="`hard`: no call leaves whose worst case does not fit. `warn`: it only warns.",
    example='"hard"',
    absent='"hard"',
)
BUDGET_WARN_AT: Final[Key[tuple[int, ...]]] = Key(
    name="warn_at",
    kind=Percents(),
    meaning="Per cent of the limit at which it warns, once each in a window.",
    example="[50, 80, 95]",
    absent="[80, 95]",
)
BUDGET_WHEN_SHORT: Final[Key[tuple[WhenShort, ...]]] = Key(
    name="when_short",
    kind=_WHEN_SHORT,
    meaning="What is tried, in this order, where less is left than a call may cost. `shrink`: its cap is "
    "lowered to what is left, down to the type's `min_tokens`. `downgrade`: it goes to the type's `downgrade_to`, "
    "where its conversation is new. `queue`: it waits up to `queue_for` for money to come back. `refuse`, always the "
    "last: nothing is sent.",
    example='["refuse"]',
    absent='["shrink", "refuse"]',
)
BUDGET_PENDING_SHARE: Final[Key[int]] = Key(
    name="pending_share",
    kind=Whole("per cents", most=100),
    meaning="Per cent of the limit that the calls of one caller's key may have set aside at once, so that no caller "
    "pins a shared budget without spending it. A single call whose worst case is above the share does not fit.",
    example="25",
    absent="`50` where the scope is `all` or `type`, else `100`",
)
BUDGET_ONLY: Final[Key[str]] = Key(
    name="only",
    kind=Text(noun="a task type's name"),
    meaning="Counts only the calls of this task type.",
    example='"extraction"',
    absent="all calls of the scope",
)

TYPE_BUDGET: Final = Table(
    name="task_types.NAME.budget",
    shape="one",
    meaning="What the calls of one task type may cost in one run and in one task: hard budgets of a lifetime, called "
    "`NAME.per-run` and `NAME.per-task`, beside those of `[[budgets]]`.",
    keys=(PER_RUN, PER_TASK, TYPE_WHEN_SHORT),
    example='[task_types.synthesis]\ntier = "frontier"\nbudget.per_run_usd = "2.00"\n',
    needs_one_of=("per_run_usd", "per_task_usd"),
)
BUDGETS: Final = Table(
    name="budgets",
    shape="listed",
    meaning="Limits what calls may cost. A call's worst case is set aside in every budget that it belongs to "
    "before it leaves, and what it did not need is given back when it has ended.",
    keys=(
        BUDGET_NAME,
        BUDGET_SCOPE,
        BUDGET_LIMIT,
        BUDGET_WINDOW,
        BUDGET_KIND,
        BUDGET_WARN_AT,
        BUDGET_WHEN_SHORT,
        BUDGET_PENDING_SHARE,
        BUDGET_ONLY,
    ),
    example='[[budgets]]\nscope = "run"\nlimit_usd = "25.00"\n',
)
