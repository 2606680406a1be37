"""The plan of a day, out of a ledger: by the pairs and the spend of the days before."""

from typing import Final

from tierwise.audit.acting import alarmed_lines, remembered
from tierwise.audit.allowance import LOOKS_BACK_DAYS, replay
from tierwise.audit.dayplan import FEWEST, DayPlan, clusters_a_day, plan_rates
from tierwise.audit.standings import Audit, stand
from tierwise.audit.verdicts import Rules
from tierwise.core.policy import Policy
from tierwise.engine.purse import days_of, terms_of
from tierwise.engine.shadowing import margin_of
from tierwise.engine.standing import LOOKS_BACK_DAYS as TRAFFIC_DAYS
from tierwise.engine.standing import tasks_of, traffic_of
from tierwise.stores.ledger.acts import acts
from tierwise.stores.ledger.pairs import DAY_US, evidence, spend
from tierwise.stores.ledger.query import Reader


def day_plan(ledger: Reader, policy: Policy, *, day: int) -> DayPlan:
    """Plan a day by what was known when it began.

    Args:
        ledger: to read.
        policy: of now.
        day: in days since 1970.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    begin_us = day * DAY_US
    with ledger.snapshot():
        found = evidence(ledger)
        spent = [one for one in spend(ledger, since_day=day - LOOKS_BACK_DAYS) if one.day < day]
        acted = [act for act in acts(ledger) if act.at_us < begin_us]
        pairs = [pair for pair in found.pairs if pair.at_us < begin_us]
        tasks = tasks_of(ledger, {pair.task_type for pair in pairs}, policy, until_us=begin_us)
    audit = stand(
        pairs,
        {line: log_e for line, log_e in found.frozen.items() if found.declared_us[line] < begin_us},
        traffic=traffic_of((one for one in spent if one.day >= day - TRAFFIC_DAYS), today=day),
        margins={name: margin_of(contract) for name, contract in policy.contracts.items()},
        rules=Rules(alpha=policy.audit.error / 100),
        remembered=remembered(acted),
        closed=alarmed_lines(acted),
        tasks=tasks,
    )
    since_us = max(begin_us - TRAFFIC_DAYS * DAY_US, min((pair.at_us for pair in pairs), default=begin_us))
    return plan_rates(
        audit.standings,
        clusters_a_day(pairs, since_us=since_us, days=max(_LEAST_DAYS, (begin_us - since_us) / DAY_US)),
        purses_nanos=replay(days_of(spent), today=day, terms=terms_of(policy.audit)).purses_nanos,
        day=day,
        hands_over=_all_are_begun(audit, policy),
    )


def _all_are_begun(audit: Audit, policy: Policy) -> bool:
    """Whether every type that is compared has pairs enough to be planned: one that has not draws on either purse."""
    begun = {one.line.task_type for one in audit.standings if one.line.pairs >= FEWEST}
    few = any(one.line.pairs < FEWEST for one in audit.standings)
    return not few and begun >= {name for name, contract in policy.contracts.items() if contract.shadow}


_LEAST_DAYS: Final = 1.0
