"""The autopilot: it follows the acts that the ledger holds, and adds those that the verdicts of now ask for.

Several gateways on one ledger follow the same acts; of two that add the same, one is kept. A policy in which a tier's
model, the check or the margin is another one has other lines of evidence, and acts on old lines do not hold in it.
"""

from collections.abc import Sequence

from tierwise.audit.acting import Acting, Lean, alarmed_lines, due, latest_acts, open_line
from tierwise.audit.standings import Audit, Standing
from tierwise.audit.verdicts import Rules
from tierwise.core.ledger import Act, Acted
from tierwise.core.policy import Contract, Policy
from tierwise.engine.shadowing import line_key
from tierwise.stores.ledger.acts import acts
from tierwise.stores.ledger.query import Reader
from tierwise.stores.ledger.reservations import ledger_id


def follows_acts(policy: Policy) -> bool:
    """Whether acts matter under a policy: something is compared."""
    return any(contract.shadow for contract in policy.contracts.values())


def acting_of(ledger: Reader, policy: Policy) -> Acting:
    """Read where the acts of a ledger send the task types of a policy.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    found = acts(ledger)
    alarmed = alarmed_lines(found)
    leans: dict[str, Lean] = {}
    for line, act in latest_acts(found).items():
        contract = policy.contracts.get(act.task_type)
        if contract is None or not act.share or not policy.autopilot_of(contract):
            continue
        if _line_now(policy, contract, act.to_tier, alarmed) == line:
            leans[contract.name] = Lean(
                task_type=contract.name,
                dear=contract.tier,
                cheap=act.to_tier,
                share=act.share,
                verdict=act.verdict,
            )
    return Acting(policy=policy, leans=leans, alarmed=alarmed, salt=ledger_id(ledger))


def acts_due(audit: Audit, policy: Policy, before: Sequence[Acted], *, at_us: int) -> list[Acted]:
    """What the verdicts ask the autopilot for, beyond the acts so far.

    A type goes to one other tier at a time: the one that saves most of those with a verdict, as long as that holds.
    """
    rules = Rules(alpha=policy.audit.error / 100)
    alarmed = alarmed_lines(before)
    steered = [standing for standing in audit.standings if _is_steered(standing, policy, alarmed)]
    latest = latest_acts(before)
    moved = {
        each.line.task_type: each.line.line
        for each in steered
        if each.line.line in latest and latest[each.line.line].share
    }
    found: list[Acted] = []
    for standing in steered:
        act = due(standing, before, rules=rules, at_us=at_us)
        if act is None:
            continue
        if act.act is Act.MOVED and moved.setdefault(act.task_type, act.line) != act.line:
            continue
        found.append(act)
    return found


def _is_steered(standing: Standing, policy: Policy, alarmed: frozenset[str]) -> bool:
    """Whether the autopilot may move a type on the grounds of a line."""
    contract = policy.contracts.get(standing.line.task_type)
    dear, cheap = standing.line.tiers
    return (
        contract is not None
        and contract.tier == dear
        and policy.autopilot_of(contract)
        and _line_now(policy, contract, cheap, alarmed) == standing.line.line
    )


def _line_now(policy: Policy, contract: Contract, cheap: str, alarmed: frozenset[str]) -> str | None:
    """The id of the open line of a type's own tier and a cheaper one; None where the policy has no such tier."""
    if contract.tier not in policy.tiers or cheap not in policy.tiers:
        return None
    return open_line(line_key(policy, contract, dear=contract.tier, cheap=cheap), alarmed).id
