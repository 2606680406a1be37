"""How the audit's keys become values, and what is wrong with them."""

from pathlib import Path
from typing import Final

from tierwise.config import audit_keys as keys
from tierwise.config.quality import read_check
from tierwise.config.reading import Notes, Section, section
from tierwise.core.checks import Check
from tierwise.core.policy import Audit, Contract

_DAY_S: Final = 86_400


def read_audit(top: Section) -> Audit:
    """Return the table `[audit]`, with what holds where it or one of its keys is absent."""
    plain = Audit()
    found = section(keys.AUDIT, ("audit",), top.values.get("audit", {}), top.notes)
    if found is None:
        return plain
    credit_s = found.take(keys.CREDIT)
    return Audit(
        share=found.take(keys.SHARE) or plain.share,
        most_of_day=found.take(keys.MOST_OF_DAY) or plain.most_of_day,
        credit_days=plain.credit_days if credit_s is None else credit_s // _DAY_S,
        sample=found.take(keys.SAMPLE) or plain.sample,
        error=found.take(keys.ERROR) or plain.error,
        autopilot=found.take(keys.AUTOPILOT) or plain.autopilot,
        by_batch=found.take(keys.BY_BATCH) or plain.by_batch,
    )


def read_quality(contract: Section, folder: Path) -> tuple[Check | None, int | None, bool | None]:
    """Return a contract's check, its margin in points and whether verdicts act; None where it does not say.

    Args:
        contract: its table.
        folder: the policy's.
    """
    quality = next(contract.inner(keys.QUALITY), None)
    if quality is None:
        return None, None, None
    return read_check(quality, folder), quality.take(keys.MARGIN), quality.take(keys.TYPE_AUTOPILOT)


def check_shadow(contract: Contract, tiers: int, notes: Notes) -> None:
    """Note what the audit cannot do, or would not."""
    path = ("task_types", contract.name)
    if contract.shadow and tiers < 2:
        notes.error((*path, "shadow"), "there is no other tier to compare with", "remove the line")
    has_quality = contract.check is not None or contract.margin_points is not None
    if contract.cascade and contract.shadow:
        notes.warn((*path, "shadow"), "is not used: a cascade is not compared", "remove the line")
    if (has_quality or contract.autopilot) and not contract.shadow and not contract.cascade:
        notes.warn((*path, "quality"), "is not used: nothing is compared", "add shadow = true")
