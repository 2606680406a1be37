"""The policy file's tables and keys, described once: reader, schema and reference page all follow this."""

from decimal import Decimal
from typing import Final, Literal

from tierwise.config.addresses import Address
from tierwise.config.audit_keys import AUDIT, QUALITY, SHADOW, SHADOW_ON
from tierwise.config.budget_keys import (
    BUDGET_STORE,
    BUDGET_STORE_LOST,
    BUDGETS,
    COUNT_NEAR_LIMIT,
    DOWNGRADE_TO,
    KEEP_FOR,
    MAX_CALLS,
    PROMPT_BOUND,
    QUEUE_FOR,
    TASK_BUDGET,
    TYPE_BUDGET,
    WARN_URL,
)
from tierwise.config.client_keys import CLIENTS
from tierwise.config.kinds import Amount, Duration, Flag, Pattern, Text, TextTable, Whole, Word, Zone
from tierwise.config.openai_keys import (
    CAP_FIELD,
    OPENAI_BASE_URL,
    OPENAI_FALLBACK_URLS,
    OPENAI_TIERS,
    TRANSLATE,
)
from tierwise.config.price_keys import FAST_MODE, LONG_PROMPT, PRICES
from tierwise.config.retry_keys import (
    CASCADE,
    FALLBACK,
    FALLBACK_URLS,
    ON_TRUNCATION,
    RETRIES,
    RETRY_FOR,
    RETRY_TIMEOUTS,
)
from tierwise.config.tables import REQUIRED, Key, Table
from tierwise.core.policy import EFFORTS, ClientName, Durability, Effort, Mode, Thinking

MODE: Final[Key[Mode]] = Key(
    name="mode",
    kind=Word(("route", "observe")),
    meaning="`route`: decisions act. `observe`: every call goes as it was asked, and the ledger records what "
    "would have been decided; calls that name a virtual model are routed, and budgets hold, all the same.",
    example='"observe"',
    absent='"route"',
)
STRICT: Final[Key[bool]] = Key(
    name="strict",
    kind=Flag(),
    meaning="Whether a declared task type that the policy does not know is refused, instead of getting the "
    "contract `[task_types.default]`.",
    example="true",
    absent="false",
)
DURABILITY: Final[Key[Durability]] = Key(
    name="durability",
    kind=Word(("kill", "power")),
    meaning="What an entry of the ledger survives once its call goes on: `kill`, the end of the process at any "
    "moment; `power`, also a loss of power, for which each batch of entries is brought to the disk. Read at a start.",
    example='"power"',
    absent='"kill"',
)
CONVERSATION_TTL: Final[Key[int]] = Key(
    name="conversation_ttl",
    kind=Duration(),
    meaning="How long after its last call a conversation keeps its tier.",
    example='"30m"',
    absent='"1h"',
)
TIME_ZONE: Final[Key[str]] = Key(
    name="time_zone",
    kind=Zone(),
    meaning="The zone, by its IANA name, whose calendar the windows of budgets follow.",
    example='"UTC"',
    absent='"UTC"',
)

MODEL: Final[Key[str]] = Key(
    name="model",
    kind=Text(noun="a model's id"),
    meaning="The provider's id of the model.",
    example='"claude-opus-5-5"',
    absent=REQUIRED,
)
EFFORT: Final[Key[Effort | Literal["keep"]]] = Key(
    name="effort",
    kind=Word((*EFFORTS, "keep")),
    meaning="How hard the model works. It replaces the caller's; `keep` leaves the caller's.",
    example='"medium"',
    absent="the model's own default",
)
THINKING: Final[Key[Thinking]] = Key(
    name="thinking",
    kind=Word(("off", "adaptive", "keep")),
    meaning="`off`: the model answers without thinking, where it can. `adaptive`: it thinks as much as it "
    "finds useful. `keep`: as the caller asks.",
    example='"adaptive"',
    absent='"keep"',
)
THINKING_FLOOR: Final[Key[int]] = Key(
    name="thinking_floor",
    kind=Whole(),
    meaning="Smallest `max_tokens` that leaves this tier room to think and to answer: less is an error.",
    example="4096",
    absent="the catalogue's, by effort; none where thinking is off",
)

