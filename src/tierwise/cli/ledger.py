"""`tierwise ledger`: what can be done with a ledger's file."""

from contextlib import closing
from typing import Annotated, Literal, TypeAlias

import typer

from tierwise.cli.console import ExitCode, print_json, say
from tierwise.cli.options import DEFAULT_LEDGER, JsonOption, LedgerOption
from tierwise.stores.ledger.sqlite import read_ledger
from tierwise.stores.ledger.verification import Finding, verify

Doing: TypeAlias = Literal["verify"]


def ledger(
    doing: Annotated[Doing, typer.Argument(metavar="verify", help="Check every law that must hold.")],
    path: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Check a ledger.

    `verify` checks the file, the life of each call, and that money is conserved on every account: it says which law
    is broken and by whom, and then the exit code is 1. A gateway may go on writing meanwhile.

    Example: tierwise ledger verify
    """
    assert doing == "verify"
    with closing(read_ledger(path)) as connection:
        findings = verify(connection)
    sound = not any(finding.breaches for finding in findings)
    if as_json:
        print_json({"sound": sound, "laws": [_json(finding) for finding in findings]})
    else:
        for finding in findings:
            say(_line(finding))
    if not sound:
        raise typer.Exit(ExitCode.WRONG)


def _json(finding: Finding) -> dict[str, object]:
    return {"law": finding.law, "breaches": finding.breaches, "examples": list(finding.examples)}


def _line(finding: Finding) -> str:
    if not finding.breaches:
        return f"ok      {finding.law}"
    return f"broken  {finding.law}: {finding.breaches:,}, such as {', '.join(finding.examples)}"
