"""Every exception of Tierwise.

    TierwiseError
    ├── MoneyError            an amount that cannot be money
    ├── PriceDataError        the price data is not usable
    ├── PolicyError           the policy file is wrong; carries every problem found, each with its line
    ├── PolicyNotWritten      a change of the policy file was not made; the file is as it was
    ├── MissingExtra          a command needs a package that is not installed
    ├── MalformedRequest      a body that cannot be read as the call that its path names
    │   └── UnsupportedRequest    a call that may cost money which no entry would tell of
    ├── MalformedOutcome      an outcome that does not say what it is about, or how that came out
    ├── MalformedReport       a file that cannot be read as the provider's report
    ├── MalformedPair         a recorded pair of the audit that cannot be read
    ├── UnknownTaskType       a task type that the policy does not know and has no default for
    ├── NoCap                 a cap that nothing gives: not the caller, the contract or the catalogue
    ├── LedgerError
    │   ├── LedgerUnavailable     the ledger cannot be written now: disk full, locked, gone
    │   ├── LedgerTooNew          the file was written by a newer Tierwise
    │   └── LedgerInUse           another process holds the budgets of this ledger
    ├── BudgetStoreError
    │   ├── BudgetStoreUnavailable    the shared balances cannot be used now
    │   ├── BudgetStoreUnfit          the server of the shared balances is not set up to hold money
    │   └── AmountTooLarge            a limit or a claim that shared balances cannot count exactly
    ├── CannotListen          the gateway's address cannot be listened on
    ├── NeedsBudgetStore      several processes are to hold one set of balances, and nothing shares them
    ├── NeedsProviderKey      the policy has clients, and the gateway no key of its own for the provider
    ├── UnsafeKey             the provider's key cannot be taken from where it is
    ├── NoSession             an outcome is told, and not one session is open, or several are
    ├── NeedsLedger           the policy has budgets, and nothing records what counts against them
    ├── CallerGone            whoever made the call no longer takes the reply
    └── UpstreamError         the provider gave no reply
        ├── UpstreamUnreachable   no connection: the call was not sent
        ├── UpstreamDropped       connected, and closed before the reply's end
        └── UpstreamTimeout       connected, and then nothing in time

An outcome that a caller must handle is not here: it is a value in a return type (`Ineligible`, `Refusal`).
Each class's docstring is its message; its fields say the rest.
"""

from dataclasses import dataclass, field


class TierwiseError(Exception):
    """Something in Tierwise failed."""

    def __str__(self) -> str:
        """The message: what the fields say, or the docstring."""
        return self.describe()

    def describe(self) -> str:
        """Say in one sentence what failed; subclasses add their fields."""
        return (self.__doc__ or "").split("\n")[0]


@dataclass(kw_only=True, eq=False)
class MoneyError(TierwiseError):
    """An amount that cannot be money."""

    amount: str
    why: str

    def describe(self) -> str:
        """The amount and what is wrong with it."""
        return f"{self.amount!r} {self.why}"


@dataclass(kw_only=True, eq=False)
class PriceDataError(TierwiseError):
    """The price data is not usable."""

    where: str
    why: str

    def describe(self) -> str:
        """The row and what is wrong with it."""
        return f"price data, {self.where}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyProblem:
    """One thing wrong with a policy file."""

    path: str
    """The key's path, dotted: `task_types.extraction.tier`."""
    line: int | None
    """Line in the file, counted from 1; None where the file has none (a missing table)."""
    message: str
    """What is wrong."""
    fix: str | None = None
    """What to write instead, where it can be told."""

    def describe(self, file: str, *, kind: str | None = None) -> str:
        """Write it as compilers do: `file:line: kind: path: message`, and the fix below."""
        where = file if self.line is None else f"{file}:{self.line}"
        text = ": ".join(part for part in (where, kind, self.path, self.message) if part)
        return text if self.fix is None else f"{text}\n    {self.fix}"


