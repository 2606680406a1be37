"""SDK clients inside the program: by each door, sync and async, straight to a sandbox."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anthropic
import httpx2

import tierwise
from support.plays import calls
from support.policies import TWO_TIERS, with_upstream
from support.waiting import eventually
from tierwise.stores.ledger.reservations import account_totals
from tierwise.stores.ledger.sqlite import read_ledger

DOORS: Final = ("middleware", "transport")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A session, and how a client goes through it."""

    session: tierwise.Session
    by: str
    base_url: str
    ledger_path: Path

    def client(self, **options: Any) -> Any:
        """A sync client; any type, for the SDK's overloads want arguments that are spelled out."""
        told: dict[str, Any] = {"base_url": self.base_url, "api_key": "any", "max_retries": 0, **options}
        if self.by == "middleware":
            return anthropic.Anthropic(middleware=[tierwise.middleware(self.session)], **told)
        return anthropic.Anthropic(
            http_client=httpx2.Client(transport=tierwise.Transport(self.session)), **told
        )

    def async_client(self, **options: Any) -> Any:
        """An async client."""
        told: dict[str, Any] = {"base_url": self.base_url, "api_key": "any", "max_retries": 0, **options}
        if self.by == "middleware":
            return anthropic.AsyncAnthropic(middleware=[tierwise.middleware(self.session)], **told)
        return anthropic.AsyncAnthropic(
            http_client=httpx2.AsyncClient(transport=tierwise.AsyncTransport(self.session)), **told
        )

    def calls(self, where: str = "true") -> list[dict[str, Any]]:
        """The ledger's calls, oldest first."""
        return calls(self.ledger_path, where)

    def settled(self) -> list[dict[str, Any]]:
        """The ledger's calls once each has its ending."""
        eventually(lambda: self.calls("ending IS NULL"), until=lambda found: not found)
        return self.calls()

    def totals(self) -> Mapping[str, tuple[int, int]]:
        """Pending and posted of each account, in the ledger."""
        with closing(read_ledger(self.ledger_path)) as ledger:
            return {
                account.key: (account.pending_nanos, account.posted_nanos)
                for account in account_totals(ledger)
            }


OpenDoor = Callable[..., Door]


def router_of(folder: Path, policy: str = TWO_TIERS) -> tierwise.Router:
    """A router from a file of `folder`."""
    path = folder / "tierwise.toml"
    path.write_text(with_upstream(policy, "https://api.anthropic.com"))
    return tierwise.Router.from_file(path)


def budgeted(limit_usd: str, *, scope: str = "run", more: str = "") -> str:
    """Two tiers, and a budget."""
    return f"""{TWO_TIERS}
[[budgets]]
scope = "{scope}"
window = "lifetime"
limit_usd = "{limit_usd}"
{more}
"""
