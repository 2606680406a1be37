"""Where the provider is: its addresses, the proxy before each of them, and whose certificates count."""

import ssl
import urllib.request
from typing import Final
from urllib.parse import urlsplit

from tierwise.core.policy import Upstream as UpstreamConfig

KEEP_ALIVE_S: Final = 15.0
"""How long an idle connection is kept: less than servers do, so that a dead one is rarely tried."""


def urls_of(config: UpstreamConfig) -> tuple[str, ...]:
    """All addresses of a policy, in turn."""
    return (config.base_url, *config.fallback_urls)


def is_proxied(config: UpstreamConfig) -> bool:
    """Whether the way to any address leads through a proxy: the policy's, or one that the environment names."""
    return config.proxy is not None or any(proxy_from_environment(url) for url in urls_of(config))


def proxy_from_environment(base_url: str) -> str | None:
    """Return the proxy that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name for an address; None for none.

    Read once, when the client is made: not at each call. A proxy without a scheme is an HTTP one, as for curl.
    """
    parts = urlsplit(base_url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def tls_of(config: UpstreamConfig) -> ssl.SSLContext:
    """Return what verifies the provider's certificate: by the system's authorities, or the policy's in their place.

    Raises:
        OSError: the file of certificates cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except OSError as error:
        raise OSError(error.errno, f"the certificates cannot be read: {error}", config.ca_file) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
