"""Where the audit stands by a ledger: all pairs, read and looked at together with the policy and its traffic."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from tierwise.audit.acting import alarmed_lines, remembered
from tierwise.audit.standings import Audit, Traffic, stand
from tierwise.audit.tasks import Task
from tierwise.audit.verdicts import Rules
from tierwise.core.policy import Policy
from tierwise.engine.shadowing import margin_of
from tierwise.money import Nanos
from tierwise.stores.ledger.acts import acts
from tierwise.stores.ledger.pairs import DAY_US, DaySpend, evidence, is_audit, spend
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.tasks import finished_tasks

NOTHING_CLAIMED: Final[Mapping[str, float]] = MappingProxyType({})

LOOKS_BACK_DAYS: Final = 7
"""The days before today over which a type's traffic is averaged."""


def audit_of(
    ledger: Reader,
    policy: Policy,
    *,
    at_us: int,
    claimed: Mapping[str, float] = NOTHING_CLAIMED,
    costed: Collection[str] | None = None,
) -> Audit:
    """Look at all evidence of a ledger.

    Args:
        ledger: to read.
        policy: of now.
        at_us: now, in microseconds since 1970 UTC.
        claimed: the ln E of lines that are declared and not yet in the ledger.
        costed: the types whose finished tasks are read, which takes a while; None reads those of all that have pairs.
    """
    today = at_us // DAY_US
    with ledger.snapshot():
        found = evidence(ledger)
        acted = acts(ledger)
        spent = spend(ledger, since_day=today - LOOKS_BACK_DAYS)
        paired = {pair.task_type for pair in found.pairs}
        wanted = paired if costed is None else paired.intersection(costed)
        tasks = tasks_of(ledger, wanted, policy, until_us=at_us)
    return stand(
        found.pairs,
        {**claimed, **found.frozen},
        traffic=traffic_of(spent, today=today),
        margins={name: margin_of(contract) for name, contract in policy.contracts.items()},
        rules=Rules(alpha=policy.audit.error / 100),
        remembered=remembered(acted),
        closed=alarmed_lines(acted),
        tasks=tasks,
    )


def tasks_of(ledger: Reader, types: Iterable[str], policy: Policy, *, until_us: int) -> list[Task]:
    """Read the finished tasks of some types; a task is over when its conversation would be."""
    return finished_tasks(ledger, types, until_us=until_us, idle_us=policy.conversation_ttl_s * 1_000_000)


def traffic_of(spent: Iterable[DaySpend], *, today: int) -> dict[str, Traffic]:
    """Average each type over the whole days that have any calls; over today so far where there are none."""
    own = [one for one in spent if not is_audit(one)]
    whole = [one for one in own if one.day < today] or own
    days = len({one.day for one in whole})
    calls: defaultdict[str, int] = defaultdict(int)
    costs: defaultdict[str, Nanos] = defaultdict(int)
    for one in whole:
        calls[one.task_type] += one.calls
        costs[one.task_type] += one.cost_nanos
    return {
        name: Traffic(calls=count / days, spend_nanos=costs[name] // days) for name, count in calls.items()
    }