@dataclass(kw_only=True, eq=False)
class PolicyError(TierwiseError):
    """The policy file is wrong."""

    file: str
    problems: tuple[PolicyProblem, ...] = field(default_factory=tuple)

    def describe(self) -> str:
        """Every problem on its own line, as compilers print them: file, line, message, fix."""
        return "\n".join(problem.describe(self.file) for problem in self.problems)


@dataclass(kw_only=True, eq=False)
class PolicyNotWritten(TierwiseError):
    """A change of the policy file was not made: the file is as it was."""

    file: str
    why: str

    def describe(self) -> str:
        """The file and what was in the way."""
        return f"{self.file}: nothing was written: {self.why}"


@dataclass(kw_only=True, eq=False)
class MissingExtra(TierwiseError):
    """A command needs a package that is not installed."""

    package: str
    extra: str
    """The extra of Tierwise that brings it."""

    def describe(self) -> str:
        """The package and how to get it."""
        return f'this needs {self.package}: pip install "tierwise[{self.extra}]"'


@dataclass(kw_only=True, eq=False)
class MalformedRequest(TierwiseError):
    """A body that cannot be read as the call that its path names."""

    why: str

    def describe(self) -> str:
        """What could not be read."""
        return self.why


class UnsupportedRequest(MalformedRequest):
    """A call that may cost money which no entry would tell of."""


@dataclass(kw_only=True, eq=False)
class MalformedOutcome(TierwiseError):
    """An outcome that does not say what it is about, or how that came out."""

    why: str

    def describe(self) -> str:
        """What is wrong with it."""
        return self.why


@dataclass(kw_only=True, eq=False)
class MalformedReport(TierwiseError):
    """A provider's report cannot be read."""

    file: str
    where: str
    """Its place: a line, a path."""
    why: str
    fix: str

    def describe(self) -> str:
        """The file, the place, what is wrong and what to do."""
        return f"{self.file}: {self.where}: {self.why}\n    {self.fix}"


@dataclass(kw_only=True, eq=False)
class MalformedPair(TierwiseError):
    """A recorded pair cannot be read."""

    file: str
    line: int
    """Counted from 1."""
    why: str
    fix: str

    def describe(self) -> str:
        """The file, the line, what is wrong and what to do."""
        return f"{self.file}: line {self.line}: {self.why}\n    {self.fix}"


@dataclass(kw_only=True, eq=False)
class UnknownTaskType(TierwiseError):
    """The policy has no such task type, and no default contract for it."""

    task_type: str
    nearest: str | None
    """What was probably meant."""
    known: tuple[str, ...]

    def describe(self) -> str:
        """The type, what was probably meant, and the types there are."""
        meant = f"Did you mean {self.nearest!r}? " if self.nearest else ""
        return f"The policy has no task type {self.task_type!r}. {meant}It knows: {', '.join(self.known)}."


@dataclass(kw_only=True, eq=False)
class NoCap(TierwiseError):
    """A cap is needed and nothing gives one."""

    task_type: str
    model: str

    def describe(self) -> str:
        """Where a cap may come from."""
        return (
            f"{self.task_type} has no max_tokens and {self.model} is not in the catalogue: "
            "give max_tokens in the call or in the policy"
        )


class LedgerError(TierwiseError):
    """The ledger failed."""


@dataclass(kw_only=True, eq=False)
class LedgerUnavailable(LedgerError):
    """The ledger cannot be written now."""

    path: str
    why: str

    def describe(self) -> str:
        """The ledger's place and what the system said."""
        return f"the ledger {self.path} cannot be used: {self.why}"


@dataclass(kw_only=True, eq=False)
class LedgerTooNew(LedgerError):
    """The ledger was written by a newer Tierwise."""

    path: str
    found: int
    known: int

    def describe(self) -> str:
        """Both schema versions and what to do."""
        return (
            f"the ledger {self.path} has schema version {self.found}, this Tierwise knows up to {self.known}: "
            "use the newer Tierwise that wrote it, or another file"
        )


