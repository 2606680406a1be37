"""The policy in force, and its reload: when the file changes, the new policy takes over, or the old one stays."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from tierwise.config import Book, load_book
from tierwise.core.policy import Policy, Upstream
from tierwise.engine.desk import Desk
from tierwise.errors import PolicyError

LOOK_EVERY_S: Final = 0.5

log = logging.getLogger("tierwise.policy")


class _Stamp(NamedTuple):
    mtime_ns: int
    size: int
    inode: int


class PolicyFile:
    """Keeps a desk's book in step with a file."""

    def __init__(self, path: Path, desk: Desk) -> None:
        """Watch `path`, which the desk's book was read from."""
        self.problem: str | None = None
        """What is wrong with the file as it is now; None when it is in force."""
        self._path = path
        self._desk = desk
        self._stamps = self._stamp_all(desk.book)
        self._upstream: Upstream | None = None
        """The file's, as last read: told once where it is not the one in use."""

    async def watch(self) -> None:
        """Look at the file again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._tell(await asyncio.to_thread(self._news))  # schemas and modules take their time to be read

    def look(self) -> None:
        """Take the file over if it has changed, or one that it names; a bad one leaves the policy as it was."""
        self._tell(self._news())

    def _news(self) -> Book | PolicyError | None:
        """What the file says now, or what is wrong with it; None where nothing has changed."""
        if self._stamp_all(self._desk.book) == self._stamps:
            return None
        try:
            book = load_book(self._path)
        except PolicyError as error:
            self._stamps = self._stamp_all(self._desk.book)
            return error
        self._stamps = self._stamp_all(book)
        return book

    def _stamp_all(self, book: Book) -> tuple[_Stamp | None, ...]:
        """The state of the file and of all that it names."""
        return tuple(_stamp(each) for each in (self._path, *map(Path, book.files)))

    def _tell(self, news: Book | PolicyError | None) -> None:
        match news:
            case PolicyError():
                self.problem = str(news)
                log.error(
                    "the policy was edited and is wrong; %s stays in force\n%s",
                    self._desk.book.policy.version,
                    news,
                )
            case Book():
                self.problem = None
                self._take_over(news)
            case None:
                pass

    def _take_over(self, book: Book) -> None:
        """Put the new policy in force, but for what a start makes ready: connections, and the hold on budgets."""
        before = self._desk.book.policy
        running = replace(book.policy, upstream=before.upstream)
        running = replace(running, openai=_same_openai(running, before))
        if (book.policy.openai is None) != (before.openai is None):
            log.warning("[openai] begins or ends: it takes effect at the next start")
        if book.policy.has_budgets and not before.has_budgets:
            running = _without_budgets(running)
            log.warning("budgets are new to this gateway: they take effect at the next start")
        for name in ("durability", "budget_store", "warn_url"):
            if getattr(book.policy, name) != getattr(before, name):
                running = replace(running, **{name: getattr(before, name)})
                log.warning("%s is not the one in use: it takes effect at the next start", name)
        self._desk.book = replace(book, policy=running)
        log.info("policy %s took over from %s", book.policy.version, before.version)
        for warning in book.warnings:
            log.warning("%s: %s", warning.path, warning.message)
        if book.policy.upstream not in {before.upstream, self._upstream}:
            log.warning("[upstream] is not the one in use: it takes effect at the next start")
        self._upstream = book.policy.upstream


def _same_openai(policy: Policy, before: Policy) -> Policy | None:
    """The policy's word on OpenAI's clients, over the connections that there are."""
    if policy.openai is None or before.openai is None:
        return None
    return replace(policy.openai, upstream=before.openai.upstream)


def _without_budgets(policy: Policy) -> Policy:
    contracts = {name: replace(contract, budgets=()) for name, contract in policy.contracts.items()}
    openai = None if policy.openai is None else replace(policy.openai, budgets=(), contracts=contracts)
    return replace(policy, budgets=(), contracts=contracts, openai=openai)


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)
