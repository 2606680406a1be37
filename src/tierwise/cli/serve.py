"""`tierwise serve`: the gateway, until it is told to stop."""

import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from tierwise.cli.console import err, say, warning_lines
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    LedgerOption,
    LogLevel,
    LogLevelOption,
    PolicyOption,
    UpstreamOption,
)

if TYPE_CHECKING:
    from tierwise.core.policy import Policy
    from tierwise.gateway.parts import Settings


def serve(
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 4000,
    workers: Annotated[
        int,
        typer.Option(
            min=1, max=64, help="Processes that take calls; under budgets they need a budget_store."
        ),
    ] = 1,
    upstream: UpstreamOption = None,
    drain_seconds: Annotated[
        int, typer.Option(min=0, help="How long calls in flight may take after SIGTERM.")
    ] = 30,
    log_level: LogLevelOption = "info",
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the address alone, on stdout, once calls are taken.")
    ] = False,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Stop as on SIGTERM when stdin ends, with the parent process.")
    ] = False,
) -> None:
    """Serve the gateway until SIGTERM or Ctrl-C.

    It speaks the provider's own API: point ANTHROPIC_BASE_URL at it. Every call is decided by the policy, which is
    read again when its file changes, and recorded in the ledger. With ANTHROPIC_API_KEY in its environment, or
    ANTHROPIC_API_KEY_FILE, it lends that key to callers that bring none. With [openai] in the policy it serves
    OpenAI's clients too, and lends them OPENAI_API_KEY, or OPENAI_API_KEY_FILE. With [[clients]] in the policy it
    serves only them, with those keys; on an address that other machines reach it serves nobody else. On SIGTERM,
    calls in flight are finished first.

    Example: tierwise serve --policy tierwise.toml --port 4000
    """
    from tierwise.config import load_book  # noqa: PLC0415 — only where it is used
    from tierwise.gateway.parts import Settings  # noqa: PLC0415
    from tierwise.gateway.provider_key import OPENAI_KEY, key_of  # noqa: PLC0415
    from tierwise.gateway.server import serve as run  # noqa: PLC0415

    book = load_book(policy)
    _keep_the_door_shut(host, guarded=bool(book.policy.clients))
    key, key_file = key_of(os.environ)
    openai_key, openai_key_file = key_of(os.environ, OPENAI_KEY) if book.policy.openai else (None, None)
    _log_to_stderr(log_level)
    settings = Settings(
        book=book,
        policy_path=policy,
        ledger=ledger,
        host=host,
        port=port,
        key=key,
        key_file=key_file,
        openai_key=openai_key,
        openai_key_file=openai_key_file,
        guarded=bool(book.policy.clients),
        drain_s=drain_seconds,
        workers=workers,
        upstream=upstream,
        warn_url=os.environ.get("TIERWISE_WARN_URL", "").strip() or None,
    )
    settings = replace(settings, book=settings.redirected(settings.book))
    eof = sys.stdin.fileno() if until_eof else None
    if eof is not None and workers == 1:
        threading.Thread(target=_stop_at_eof, name="tierwise-parent", daemon=True).start()
    announce = _announce_address if quiet else partial(_announce, settings=settings)
    run(settings, ready=announce, until_eof=eof)


def _stop_at_eof() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _keep_the_door_shut(host: str, *, guarded: bool) -> None:
    from tierwise.gateway.door import is_loopback  # noqa: PLC0415

    if guarded or is_loopback(host):
        return
    raise typer.BadParameter(
        f"{host} is open to other machines, and the policy has no [[clients]]: whoever reaches the gateway there "
        "could call through it. `tierwise client-key NAME` makes a client's key; or listen on 127.0.0.1.",
        param_hint="--host",
    )


def _log_to_stderr(level: LogLevel) -> None:
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    if level == "info":
        logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _announce_address(address: str) -> None:
    typer.echo(address)
    sys.stdout.flush()


def _announce(address: str, settings: "Settings") -> None:
    """Say what is served, and what the agents' environment needs."""
    from tierwise.stores.ledger.opening import shown  # noqa: PLC0415

    policy = settings.book.policy
    for line in warning_lines(settings.book.warnings, settings.policy_path):
        say(line, err)
    for what, value in (
        ("serving", address),
        ("policy", f"{settings.policy_path}, version {policy.version}, mode {policy.mode}"),
        ("ledger", shown(settings.ledger)),
        ("upstream", policy.upstream.base_url),
        ("key", _whose_key(settings)),
        *_of_openai(policy),
    ):
        say(f"{what:<9} {value}", err)
    say(f"export ANTHROPIC_BASE_URL={_reachable(address, settings.host)}", err)
    if policy.openai is not None:
        say(f"export OPENAI_BASE_URL={_reachable(address, settings.host)}/v1", err)


def _of_openai(policy: "Policy") -> list[tuple[str, str]]:
    return [] if policy.openai is None else [("openai", policy.openai.upstream.base_url)]


def _whose_key(settings: "Settings") -> str:
    own = "ANTHROPIC_API_KEY" if settings.key_file is None else "ANTHROPIC_API_KEY_FILE"
    clients = len(settings.book.policy.clients)
    if clients:
        return f"{own}, for the {'client' if clients == 1 else f'{clients} clients'} of the policy"
    return "the callers' own" if settings.key is None else f"the callers' own, else {own}"


def _reachable(address: str, host: str) -> str:
    """The address as callers write it: one that stands for every interface is replaced by this machine's name."""
    if host not in {"0.0.0.0", "::"}:  # noqa: S104 — compared with, not bound
        return address
    return f"http://{socket.gethostname()}:{address.rpartition(':')[2]}"
