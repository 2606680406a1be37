"""Days of the fleet, replayed: real calls through the real gateway, by a clock that is moved.

A day is a part of one of the fleet's, at the fleet's own pace: so many tasks of its 10,000 from midnight on, and then
the clock is moved to the next midnight. Its runs are shorter in the same measure, so that there are as many of them: a
run gives one pair a day and type. Allowances, plans, holdbacks, caches and conversations go by the moved clock.
"""

import re
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from tierwise.cli.audit_moves import Proposal, proposal_of
from tierwise.cli.demo.agents import do_tasks
from tierwise.cli.demo.clock import StagedClock
from tierwise.cli.demo.day_figures import DayFigures, DaysFigures, day_figures, found_types
from tierwise.cli.demo.staged import Staged, staged_gateway
from tierwise.config import load_book
from tierwise.core.policy import Policy
from tierwise.errors import PolicyError, PolicyProblem
from tierwise.sandbox import fleet as fleets
from tierwise.sandbox.fleet import Fleet, PlannedTask
from tierwise.sandbox.server import Running, running_process
from tierwise.stores.ledger.pairs import DAY_US
from tierwise.stores.ledger.reports import report
from tierwise.stores.ledger.sqlite import open_ledger, read_ledger

FLEET_TASKS: Final = 10_000
"""Tasks of one of the fleet's days."""
FIRST_DAY: Final = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp()) * 1_000_000 // DAY_US
"""The first day that is replayed, in days since 1970: always the same one, for draws and prices go by the day."""
WITHIN_S: Final = 10.0
"""How long the ledger may take to hold what the provider has billed, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is replayed."""

    days: int
    tasks: int
    """A day."""
    agents: int
    seed: int

    @property
    def fleet(self) -> Fleet:
        """The fleet of the package, with as many runs a day as on one of its own days."""
        fleet = fleets.load()
        runs = FLEET_TASKS // fleet.tasks_per_run
        return msgspec.structs.replace(fleet, tasks_per_run=max(1, self.tasks // runs))

    @property
    def step_us(self) -> int:
        """How much later the clock is after each task."""
        return DAY_US // max(self.tasks, FLEET_TASKS)


def audited_policy(text: str) -> str:
    """The fleet's policy with the audit: each type that has a contract of its own is compared, and verdicts act.

    A right answer of the fleet begins with a digit up to 7, and a wrong one does not: that is what the check knows.
    """
    compared = re.sub(r"(?m)^(\[task_types\.(?!default\]).*\])$", rf"\1\n{_COMPARED}", text)
    return f"{compared}\n{_AUDIT}"


_COMPARED: Final = """shadow = true
quality.check = "regex:^answer: [0-7]\""""

_AUDIT: Final = """[audit]
autopilot = true
sample = 50
"""


def fleet_policy() -> str:
    """The policy that the days are replayed under, unless another one is given."""
    return audited_policy(files("tierwise.data").joinpath("fleet-policy.toml").read_text("utf-8"))


def replay(
    replayed: Replay, *, policy: Path, ledger: Path, folder: Path, told: Callable[[DayFigures], None]
) -> DaysFigures:
    """Let the fleet work for some days; `told` is called after each.

    Args:
        replayed: which days.
        policy: the policy file.
        ledger: where to make the ledger.
        folder: for the clock.
        told: is told each day's figures.

    Raises:
        anthropic.APIError: a call failed, after the SDK's own retries.
        GatewayDidNotStart: the gateway ended before it took calls.
    """
    began = time.monotonic()
    clock = StagedClock(folder / "clock", at_us=FIRST_DAY * DAY_US)
    _make_ledger(ledger, replayed.seed)
    with _staged(replayed, clock, policy=policy, ledger=ledger) as (sandbox, gateway):
        stage = _Stage(replayed, clock, sandbox, gateway, policy=load_book(policy).policy, ledger=ledger)
        days: list[DayFigures] = []
        for number, tasks in enumerate(_planned(replayed), start=1):
            days.append(stage.day(number, tasks, before=days[-1].verdicts if days else {}))
            told(days[-1])
        provider_nanos = sandbox.billing()["total_nanos"]
    proposal, stuck = _proposal(policy, stage.policy, ledger, at_us=clock.now_us)
    with closing(read_ledger(ledger)) as reader:
        types = found_types(
            reader, stage.policy, replayed.fleet, days, at_us=clock.now_us, first_day=FIRST_DAY
        )
    return DaysFigures(
        seed=replayed.seed,
        agents=replayed.agents,
        seconds=time.monotonic() - began,
        days=tuple(days),
        types=types,
        provider_nanos=provider_nanos,
        policy_diff=proposal.diff,
        moves=tuple(_moves(proposal)),
        stuck=stuck,
    )


@contextmanager
def _staged(
    replayed: Replay, clock: StagedClock, *, policy: Path, ledger: Path
) -> Generator[tuple[Running, Staged]]:
    with (
        running_process("--seed", str(replayed.seed), "--clock", str(clock.file)) as sandbox,
        staged_gateway(policy=policy, ledger=ledger, upstream=sandbox.base_url, clock=clock.file) as gateway,
    ):
        yield sandbox, gateway


class _Stage:
    """The sandbox and the gateway, and the clock that both go by."""

    def __init__(
        self,
        replayed: Replay,
        clock: StagedClock,
        sandbox: Running,
        gateway: Staged,
        *,
        policy: Policy,
        ledger: Path,
    ) -> None:
        self.policy = policy
        self._replayed = replayed
        self._clock = clock
        self._sandbox = sandbox
        self._gateway = gateway
        self._ledger = ledger

    def day(self, number: int, tasks: list[PlannedTask], *, before: Mapping[str, str]) -> DayFigures:
        """Replay one day, from its midnight to the evening's look."""
        day = FIRST_DAY + number - 1
        self._clock.move(day * DAY_US)
        self._gateway.look()
        self._work(tasks)
        self._gateway.look()
        self._settle()
        with closing(read_ledger(self._ledger)) as reader:
            return day_figures(
                reader,
                self.policy,
                at_us=self._clock.now_us,
                day=day,
                number=number,
                tasks=len(tasks),
                before=before,
            )

    def _work(self, tasks: list[PlannedTask]) -> None:
        """Let the agents do a day's tasks; the clock goes on with each."""

        def done(_: PlannedTask) -> None:
            self._clock.move(self._clock.now_us + self._replayed.step_us)

        uvloop.run(do_tasks(tasks, base_url=self._gateway.address, agents=self._replayed.agents, done=done))

    def _settle(self) -> None:
        """Wait until the ledger holds every call that the provider has billed: it is written beside the calls."""
        billed, until = self._sandbox.billing()["calls"], time.monotonic() + WITHIN_S
        with closing(read_ledger(self._ledger)) as reader:
            while report(reader).total.finished < billed and time.monotonic() < until:
                time.sleep(0.005)


def _planned(replayed: Replay) -> Iterator[list[PlannedTask]]:
    """Each day's tasks."""
    tasks = fleets.plan(replayed.fleet, replayed.days * replayed.tasks, replayed.seed)
    for number in range(replayed.days):
        yield tasks[number * replayed.tasks : (number + 1) * replayed.tasks]


def _make_ledger(path: Path, seed: int) -> None:
    """Make a ledger with an id of the seed: by it the gateway draws what is compared and what is held back."""
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        name = blake2b(f"tierwise demo {seed}".encode(), digest_size=8).hexdigest()
        connection.execute("UPDATE ledger SET id = ?", (name,))


def _proposal(
    file: Path, policy: Policy, ledger: Path, *, at_us: int
) -> tuple[Proposal, tuple[PolicyProblem, ...]]:
    """What the verdicts ask for in the policy file; and what is in the way of more, which a person is to decide."""
    try:
        return proposal_of(file, str(ledger), provisional=True, at_us=at_us), ()
    except PolicyError as error:
        stuck = {problem.path.split(".")[1] for problem in error.problems}
        others = policy.contracts.keys() - stuck
        return proposal_of(file, str(ledger), provisional=True, only=others, at_us=at_us), error.problems


def _moves(proposal: Proposal) -> Iterator[tuple[str, str, str, str]]:
    for move in proposal.moves:
        yield move.task_type, move.from_tier, move.to_tier, move.why
