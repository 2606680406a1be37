"""What cascades came to: how many replies passed on the cheaper tier, and what both attempts cost."""

from dataclasses import dataclass
from typing import Final

from tierwise.core.policy import Contract, Policy
from tierwise.money import Nanos
from tierwise.stores.ledger.query import Reader


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """One task type's, over some days."""

    task_type: str
    cheap: str
    dear: str
    tried: int
    """Calls that the cheaper tier answered first."""
    tried_nanos: Nanos
    escalated: int
    """Those that were made again on the type's own tier."""
    escalated_nanos: Nanos
    """What they cost there."""

    @property
    def saved_nanos(self) -> Nanos | None:
        """What it saved, by what a call costs that was made again; None where none was. Negative: it costs more."""
        if not self.escalated:
            return None
        return self.tried * self.escalated_nanos // self.escalated - self.tried_nanos - self.escalated_nanos

    @property
    def pays_above(self) -> float | None:
        """The share of replies that has to pass for it to save anything; None where that is not known."""
        if not self.escalated_nanos or not self.tried:
            return None
        return self.tried_nanos / self.tried / (self.escalated_nanos / self.escalated)


def cascades(ledger: Reader, policy: Policy, *, since_us: int) -> tuple[Cascade, ...]:
    """Sum up the cascades of a policy, those that were tried, since a time in microseconds since 1970.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    wanted = [contract for contract in policy.contracts.values() if contract.cascade]
    found = (_cascade(ledger, contract, policy, since_us) for contract in wanted)
    return tuple(cascade for cascade in found if cascade.tried)


def _cascade(ledger: Reader, contract: Contract, policy: Policy, since_us: int) -> Cascade:
    names = list(policy.tiers)
    cheap = names[names.index(contract.tier) + 1]
    (row,) = ledger.rows(
        _SUMS, (cheap, cheap, contract.tier, contract.tier, since_us, contract.name, cheap, contract.tier)
    )
    return Cascade(
        task_type=contract.name,
        cheap=cheap,
        dear=contract.tier,
        tried=int(row["tried"] or 0),
        tried_nanos=int(row["tried_nanos"] or 0),
        escalated=int(row["escalated"] or 0),
        escalated_nanos=int(row["escalated_nanos"] or 0),
    )


_SUMS: Final = """
SELECT
    sum(CASE WHEN tier = ? THEN 1 ELSE 0 END) AS tried,
    sum(CASE WHEN tier = ? THEN cost_nanos ELSE 0 END) AS tried_nanos,
    sum(CASE WHEN tier = ? THEN 1 ELSE 0 END) AS escalated,
    sum(CASE WHEN tier = ? THEN cost_nanos ELSE 0 END) AS escalated_nanos
FROM calls
WHERE at_us >= ? AND task_type = ? AND purpose IS NULL AND ending = 'posted'
    AND (tier = ? OR (tier = ? AND first_call_id IS NOT NULL))
"""
