"""Which upstream client sends the calls: our own, or aiohttp's where the policy or a proxy asks for it."""

from typing import Protocol

from tierwise.core.policy import Upstream as UpstreamConfig
from tierwise.upstream.addresses import is_proxied
from tierwise.upstream.direct import DirectUpstream
from tierwise.upstream.port import Upstream
from tierwise.upstream.with_aiohttp import AiohttpUpstream


class Client(Upstream, Protocol):
    """An upstream with connections of its own."""

    async def close(self) -> None:
        """Close all connections."""
        ...


def open_upstream(config: UpstreamConfig) -> Client:
    """Prepare connections to a policy's addresses; call it with the event loop running.

    Raises:
        OSError: the file of certificates cannot be read.
    """
    if config.client == "aiohttp" or is_proxied(config):
        return AiohttpUpstream(config)
    return DirectUpstream(config)