@dataclass(kw_only=True, eq=False)
class LedgerInUse(LedgerError):
    """Another process holds the budgets of this ledger."""

    path: str
    holder: str
    """Its process id; empty where it has not said."""

    def describe(self) -> str:
        """Who holds them and what to do."""
        who = f"process {self.holder}" if self.holder else "another process"
        return (
            f"the budgets of the ledger {self.path} are held by {who}: balances are kept in one process, so a second "
            "gateway would spend every limit twice. Stop the other, or give this one a --ledger of its own"
        )


@dataclass(kw_only=True, eq=False)
class CannotListen(TierwiseError):
    """The gateway's address cannot be listened on."""

    address: str
    why: str

    def describe(self) -> str:
        """The address, why not, and what to try."""
        return f"{self.address} cannot be listened on: {self.why}; try another --host or --port"


@dataclass(kw_only=True, eq=False)
class NeedsBudgetStore(TierwiseError):
    """Several processes are to hold one set of balances, and nothing shares them."""

    workers: int

    def describe(self) -> str:
        """The line that is missing."""
        return (
            f"the policy has budgets, and {self.workers} workers would each spend every limit: add the line "
            'budget_store = "valkey://127.0.0.1:6379" to the policy, or start one worker'
        )


class NeedsProviderKey(TierwiseError):
    """The policy has clients, and the gateway has no key of its own for the provider."""

    def describe(self) -> str:
        """What is missing."""
        return (
            "the policy has [[clients]], whose keys do not go to the provider, and the gateway has none of its own: "
            "set ANTHROPIC_API_KEY, or ANTHROPIC_API_KEY_FILE to the path of a file that holds it"
        )


@dataclass(kw_only=True, eq=False)
class UnsafeKey(TierwiseError):
    """The provider's key cannot be taken from where it is."""

    where: str
    why: str
    fix: str

    def describe(self) -> str:
        """The place, what is wrong with it and what to do."""
        return f"{self.where} {self.why}\n    {self.fix}"


class NeedsLedger(TierwiseError):
    """The policy has hard budgets, and what counts against them is not recorded."""

    def describe(self) -> str:
        """What is missing, and what to write."""
        return (
            "the policy has hard budgets, which hold only where every call is recorded: give a ledger, "
            'such as ledger="tierwise.sqlite3"'
        )


@dataclass(kw_only=True, eq=False)
class NoSession(TierwiseError):
    """An outcome is told, and it is not clear to which session."""

    sessions: int

    def describe(self) -> str:
        """How many there are, and what to write."""
        return f"{self.sessions or 'no'} sessions are open here: give the one whose ledger takes it, as session=…"


class CallerGone(TierwiseError):
    """Whoever made the call no longer takes the reply."""


@dataclass(kw_only=True, eq=False)
class UpstreamError(TierwiseError):
    """The provider gave no reply."""

    why: str

    def describe(self) -> str:
        """The docstring's sentence and what the network said."""
        return f"{(self.__doc__ or '').rstrip('.')}: {self.why}"


class UpstreamUnreachable(UpstreamError):
    """The provider could not be reached."""


class UpstreamDropped(UpstreamError):
    """The provider closed the connection."""


class UpstreamTimeout(UpstreamError):
    """The provider did not answer in time."""


class BudgetStoreError(TierwiseError):
    """The shared balances failed."""


@dataclass(kw_only=True, eq=False)
class BudgetStoreUnavailable(BudgetStoreError):
    """The shared balances cannot be used now."""

    address: str
    why: str

    def describe(self) -> str:
        """The server's address and what it or the network said."""
        return f"the balances at {self.address} cannot be used: {self.why}"


@dataclass(kw_only=True, eq=False)
class BudgetStoreUnfit(BudgetStoreError):
    """The server of the shared balances is not set up to hold money."""

    address: str
    why: str

    def describe(self) -> str:
        """The server's address and what is to be changed there."""
        return f"the server at {self.address} cannot hold balances: {self.why}"


@dataclass(kw_only=True, eq=False)
class AmountTooLarge(BudgetStoreError):
    """A limit or a claim that shared balances cannot count exactly."""

    amount: int
    """In the account's unit."""
    largest: int

    def describe(self) -> str:
        """Both amounts."""
        return f"{self.amount} is more than {self.largest}, up to which shared balances are exact"
