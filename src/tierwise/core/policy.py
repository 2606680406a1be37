"""The policy: tiers, the contracts of task types, match rules. Parsed and checked elsewhere, used here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from tierwise.core.catalog import find, thinking_floor
from tierwise.core.checks import Check
from tierwise.money import Nanos

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: Final[tuple[Effort, ...]] = ("low", "medium", "high", "xhigh", "max")
"""Of Claude models."""
OPENAI_EFFORTS: Final[tuple[Effort, ...]] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""Of the servers that OpenAI's clients call: each of their models takes some."""

CapField: TypeAlias = Literal["max_completion_tokens", "max_tokens"]
"""How Chat Completions spells a cap: the second is the older one, and all that some servers know."""

Thinking: TypeAlias = Literal["off", "adaptive", "keep"]
"""off: not at all, where the model allows it. adaptive: the model decides. keep: as the caller asked."""

Mode: TypeAlias = Literal["route", "observe"]
"""route: decisions act. observe: calls go as asked, and what would have been decided is recorded."""

Durability: TypeAlias = Literal["kill", "power"]
ClientName: TypeAlias = Literal["direct", "aiohttp"]
"""What an entry survives: the end of the process at any moment, or also a loss of power."""

Scope: TypeAlias = Literal["all", "key", "run", "agent", "type", "task"]
Window: TypeAlias = Literal["lifetime", "hour", "day", "month"]
WhenShort: TypeAlias = Literal["shrink", "downgrade", "queue", "refuse"]
"""shrink: the cap is lowered to what is left, where the call's type stays useful. downgrade: the call goes to the
cheaper tier that its contract names, where its conversation is new. queue: it waits for money to come back. refuse:
it is refused."""

PromptBound: TypeAlias = Literal["bytes", "calibrated"]
"""bytes: a prompt has at most as many tokens as bytes. calibrated: as many as the ledger has seen, and half more."""

WhenLost: TypeAlias = Literal["refuse", "allow"]
"""What becomes of calls under hard budgets while the store of the balances cannot be reached."""

OnTruncation: TypeAlias = Literal["return", "raise-cap", "escalate"]
"""What becomes of a whole reply that was cut by its cap. return: the caller gets it. raise-cap: the call is made again
with a larger cap. escalate: so, or on the next stronger tier, whichever is expected to be cheaper."""

