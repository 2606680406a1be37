"""Outcomes in process: the program tells how its tasks and runs came out."""

from typing import Final

from tierwise.client.session import Session, open_sessions
from tierwise.client.tasks import current_task
from tierwise.engine.clock import call_ids, now_us
from tierwise.errors import LedgerUnavailable, NoSession
from tierwise.wire.outcomes import outcome_entry
from tierwise.wire.outcomes import told as checked


def outcome(
    success: bool | None = None,  # noqa: FBT001 — it is what is told
    *,
    quality: float | None = None,
    run: str | None = None,
    task_id: str | None = None,
    id: str | None = None,  # noqa: A002 — the word of the wire
    session: Session | None = None,
) -> None:
    """Tell how a task or a run came out; it does not wait until the ledger has it.

    It may be told before the task's calls or long after, and again: of one task or run the latest counts.

    with tierwise.task("extraction", run="run-7", task_id="page-3"):
        reply = client.messages.create(...)
        tierwise.outcome(is_right(reply))

    Args:
        success: whether it succeeded; or
        quality: how well, from 0 to 1.
        run: the run; with neither this nor `task_id`, both are those of the block that it is told in.
        task_id: the task; None tells of the run.
        id: names the outcome, so that telling it again changes nothing.
        session: whose ledger takes it; None is the one that is open in this process.

    Raises:
        MalformedOutcome: it does not say what it is about, or how that came out.
        NoSession: none is given, and none is open, or several are.
        LedgerUnavailable: the ledger cannot be written now.
    """
    here = current_task()
    if run is None and task_id is None and here is not None:
        run, task_id = here.run, here.task_id
    found = checked(success=success, quality=quality, run_id=run, task_id=task_id, id=id)
    ledger = (session or _the_one()).ledger
    if ledger.trouble is not None:
        raise LedgerUnavailable(path="of the session", why=ledger.trouble)
    entry = outcome_entry(found, teller="session", only_own=False, at_us=now_us(), new_id=_new_id)
    ledger.put(entry)


_new_id: Final = call_ids()


def _the_one() -> Session:
    sessions = open_sessions()
    if len(sessions) != 1:
        raise NoSession(sessions=len(sessions))
    return sessions[0]
