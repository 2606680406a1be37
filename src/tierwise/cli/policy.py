"""`tierwise init`, `check` and `schema`: a policy to start from, what is wrong with one, and help for editors."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tierwise.cli.console import ExitCode, err, new_table, out, print_json, say, warning_lines
from tierwise.cli.options import DEFAULT_POLICY, JsonOption, PolicyOption
from tierwise.config import load_book, starter_policy
from tierwise.config.schema import policy_schema_text
from tierwise.config.starter import SCHEMA_FILE
from tierwise.errors import PolicyError

if TYPE_CHECKING:
    from tierwise.config import Book
    from tierwise.core.policy import Contract, Policy


def init(
    pair: Annotated[
        Literal["5.5", "4.6"],
        typer.Option(help="Opus 5.5 and Haiku 5.5, or Opus 4.6 and Haiku 4.5."),
    ] = "5.5",
    path: Annotated[
        Path,
        typer.Option(
            "--path", "--policy", envvar="TIERWISE_POLICY", help="Where to write it.", dir_okay=False
        ),
    ] = DEFAULT_POLICY,
    schema: Annotated[
        bool, typer.Option("--schema", help="Put the JSON Schema beside it, and tell editors so.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a policy to start from.

    It has two tiers and the ten task types that most pipelines have, with comments that say why each is where it
    is. A file that is there already is left alone.

    Example: tierwise init --pair 4.6
    """
    texts = {path: starter_policy(pair, schema=schema)}
    if schema:
        texts[path.with_name(SCHEMA_FILE)] = policy_schema_text()
    _write_all(texts, force=force)
    for written in texts:
        say(f"wrote {written}")
    named = "" if path == DEFAULT_POLICY else f" --policy {path}"
    say(f"Next: read it, then `tierwise check{named}` and `tierwise serve{named}`.")


def check(policy: PolicyOption = DEFAULT_POLICY, as_json: JsonOption = False) -> None:
    """Say what is wrong with a policy, or what it means.

    Every problem has its line and, where one can be told, a fix. A policy without problems is shown as a table:
    where each task type goes, and how long its replies may be.

    Example: tierwise check --policy policies/batch.toml
    """
    if not as_json:
        _print_meaning(load_book(policy), policy)
        return
    try:
        book = load_book(policy)
    except PolicyError as error:
        if isinstance(error.__cause__, OSError):
            raise
        print_json({"file": str(policy), "ok": False, "problems": error.problems})
        raise typer.Exit(ExitCode.WRONG) from error
    print_json({"file": str(policy), "ok": True, "problems": [], **_meaning(book)})


def schema() -> None:
    """Print the JSON Schema of the policy file, for editors.

    An editor with a TOML extension then completes keys and explains them. `tierwise init --schema` writes it beside
    the policy.

    Example: tierwise schema > tierwise.schema.json
    """
    typer.echo(policy_schema_text(), nl=False)


def _write_all(texts: dict[Path, str], *, force: bool) -> None:
    for path in texts:
        if path.exists() and not force:
            say(f"tierwise: {path} is there already; --force overwrites it", err)
            raise typer.Exit(ExitCode.ENVIRONMENT)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


def _print_meaning(book: "Book", file: Path) -> None:
    for line in warning_lines(book.warnings, file):
        say(line, err)
    policy = book.policy
    say(f"{file} is fine: policy {policy.version}, mode {policy.mode}, prices {book.prices.version}")
    table = new_table(
        "task type", "tier", "model", "max_tokens", "effort", "thinking", numbers=("max_tokens",)
    )
    for row in _rows(policy):
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    out.print(table)


def _meaning(book: "Book") -> dict[str, Any]:
    policy = book.policy
    return {
        "warnings": book.warnings,
        "policy_version": policy.version,
        "price_version": book.prices.version,
        "mode": policy.mode,
        "strict": policy.strict,
        "task_types": list(_rows(policy)),
    }


def _rows(policy: "Policy") -> Iterator[dict[str, Any]]:
    return (_row(contract, policy) for contract in policy.contracts.values())


def _row(contract: "Contract", policy: "Policy") -> dict[str, Any]:
    tier = policy.tiers[contract.tier]
    return {
        "task_type": contract.name,
        "tier": tier.name,
        "model": tier.model,
        "max_tokens": contract.max_tokens,
        "effort": contract.effort or tier.effort,
        "thinking": contract.thinking or tier.thinking,
    }
