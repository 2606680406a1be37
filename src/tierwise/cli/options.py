"""Options that several commands have."""

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

DEFAULT_POLICY: Final = Path("tierwise.toml")
DEFAULT_LEDGER: Final = "tierwise.sqlite3"


def _address(url: str | None) -> str | None:
    """Read an address as the policy's `base_url` is read."""
    from tierwise.config.keys import BASE_URL  # noqa: PLC0415
    from tierwise.config.kinds import Misfit  # noqa: PLC0415 — only where it is used

    if url is None:
        return None
    read = BASE_URL.kind.read(url)
    if isinstance(read, Misfit):
        raise typer.BadParameter(": ".join(filter(None, (read.message, read.fix))))
    return read


LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

PolicyOption: TypeAlias = Annotated[
    Path, typer.Option("--policy", envvar="TIERWISE_POLICY", help="The policy file.", dir_okay=False)
]
LedgerOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="TIERWISE_LEDGER",
        metavar="FILE|ADDRESS",
        help="The ledger: a file, or postgresql://… with its password in this variable or in PGPASSWORD.",
    ),
]
"""No path: that would make one slash of the two in an address."""
UpstreamOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--upstream",
        metavar="URL",
        callback=_address,
        help="Where calls go, in place of the policy's base_url.",
    ),
]
LogLevelOption: TypeAlias = Annotated[
    LogLevel, typer.Option("--log-level", help="What goes to the log, on stderr.")
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON with stable names.")]
