"""Looks at all evidence: what is proven, what no longer holds, and what the autopilot does about it, as entries."""

from tierwise.audit.acting import alarmed_lines
from tierwise.audit.standings import lines_of, selection_of
from tierwise.audit.watching import alarm_acts, find_alarms, find_pass_alarms, find_rises, watched_since
from tierwise.core.ledger import Acted, Declared
from tierwise.core.policy import Policy
from tierwise.engine.autopilot import acts_due
from tierwise.engine.shadowing import margin_of
from tierwise.engine.standing import audit_of
from tierwise.stores.ledger.acts import acts, checks
from tierwise.stores.ledger.pairs import evidence
from tierwise.stores.ledger.query import Reader


def look(ledger: Reader, policy: Policy, *, at_us: int) -> list[Declared | Acted]:
    """Return what is to be recorded: alarms alone where there are any, else claims and the autopilot's acts.

    After an alarm it is to be looked at again, once the alarm is in the ledger.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    alarmed = new_alarms(ledger, policy, at_us=at_us)
    if alarmed:
        return [*alarmed]
    claims = new_claims(ledger, policy, at_us=at_us)
    claimed = {claim.line: claim.log_e for claim in claims}
    steered = {name for name, contract in policy.contracts.items() if policy.autopilot_of(contract)}
    audit = audit_of(ledger, policy, at_us=at_us, claimed=claimed, costed=steered)
    return [*claims, *acts_due(audit, policy, acts(ledger), at_us=at_us)]


def new_alarms(ledger: Reader, policy: Policy, *, at_us: int) -> list[Acted]:
    """Look whether the pairs, and the checked replies, since a verdict still agree with it.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    margins = {name: margin_of(contract) for name, contract in policy.contracts.items()}
    found, before = evidence(ledger), acts(ledger)
    since = watched_since(found.declared_us, before)
    alarms = {
        alarm.line: alarm
        for alarm in (
            *find_rises(found.pairs, alarmed_lines(before), margins=margins, alpha=policy.audit.error / 100),
            *find_pass_alarms(checks(ledger), since, margins=margins),
            *find_alarms(found.pairs, since, margins=margins),
        )
    }
    return alarm_acts(alarms.values(), found.pairs, before, at_us=at_us)


def new_claims(ledger: Reader, policy: Policy, *, at_us: int) -> list[Declared]:
    """Return what is proven now and was not: its evidence is frozen with that.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    found, closed = evidence(ledger), alarmed_lines(acts(ledger))
    lines = lines_of(found.pairs)
    margins = {name: margin_of(contract) for name, contract in policy.contracts.items()}
    chosen = selection_of(lines, found.frozen, margins=margins, alpha=policy.audit.error / 100)
    return [
        Declared(line=name, at_us=at_us, log_e=log_e, pairs=lines[name].pairs)
        for name, log_e in chosen.new.items()
        if name not in closed
    ]