TIER: Final[Key[str]] = Key(
    name="tier",
    kind=Text(noun="a tier's name"),
    meaning="The tier that calls of this type go to.",
    example='"fast"',
    absent=REQUIRED,
)
MAX_TOKENS: Final[Key[int]] = Key(
    name="max_tokens",
    kind=Whole(),
    meaning="Ceiling of a reply in tokens, thinking included. What is sent is the smaller of this and the "
    "caller's; the model never sees it, and a reply that reaches it is cut.",
    example="4096",
    absent="the caller's cap",
)
KEEP_EFFORT: Final[Key[Literal["keep"]]] = Key(
    name="effort",
    kind=Word(("keep",)),
    meaning="`keep` leaves the caller's effort, whatever the tier says.",
    example='"keep"',
    absent="the tier's",
    advice='effort belongs to a tier: set it there, or write "keep" to leave the caller\'s',
)
KEEP_THINKING: Final[Key[Literal["keep"]]] = Key(
    name="thinking",
    kind=Word(("keep",)),
    meaning="`keep` leaves the caller's thinking, whatever the tier says.",
    example='"keep"',
    absent="the tier's",
    advice='thinking belongs to a tier: set it there, or write "keep" to leave the caller\'s',
)
MIN_TOKENS: Final[Key[int]] = Key(
    name="min_tokens",
    kind=Whole(),
    meaning="Smallest cap, in tokens, that a short budget may leave a call: where less is left, the call is "
    "refused.",
    example="1024",
    absent="a quarter of the cap that the call asked for",
)
MAX_COST: Final[Key[Decimal]] = Key(
    name="max_cost_usd",
    kind=Amount(above_zero=True),
    meaning="Most that one call may cost, in dollars, at its worst: with a reply as long as its cap.",
    example='"0.50"',
    absent="no limit",
)
TYPE_MODE: Final[Key[Mode]] = Key(
    name="mode",
    kind=Word(("route", "observe")),
    meaning="Routes or observes this type alone.",
    example='"observe"',
    absent="the top level's",
)
DESCRIPTION: Final[Key[str]] = Key(
    name="description",
    kind=Text(),
    meaning="What belongs to this type, for the people who read the policy and its reports.",
    example='"Named fields out of a text."',
    absent="none",
)

TASK_TYPE: Final[Key[str]] = Key(
    name="task_type",
    kind=Text(noun="a task type's name"),
    meaning="The type of the calls that this rule recognises.",
    example='"extraction"',
    absent=REQUIRED,
)
MATCH_MODEL: Final[Key[str]] = Key(
    name="model",
    kind=Pattern(),
    meaning="Pattern for the model that the call asks for.",
    example='"claude-haiku-*"',
    absent="any",
)
MATCH_USER_ID: Final[Key[str]] = Key(
    name="user_id",
    kind=Pattern(),
    meaning="Pattern for `metadata.user_id`.",
    example='"batch-*"',
    absent="any",
)
MATCH_HEADERS: Final[Key[dict[str, object]]] = Key(
    name="headers",
    kind=TextTable(Pattern()),
    meaning="A pattern for each of these request headers. Capitals make no difference in a header's name.",
    example='{ x-team = "billing*" }',
    absent="any",
)

BASE_URL: Final[Key[str]] = Key(
    name="base_url",
    kind=Address(),
    meaning="Where the Messages API is.",
    example='"https://api.anthropic.com"',
    absent='"https://api.anthropic.com"',
)
PROXY: Final[Key[str]] = Key(
    name="proxy",
    kind=Address(where_credentials_go="set HTTPS_PROXY in the environment"),
    meaning="HTTP proxy on the way to it.",
    example='"http://proxy.internal:3128"',
    absent="`HTTPS_PROXY` and `NO_PROXY` of the environment",
)
CA_FILE: Final[Key[str]] = Key(
    name="ca_file",
    kind=Text(noun="a file's path"),
    meaning="PEM file of the certificates to trust instead of the system's.",
    example='"/etc/ssl/company.pem"',
    absent="the system's",
)
CONNECT_TIMEOUT: Final[Key[int]] = Key(
    name="connect_timeout",
    kind=Duration(),
    meaning="Longest wait for a connection.",
    example='"5s"',
    absent='"10s"',
)
READ_TIMEOUT: Final[Key[int]] = Key(
    name="read_timeout",
    kind=Duration(),
    meaning="Longest silence between any two bytes of a reply.",
    example='"15m"',
    absent='"10m"',
)
CLIENT: Final[Key[ClientName]] = Key(
    name="client",
    kind=Word(("direct", "aiohttp")),
    meaning="What makes the connections: `direct`, Tierwise's own client, or `aiohttp`, which takes more CPU time a "
    "call. Where a proxy is on the way, aiohttp makes them anyway. Read at a start.",
    example='"aiohttp"',
    absent='"direct"',
)

