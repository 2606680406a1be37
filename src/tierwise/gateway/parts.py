"""The parts of a running gateway: made when its server starts, unmade when it stops."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tierwise.config import Book
from tierwise.core.ledger import Entry
from tierwise.engine.auditor import Auditor
from tierwise.engine.balances import Balances, hold_balances, upkeep_of
from tierwise.engine.batches import BatchDesk
from tierwise.engine.budgets import Warnings
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.desk import Desk
from tierwise.engine.ledger import LoopLedger
from tierwise.engine.monitoring import Monitor
from tierwise.gateway.door import Door, is_loopback
from tierwise.gateway.messages import Parts
from tierwise.gateway.meters import Meters
from tierwise.gateway.provider_key import KeyFile
from tierwise.gateway.reload import PolicyFile
from tierwise.gateway.warn_post import WarnPost
from tierwise.stores.conversations import Conversations
from tierwise.stores.ledger.opening import open_ledger, read_ledger, shown
from tierwise.upstream.client import open_upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one gateway is run."""

    book: Book
    policy_path: Path | None
    """The file that `book` was read from, watched for edits; None watches nothing."""
    ledger: Path | str
    """A file, or the address of a database that several gateways share."""
    host: str = "127.0.0.1"
    port: int = 4000
    key: str | None = None
    """The gateway's own credential."""
    openai_key: str | None = None
    """The gateway's own credential for the OpenAI-compatible server."""
    openai_key_file: Path | None = None
    """As `key_file`, of `openai_key`."""
    key_file: Path | None = None
    """The file that `key` was read from, watched for a change; None watches nothing."""
    guarded: bool = False
    """Whether only clients may enter, whatever becomes of the policy; with clients in it, only they may anyway."""
    drain_s: int = 30
    """How long calls in flight may take after SIGTERM, in seconds."""
    workers: int = 1
    """Processes that take calls."""
    warn_url: str | None = None
    """Where warnings of budgets are posted, in place of the policy's."""
    upstream: str | None = None
    """Where calls go, in place of the policy's `base_url`."""
    clock: Callable[[], int] = now_us
    """Tells microseconds since 1970 UTC."""
    beside: tuple[Callable[[Parts], Coroutine[Any, Any, None]], ...] = ()
    """What else goes on beside the calls, as long as the gateway runs."""

    def redirected(self, book: Book) -> Book:
        """Return a book whose calls go where these settings send them."""
        if self.upstream is None:
            return book
        policy = book.policy
        return replace(
            book,
            policy=replace(
                policy, upstream=replace(policy.upstream, base_url=self.upstream, fallback_urls=())
            ),
        )


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[Parts]:
    """Make the parts and begin what goes on beside the calls; at the end, write what is left and let go of all."""
    policy = settings.book.policy
    loop = asyncio.get_running_loop()
    new_id = call_ids()
    desk = Desk(settings.book, conversations=Conversations(), clock=settings.clock, new_id=new_id)
    ledger = LoopLedger(open_ledger(settings.ledger, durability=policy.durability), loop)
    upstream = open_upstream(policy.upstream)
    openai = None if policy.openai is None else open_upstream(policy.openai.upstream)
    balances = await asyncio.to_thread(hold_balances, settings.ledger, store=policy.budget_store)

    def put(entry: Entry) -> None:
        loop.call_soon_threadsafe(ledger.put, entry)  # upkeep has a thread of its own

    upkeep = upkeep_of(balances, settings.ledger, desk=desk, put=put, clock=settings.clock)
    warn_url = settings.warn_url or policy.warn_url
    post = None if warn_url is None else WarnPost(warn_url)
    policy_file = None if settings.policy_path is None else PolicyFile(settings.policy_path, desk)
    budgets, read = balances.for_loop(), partial(read_ledger, settings.ledger)
    warnings = Warnings(None if post is None else post.tell)
    parts = Parts(
        desk=desk,
        ledger=ledger,
        budgets=budgets,
        conversations=balances.conversations(),
        warnings=warnings,
        batches=BatchDesk(
            desk=desk, ledger=ledger, budgets=budgets, warnings=warnings, read=read, clock=settings.clock
        ),
        read=read,
        upstream=upstream,
        meters=Meters(),
        clock=settings.clock,
        key=settings.key,
        openai=openai,
        openai_key=settings.openai_key,
        door=Door(guarded=settings.guarded or bool(policy.clients), private=is_loopback(settings.host)),
        health=lambda: _health(settings, parts, policy_file, balances),
    )
    parts.auditor = _auditor(parts, settings, new_id)
    parts.monitor = _monitor(parts, parts.auditor, new_id)
    beside = (parts.monitor.run(), *_beside(parts.auditor, policy_file, post), *_key_files(settings, parts))
    tasks = [asyncio.create_task(each) for each in (*beside, *(each(parts) for each in settings.beside))]
    upkeep.start()
    try:
        yield parts
    finally:
        if post is not None:
            await post.drain()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # the audit's calls in flight are recorded as given up
        parts.checker.close()
        await asyncio.to_thread(upkeep.close)
        await upstream.close()
        if openai is not None:
            await openai.close()
        await asyncio.to_thread(balances.close)
        await asyncio.to_thread(ledger.close)


def _key_files(settings: Settings, parts: Parts) -> Iterator[Coroutine[Any, Any, None]]:
    """What takes up a provider's key whose file changes."""
    for name, file, key in (
        ("key", settings.key_file, settings.key),
        ("openai_key", settings.openai_key_file, settings.openai_key),
    ):
        if file is not None:
            yield KeyFile(file, key, partial(setattr, parts, name)).watch()


def _auditor(parts: Parts, settings: Settings, new_id: Callable[[], str]) -> Auditor:
    return Auditor(
        desk=parts.desk,
        upstream=parts.upstream,
        ledger=parts.ledger,
        budgets=parts.budgets,
        clock=parts.clock,
        new_id=new_id,
        read=lambda: read_ledger(settings.ledger),
        checker=parts.checker,
        batches=parts.batches,
    )


def _monitor(parts: Parts, auditor: Auditor, new_id: Callable[[], str]) -> Monitor:
    def put(entry: Entry) -> None:
        parts.ledger.put(entry)
        auditor.notice()

    return Monitor(desk=parts.desk, put=put, clock=parts.clock, new_id=new_id, checker=parts.checker)


def _beside(
    auditor: Auditor, policy_file: PolicyFile | None, post: WarnPost | None
) -> Iterator[Coroutine[Any, Any, None]]:
    """What goes on beside the calls."""
    yield auditor.run()
    if policy_file is not None:
        yield policy_file.watch()
    if post is not None:
        yield post.run()


def _health(
    settings: Settings, parts: Parts, policy_file: PolicyFile | None, balances: Balances
) -> dict[str, Any]:
    policy = settings.book.policy
    troubles = (parts.ledger.trouble, None if policy.when_lost == "allow" else balances.trouble())
    return {
        "status": "ok" if troubles == (None, None) else "failing",
        "pid": os.getpid(),
        "policy": parts.desk.book.policy.version,
        "policy_problem": None if policy_file is None else policy_file.problem,
        "ledger": shown(settings.ledger),
        "ledger_problem": parts.ledger.trouble,
        "budget_store": policy.budget_store,
        "budget_store_problem": balances.trouble(),
        "upstream": parts.desk.book.policy.upstream.base_url,
        "openai": None if policy.openai is None else policy.openai.upstream.base_url,
        **parts.meters.snapshot(),
    }