DEFAULT_TYPE: Final = "default"
"""The contract of a declared type that the policy does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A named pair of a model and how hard it works."""

    name: str
    model: str
    """The provider's id."""
    effort: Effort | Literal["keep"] | None = None
    """Replaces the caller's; `keep` leaves the caller's; None is the model's own default."""
    thinking: Thinking = "keep"
    thinking_floor: int | None = None
    """Smallest cap that leaves room for thinking, in tokens; None takes the catalogue's."""
    max_tokens: int | None = None
    """Cap of calls that bring none and whose contract has none, in tokens: only OpenAI's clients may bring none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the policy says of one task type."""

    name: str
    tier: str
    """Name of the tier that its calls go to."""
    max_tokens: int | None = None
    """Ceiling of a reply, thinking included, in tokens; None leaves the caller's cap."""
    effort: Literal["keep"] | None = None
    """`keep` leaves the caller's effort, whatever the tier says."""
    thinking: Literal["keep"] | None = None
    """`keep` leaves the caller's thinking, whatever the tier says."""
    mode: Mode | None = None
    """None takes the policy's."""
    min_tokens: int | None = None
    """Smallest cap, in tokens, that a short budget may leave a call; None is a quarter of the cap it asked for."""
    max_cost_nanos: Nanos | None = None
    """Most that one call may cost at its worst; None sets no limit."""
    budgets: "tuple[Budget, ...]" = ()
    """The contract's own: for its calls alone."""
    downgrade_to: str | None = None
    """Name of the cheaper tier that its calls may go to where a budget is short; None: none."""
    task_budget: int | None = None
    """Tokens that the model is told it has for a task, where it can be told; None tells nothing."""
    on_truncation: OnTruncation = "return"
    fallback: str | None = None
    """Name of the tier that a new conversation's call goes to where its own tier's model keeps failing; None: none."""
    description: str | None = None
    """For people: what belongs to this type."""
    shadow: bool = False
    """Whether some of its calls may be made on another tier too, for the audit."""
    margin_points: int | None = None
    """Loss of quality that counts as none, in points of pass rate; None takes the audit's own."""
    check: Check | None = None
    """What a good answer is; None where nothing but equality says it."""
    autopilot: bool | None = None
    """Whether verdicts move its calls by themselves; None takes the audit's own."""
    cascade: bool = False
    """Whether its calls are made on the next cheaper tier first, and on its own where the reply fails the check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRule:
    """A rule that names the type of calls that do not name it themselves; all its conditions must hold."""

    task_type: str
    model: str | None = None
    """Pattern for the requested model; `*` and `?` as in file names."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Pattern for each header, by lower-case name."""
    user_id: str | None = None
    """Pattern for `metadata.user_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit on what the calls of a scope may cost, each of its windows by itself."""

    name: str
    """Names its accounts: a budget that is renamed begins anew."""
    scope: Scope
    limit: int
    """In nanodollars; in calls where it counts calls."""
    counts: Literal["usd", "calls"] = "usd"
    only: str | None = None
    """The task type whose calls it counts; None counts all."""
    window: Window = "lifetime"
    hard: bool = True
    """False where it only warns."""
    warn_at: tuple[int, ...] = (80, 95)
    """Per cent of the limit at which it warns, once each, rising."""
    when_short: tuple[WhenShort, ...] = ("shrink", "refuse")
    pending_share: int = 100
    """Per cent of the limit that the calls of one caller's key may have pending: what it may pin without spending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Whoever holds a key that the gateway knows."""

    name: str
    key_sha256: bytes
    """SHA-256 of its key. A key is 256 random bits, which no search finds: its hash need not be slow."""
    task_types: tuple[str, ...] | None = None
    """Patterns for the task types whose calls it may make; None allows all."""
    undeclared: bool = True
    """Whether it may make calls without a task type, and use what is passed through."""
    budgets: tuple[str, ...] = ()
    """Names of budgets that count its calls, and only those of clients that name them too."""
    note: str | None = None
    """For people: whose it is."""

    @property
    def is_restricted(self) -> bool:
        """Whether there are calls that it may not make."""
        return self.task_types is not None or not self.undeclared

    def may_call(self, task_type: str | None) -> bool:
        """Whether it may make calls under this contract; None is a call without one."""
        if task_type is None:
            return self.undeclared
        return self.task_types is None or any(fnmatchcase(task_type, each) for each in self.task_types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the audit may spend, and how much it asks for."""

    share: int = 2
    """Per cent of the spend that flows into its allowance."""
    most_of_day: int = 15
    """Per cent of a day's spend that it takes at most on one day."""
    credit_days: int = 30
    """Days' worth of the share that it begins with, and holds at most."""
    sample: int = 10
    """Per cent of a type's clusters, runs or conversations, that give a pair each day."""
    error: int = 5
    """Per cent of all claims "proven" that may be wrong."""
    autopilot: bool = False
    """Whether verdicts move calls by themselves."""
    by_batch: bool = False
    """Whether its calls are gathered into Message Batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where calls go."""

    base_url: str = "https://api.anthropic.com"
    proxy: str | None = None
    """Address of an HTTP proxy; None takes `HTTPS_PROXY` and `NO_PROXY` from the environment."""
    ca_file: str | None = None
    """Certificates to trust instead of the system's, PEM."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 600.0
    """Longest silence, between any two bytes of a reply."""
    fallback_urls: tuple[str, ...] = ()
    """Where the API is too: a retry goes to the next of them."""
    retries: int = 2
    """How often a call that fails before its reply begins is made again."""
    retry_for_s: int = 30
    """How long after its reading a call's last retry may begin, in seconds, without silence that ended in a timeout."""
    retry_timeouts: bool = True
    """Whether a call that the provider did not answer in time is made again, though it may bill both."""
    client: ClientName = "direct"
    """What makes the connections. Where a proxy is on the way, aiohttp does."""

    cap_field: CapField = "max_completion_tokens"
    """How a cap is spelled in a Chat Completions call that brings none."""

    @property
    def addresses(self) -> int:
        """How many addresses there are."""
        return 1 + len(self.fallback_urls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy file, parsed and checked. Immutable: a reload makes another."""

    tiers: Mapping[str, Tier]
    """By name, cheapest last: the order of the file is the order of strength, strongest first."""
    contracts: Mapping[str, Contract]
    """By task type."""
    rules: tuple[MatchRule, ...] = ()
    mode: Mode = "route"
    strict: bool = False
    """Whether a declared type that the policy does not know is refused."""
    conversation_ttl_s: int = 3600
    """How long after its last call a conversation keeps its tier, in seconds."""
    durability: Durability = "kill"
    keep_for_s: int = 86_400
    """How long a reservation whose cost is unknown is kept, in seconds, before it is posted as assumed."""
    queue_for_s: int = 10
    """How long a call may wait for money to come back, in seconds."""
    prompt_bound: PromptBound = "bytes"
    count_near_limit: bool = True
    """Whether the provider is asked to count a prompt before a call is cut or refused for it."""
    budget_store: str | None = None
    """Address of the Valkey that holds the balances for several gateways; None: this process does."""
    when_lost: WhenLost = "refuse"
    warn_url: str | None = None
    """Where warnings of budgets are posted."""
    budgets: tuple[Budget, ...] = ()
    clients: tuple[Client, ...] = ()
    """Who may call through a gateway; empty: whoever reaches it."""
    time_zone: str = "UTC"
    """IANA name of the zone whose calendar the budgets' windows follow."""
    upstream: Upstream = field(default_factory=Upstream)
    audit: Audit = field(default_factory=Audit)
    openai: "Policy | None" = None
    """The same policy for OpenAI's clients, with that family's tiers and upstream; None does not serve them."""
    version: str = ""
    """First 12 hex digits of the SHA-256 of the file's bytes: names the policy in every entry."""
    _bound: Mapping[str | None, tuple[Budget, ...]] = field(init=False, repr=False, compare=False)
    """By client, where it names any: what counts its calls. None: what counts all others."""

    def __post_init__(self) -> None:
        """Bind the budgets to the clients that name them, once for all calls."""
        object.__setattr__(self, "_bound", _bound(self.budgets, self.clients))

    @property
    def frontier(self) -> Tier:
        """The strongest tier: the first of the file, the measure of both baselines."""
        return next(iter(self.tiers.values()))

    @property
    def has_budgets(self) -> bool:
        """Whether any call is charged to an account."""
        return bool(self.budgets) or any(contract.budgets for contract in self.contracts.values())

    def budgets_of(self, key_id: str) -> tuple[Budget, ...]:
        """Return those of the policy's own budgets that count the calls of a key, in the order of the file.

        A budget that clients name counts their calls alone; one that none names counts everybody's.

        Args:
            key_id: the client's name; that of a key of nobody's, or none at all, where there are no clients.
        """
        return self._bound.get(key_id, self._bound[None])

    def clients_of(self, budget: Budget) -> tuple[str, ...]:
        """Return the names of the clients whose calls alone a budget counts; empty where it counts everybody's."""
        return tuple(client.name for client in self.clients if budget.name in client.budgets)

    def mode_of(self, contract: Contract) -> Mode:
        """The contract's own mode, else the policy's."""
        return contract.mode or self.mode

    def autopilot_of(self, contract: Contract) -> bool:
        """Whether verdicts move a contract's calls by themselves: only where they are compared."""
        wanted = self.audit.autopilot if contract.autopilot is None else contract.autopilot
        return wanted and contract.shadow


def _bound(budgets: tuple[Budget, ...], clients: tuple[Client, ...]) -> dict[str | None, tuple[Budget, ...]]:
    named = {name for client in clients for name in client.budgets}
    whose: dict[str | None, tuple[str, ...]] = {None: ()}
    whose |= {client.name: client.budgets for client in clients if client.budgets}
    return {
        key_id: tuple(each for each in budgets if each.name not in named or each.name in own)
        for key_id, own in whose.items()
    }


def cap_floor(tier: Tier, contract: Contract) -> int:
    """Return the smallest cap, in tokens, that leaves calls under a contract room to think and to answer.

    The tier's own `thinking_floor` where it has one; 0 where the calls do not think, or the model is not in
    the catalogue.
    """
    if tier.thinking_floor is not None:
        return tier.thinking_floor
    model = find(tier.model)
    if model is None:
        return 0
    effort = contract.effort or tier.effort
    return thinking_floor(
        model,
        effort=None if effort == "keep" else effort,
        thinking=contract.thinking or tier.thinking,
    )
