"""Checking: whether a reply passes the check of its task type, found out beside the event loop.

Functions and programs of the policy's owner, patterns and schemas may take for ever, or end badly. Each is asked on a
daemon thread, within its time; what has not said anything by then cannot tell, and neither can what fails, which the
log says once of each kind. Keys and plain texts cost next to nothing, and are looked at on any thread.
"""

import asyncio
import logging
import traceback
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

from tierwise.audit.grading import holds
from tierwise.config.values import shown
from tierwise.core.checks import Check, Command, Function, Schema, TextRule
from tierwise.engine.check_jobs import AskChild, AskCommand, AskFunction, CannotTell, Children, Job
from tierwise.wire.answers import read_content

log = logging.getLogger("tierwise.audit")

AT_ONCE: Final = 4
"""Functions that are called at the same time; and as many commands that run."""
CHILDREN: Final = 2
"""Processes that patterns and schemas are asked in."""


class Checker:
    """Holds replies against checks. Belongs to one event loop."""

    def __init__(self) -> None:
        """Begin with nothing that runs."""
        self._children = Children()
        self._jobs: set[Job] = set()
        self._functions = asyncio.Semaphore(AT_ONCE)
        self._commands = asyncio.Semaphore(AT_ONCE)
        self._questions = asyncio.Semaphore(CHILDREN)
        self._told: set[tuple[str, str]] = set()

    async def passes(self, check: Check, text: str) -> bool | None:
        """Say whether a reply's text passes; None where the check cannot tell. It raises nothing.

        It waits for its turn as long as it may take at the most, and then takes as long again at the most.
        """
        match check.rule:
            case TextRule(kind="json" | "exact") as rule:
                return await asyncio.to_thread(holds, rule, text)
            case TextRule() | Schema() as rule:
                job = AskChild(rule, text, limit_s=check.limit_s, children=self._children)
                said = await self._ask(job, check, self._questions)
            case Command() as rule:
                said = await self._ask(AskCommand(rule, text), check, self._commands)
            case Function() as rule:
                said = await self._ask(AskFunction(rule, text), check, self._functions)
        if isinstance(said, BaseException):
            self._tell(check, said)
            return None
        return said

    async def passes_whole(self, check: Check, body: bytes) -> bool | None:
        """Say whether a reply passes; None where the check cannot tell, the reply calls tools, or it is no message.

        Args:
            check: what it has to satisfy.
            body: of a reply that is no stream.
        """
        content = await asyncio.to_thread(read_content, body, stream=False)
        if content is None or content.tool_uses:
            return None
        return await self.passes(check, content.text)

    def close(self) -> None:
        """End all that runs; to be called once nothing is asked any more."""
        for job in self._jobs:
            job.stop()
        self._children.close()

    async def _ask(self, job: Job, check: Check, turns: asyncio.Semaphore) -> bool | BaseException | None:
        try:
            async with asyncio.timeout(check.limit_s):
                await turns.acquire()
        except TimeoutError:
            return CannotTell("its turn did not come in time")
        try:
            async with asyncio.timeout(check.limit_s):
                return await self._begin(job, turns)
        except TimeoutError:
            return CannotTell(f"it took longer than {check.limit_s} s")
        finally:
            job.stop()

    def _begin(self, job: Job, turns: asyncio.Semaphore) -> asyncio.Future[bool | BaseException | None]:
        """Run a job on a thread, which has the turn until it is done, whoever still waits for it."""
        loop = asyncio.get_running_loop()
        said: asyncio.Future[bool | BaseException | None] = loop.create_future()

        def done(result: bool | BaseException | None) -> None:  # noqa: FBT001 — what a check says
            turns.release()
            self._jobs.discard(job)
            if not said.done():
                said.set_result(result)

        def work() -> None:
            try:
                result = job.run()
            except BaseException as error:  # noqa: BLE001 — a function of the policy's owner may raise anything
                result = error
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(done, result)

        self._jobs.add(job)
        try:
            Thread(target=work, name="tierwise-check", daemon=True).start()
        except RuntimeError as error:  # no thread can be had
            done(error)
        return said

    def _tell(self, check: Check, why: BaseException) -> None:
        reason = str(why) if isinstance(why, CannotTell) else f"{type(why).__name__}{_place(why)}"
        if (check.written, reason) not in self._told:
            self._told.add((check.written, reason))
            log.warning("%s could not tell of a reply: %s. It is said once", shown(check.written), reason)


def _place(error: BaseException) -> str:
    """Where an error was raised; its words may have the reply in them, and stay unsaid."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