TIERS: Final = Table(
    name="tiers",
    shape="named",
    meaning="A tier is a model and how hard it works. The order of the file is the order of strength, "
    "strongest first; the first tier is the frontier, on which the reports' baselines are measured.",
    keys=(MODEL, EFFORT, THINKING, THINKING_FLOOR),
    example='[tiers.frontier]\nmodel = "claude-opus-5-5"\neffort = "medium"\n',
    planned=("budget", "inference_geo", "speed"),
    elsewhere=(
        ("fallback", "it is said of a task type: move it to [task_types.NAME]"),
        ("max_tokens", "a cap belongs to a task type: move it to [task_types.NAME]"),
        TRANSLATE,
    ),
)
TASK_TYPES: Final = Table(
    name="task_types",
    shape="named",
    meaning="The contract of one task type. `[task_types.default]` is the contract of a declared type that "
    "has none of its own.",
    keys=(
        TIER,
        MAX_TOKENS,
        MIN_TOKENS,
        MAX_COST,
        MAX_CALLS,
        DOWNGRADE_TO,
        TASK_BUDGET,
        KEEP_EFFORT,
        KEEP_THINKING,
        TYPE_MODE,
        SHADOW,
        SHADOW_ON,
        DESCRIPTION,
        ON_TRUNCATION,
        CASCADE,
        FALLBACK,
    ),
    example='[task_types.extraction]\ntier = "fast"\nmax_tokens = 1024\n'
    'description = "Named fields out of a text."\n',
    parts=(TYPE_BUDGET, QUALITY),
    planned=("holdback", "record_text"),
    elsewhere=(
        ("budgets", "write budget, or [[budgets]] at the top"),
        ("model", 'a contract names a tier, and the tier names the model: write tier = "…"'),
    ),
)
MATCH: Final = Table(
    name="match",
    shape="listed",
    meaning="Names the task type of calls that do not name it themselves. A rule needs at least one "
    "condition, and all of them must hold; the first rule that holds decides. In a pattern `*` stands for "
    "any characters and `?` for one.",
    keys=(TASK_TYPE, MATCH_MODEL, MATCH_USER_ID, MATCH_HEADERS),
    example='[[match]]\ntask_type = "extraction"\nheaders.x-team = "billing*"\n',
    needs_one_of=("model", "user_id", "headers"),
    elsewhere=(
        ("agent", "match a header: headers.x-tierwise-agent"),
        ("metadata", "match user_id: the provider's metadata has no other field"),
    ),
)
UPSTREAM: Final = Table(
    name="upstream",
    shape="one",
    meaning="Where calls go. Credentials are not here: calls bring theirs, or `ANTHROPIC_API_KEY` holds one.",
    keys=(
        BASE_URL,
        PROXY,
        CA_FILE,
        CONNECT_TIMEOUT,
        READ_TIMEOUT,
        FALLBACK_URLS,
        RETRIES,
        RETRY_FOR,
        RETRY_TIMEOUTS,
        CLIENT,
    ),
    example='[upstream]\nproxy = "http://proxy.internal:3128"\nread_timeout = "15m"\n',
    planned=("on_cancel", "project", "region"),
    elsewhere=(
        ("kind", "Bedrock and Vertex are not supported yet: remove the line to call the Messages API"),
        TRANSLATE,
    ),
)
OPENAI: Final = Table(
    name="openai",
    shape="one",
    meaning="Serves OpenAI's clients, on `/v1/chat/completions` and `/v1/responses`, with an OpenAI-compatible server. "
    "Their calls have the same task types, contracts and budgets as all others, and tiers of their own. Credentials "
    "are not here: calls bring theirs, or `OPENAI_API_KEY` holds one.",
    keys=(
        OPENAI_BASE_URL,
        OPENAI_FALLBACK_URLS,
        CAP_FIELD,
        PROXY,
        CA_FILE,
        CONNECT_TIMEOUT,
        READ_TIMEOUT,
        RETRIES,
        RETRY_FOR,
        RETRY_TIMEOUTS,
    ),
    parts=(OPENAI_TIERS,),
    example='[openai]\nbase_url = "https://api.openai.com/v1"\n',
    elsewhere=(TRANSLATE,),
)

TOP: Final = Table(
    name="",
    shape="top",
    meaning="What holds for every call.",
    keys=(
        MODE,
        STRICT,
        DURABILITY,
        CONVERSATION_TTL,
        TIME_ZONE,
        KEEP_FOR,
        QUEUE_FOR,
        PROMPT_BOUND,
        COUNT_NEAR_LIMIT,
        BUDGET_STORE,
        BUDGET_STORE_LOST,
        WARN_URL,
    ),
    example='mode = "route"\nconversation_ttl = "1h"\n',
    parts=(TIERS, TASK_TYPES, MATCH, BUDGETS, AUDIT, CLIENTS, UPSTREAM, OPENAI, PRICES),
    planned=(
        "autopilot",
        "cascade",
        "dashboard",
        "gateway",
        "holdback",
        "ledger",
        "on_cancel",
        "record_text",
        "telemetry",
    ),
    elsewhere=(
        ("budget", "write [[budgets]], or put it into [task_types.NAME]"),
        ("on_truncation", "it is for the calls of one task type: move it to [task_types.NAME]"),
        ("retries", "move it to [upstream]"),
        ("max_cost_usd", "it is for the calls of one task type: move it to [task_types.NAME]"),
        ("quality", "it is for one task type: move it to [task_types.NAME]"),
        ("shadow", "it is for one task type: move it to [task_types.NAME]"),
        TRANSLATE,
    ),
)

TABLES: Final = (
    TOP,
    TIERS,
    TASK_TYPES,
    TYPE_BUDGET,
    QUALITY,
    MATCH,
    BUDGETS,
    AUDIT,
    CLIENTS,
    UPSTREAM,
    OPENAI,
    OPENAI_TIERS,
    PRICES,
    LONG_PROMPT,
    FAST_MODE,
)
"""All of them, in the order in which they are explained."""
