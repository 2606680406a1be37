"""`tierwise client-key`: a new key for a client of the gateway."""

import secrets
from hashlib import sha256
from typing import Annotated

import typer

from tierwise.cli.console import err, say
from tierwise.config.kinds import Misfit, Name
from tierwise.config.values import CLIENT_KEY_PREFIX


def client_key(
    name: Annotated[str, typer.Argument(help="The client's: small letters, digits and dashes.")],
) -> None:
    """Make a key for a client of the gateway.

    The key goes to stderr, once: hand it to the client, as its ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN. The lines
    for the policy go to stdout; they hold its hash. Nothing is stored.

    Example: tierwise client-key nightly-jobs >> tierwise.toml
    """
    named = Name().read(name)
    if isinstance(named, Misfit):
        raise typer.BadParameter(". ".join(filter(None, (named.message, named.fix))), param_hint="NAME")
    key = new_key()
    say(f"The key of {name}, which is not shown again:\n\n    {key}\n\nFor the policy:\n", err)
    typer.echo(f'\n[[clients]]\nname = "{name}"\nkey_sha256 = "{sha256(key.encode()).hexdigest()}"')


def new_key() -> str:
    """Return a key of 256 random bits: nothing that could be guessed, so that its plain SHA-256 tells nothing."""
    return CLIENT_KEY_PREFIX + secrets.token_urlsafe(32)
