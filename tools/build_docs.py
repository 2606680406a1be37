"""Writes the reference pages that repeat what the code says: states, commands, ledger, errors, fitting.

    python tools/build_docs.py            # writes docs/reference/{states,cli,ledger,errors,fitting}.md
    python tools/build_docs.py --check    # writes nothing; fails where a page is not up to date

A page that needs a word which the code does not hold has it here; a row of the code without its word, or a word
without its row, is a KeyError.
"""

import ast
import inspect
import re
import sqlite3
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import typer

from tierwise import usage
from tierwise.cli import COMMANDS, app
from tierwise.core import effects, exchange, ledger, matrix
from tierwise.core.catalog import MODELS
from tierwise.stores.ledger.rows import AUDITED
from tierwise.stores.ledger.schema import MIGRATIONS
from tierwise.wire.errors import WIRE_ERRORS

REFERENCE: Final = Path(__file__).parents[1] / "docs" / "reference"


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    parser = ArgumentParser(description="Writes the reference pages that repeat what the code says.")
    parser.add_argument("--check", action="store_true", help="fail where a page is not up to date")
    check: bool = parser.parse_args().check
    texts = pages()
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.name} is not up to date: run python tools/build_docs.py", file=sys.stderr)
        else:
            path.write_text(texts[path], "utf-8")
            print(f"wrote {path.name}")
    return 1 if check and stale else 0


def pages() -> dict[Path, str]:
    """Return what each generated page holds."""
    return {
        REFERENCE / "states.md": states_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "ledger.md": ledger_page(),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "fitting.md": fitting_page(),
    }


# --- States.


def states_page() -> str:
    """Return the page of the exchange's states, from `TRANSITIONS`."""
    moves = [(before, step, after) for (before, step), after in exchange.TRANSITIONS.items()]
    return _page(
        "The states of a call",
        "src/tierwise/core/exchange.py",
        "One call is one machine, `tierwise.core.exchange.Exchange`. It begins in `read`; a step that is not in",
        "the table below is a mistake of the driver and raises a `KeyError`. "
        "[The life of a call](../explanation/life-of-a-call.md) tells the story.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {exchange.State.READ}",
        *(f"    {before} --> {after}: {step}" for before, step, after in moves),
        f"    {exchange.State.DONE} --> [*]",
        "```",
        "",
        *_table(("in state", "step", "next state"), moves),
        "",
        "## Events, which a driver gives to the machine",
        "",
        *_table(("event", "meaning"), _sentences(effects.Event)),
        "",
        "## Effects, which the machine asks of a driver",
        "",
        *_table(("effect", "meaning"), _sentences(effects.Effect)),
    )


def _sentences(union: Any) -> list[tuple[str, str]]:
    """Name and docstring of each class of a union."""
    return [(f"`{kind.__name__}`", inspect.getdoc(kind) or "") for kind in union.__args__]


# --- Commands.

HELP_WIDTH: Final = 96


def cli_page() -> str:
    """Return the page of the commands: the help of each, as the program prints it."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("tierwise", [], resilient_parsing=True, terminal_width=HELP_WIDTH)
    lines = ["## `tierwise`", "", *_help(group, context)]
    for name in COMMANDS:
        _, command, _ = group.resolve_command(context, [name])
        lines += _command_help(command, f"tierwise {name}", "##")
    return _page("Commands", "src/tierwise/cli", "What `--help` says.", "", *lines)


def _command_help(command: Any, name: str, heading: str) -> list[str]:
    """The help of a command, and of the commands that it has itself."""
    context = command.make_context(name, [], resilient_parsing=True, terminal_width=HELP_WIDTH)
    lines = ["", f"{heading} `{name}`", "", *_help(command, context)]
    for inner, its in getattr(command, "commands", {}).items():
        lines += _command_help(its, f"{name} {inner}", f"{heading}#")
    return lines


def _help(command: Any, context: Any) -> list[str]:
    text: str = command.get_help(context)
    return ["```text", *(line.rstrip() for line in text.rstrip().splitlines()), "```"]


# --- The ledger.

_UNSAID: Final[Mapping[str, str]] = {
    "seq": "Place in the order of writing.",
    "call_id": "The call, as the reply's header `x-tierwise-call-id` names it; of a top-up, the entry's own id; "
    "of `paired` and `graded`, the pair's; of `declared`, the line's; of `acted`, `checked` and `outcome`, its own.",
    "kind": "`decided`, `set-aside`, `posted`, `failed`, `settled`, `topped-up`, `paired`, `graded`, `declared`, "
    "`acted`, `checked` or `outcome`.",
    "task_id": "The task, as the header `x-tierwise-task-id` names it.",
    "run_id": "The run, as `x-tierwise-run-id` names it, else `x-claude-code-session-id`.",
    "agent": "The agent, as `x-tierwise-agent` names it, else `x-claude-code-agent-id`.",
    "stream": "Whether the caller asked for a stream.",
    "max_tokens_asked": "The caller's own cap.",
    "policy_version": "First 12 hex digits of the SHA-256 of the policy's bytes.",
    "selection_probability": "Probability with which a call like this one gets this tier: 1 where nothing is drawn.",
    "stop_reason": "As the reply says it: `end_turn`, `tool_use`, `max_tokens`, …",
    "thinking_tokens": "Of the output, how many were thinking; NULL where the provider does not say.",
    "price_version": "Date and hash of the price data; with the policy's version behind it where that has prices.",
    "fault": "Whose doing it was: `caller`, `provider` or `gateway`.",
    "basis": "`reconciled`: the provider's own report says it. `assumed`: nobody could say it in time, and the worst "
    "case is taken.",
    "who": "Who raised the limit.",
    "why": "And why.",
    "data": "Of the audit's entries and of outcomes: all their fields, as a JSON object.",
}
"""Meanings of the columns whose fields have no docstring, for their names say enough where they stand."""

_ENDED: Final = "Of an ending: when the reply ended."

_KINDS: Final = (
    ledger.Decided,
    ledger.SetAside,
    ledger.Posted,
    ledger.Failed,
    ledger.Settled,
    ledger.ToppedUp,
)


def ledger_page() -> str:
    """Return the page of the ledger's table: columns from the schema, meanings from the entries' fields."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in MIGRATIONS:
            connection.executescript(migration)
        columns = _columns(connection, "entries")
        of_calls = _columns(connection, "calls")
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'entries'"
        )
        tables = {name: _columns(connection, name) for (name,) in names.fetchall()}
    said = _said()
    unused = _UNSAID.keys() - columns.keys() | _UNSAID.keys() & said.keys()
    if unused:
        raise KeyError(*sorted(unused))
    rows = [
        (f"`{name}`", kind.lower(), ", ".join(_filled_by(name)), _in_sql(said.get(name) or _UNSAID[name]))
        for name, kind in columns.items()
    ]
    renamed = ", ".join(f"`{name}`" for name in of_calls if name not in columns)
    return _page(
        "The ledger",
        "src/tierwise/core/ledger.py and stores/ledger/schema.py",
        "A ledger is one SQLite file in WAL mode, or a database in PostgreSQL with the same tables; any program may",
        "read it while a gateway writes. Its table `entries` holds immutable events: triggers refuse every UPDATE,",
        "and every DELETE but that of `tierwise ledger prune`. A call has one entry `decided` and, once it has ended,",
        "one entry `posted` or `failed`; under a budget, one `set-aside` between them; and one `settled`, where its",
        "cost was told later. A `topped-up` is no call's: it raises the limit of an account. Nor are `paired`,",
        "`graded` and `declared`, the audit's evidence, `acted` and `checked`, what came of it, and `outcome`, what",
        "somebody tells of a task or a run. These have all their fields in `data`. Amounts are whole",
        "nanodollars (10⁻⁹ US dollars), times are microseconds, `reasons`, `changes` and `accounts` are JSON lists of",
        "strings, `acts` and `stream` are 0 or 1. NULL is unknown, or not of this kind of entry; it is never zero.",
        "Prompts and replies are not recorded.",
        "",
        "## Table `entries`",
        "",
        *_table(("column", "type", "entries", "meaning"), rows),
        "",
        "## View `calls`",
        "",
        "One row a call: the columns of its decision beside those of its ending, which are NULL while it has none.",
        f"Two have other names there: {renamed} are the ending's `kind` and `at_us`. `cost_nanos` is the ending's, or",
        "that of the entry `settled`, whose `basis` and `note` stand beside it.",
        "",
        *_QUERIES,
        "",
        "## Derived tables",
        "",
        "They hold what the entries add up to, so that reports and starts do not read them all. A gateway brings them",
        "up to date while it writes, and they may be a few thousand entries behind: `tierwise report` and `tierwise",
        "budget` add the rest. Rows with `pruned = 1` stand for entries that are deleted; nothing else in these",
        "tables is more than the entries say.",
        "",
        *_table(("table", "holds", "columns"), _derived(tables)),
    )


_DERIVED: Final[Mapping[str, str]] = {
    "ledger": "The ledger's own id, which names it in a budget store; a copy by `tierwise ledger copy` has another.",
    "summary": "Up to which entry the others hold the entries.",
    "totals": "Calls, money and tokens of each hour since 1970 (UTC) by each dimension of `tierwise report`.",
    "unknown_types": "Calls of each hour that declare a task type which the policy does not know.",
    "balances": "What each account of the budgets holds; of one that counts calls, in calls.",
    "open_reservations": "Calls whose reservation is not settled.",
    "pruning": "Calls whose entries are being deleted; empty otherwise.",
}


def _derived(tables: Mapping[str, Iterable[str]]) -> list[tuple[str, str, str]]:
    if tables.keys() != _DERIVED.keys():
        raise KeyError(*sorted(tables.keys() ^ _DERIVED.keys()))
    return [
        (f"`{name}`", meaning, ", ".join(f"`{column}`" for column in tables[name]))
        for name, meaning in _DERIVED.items()
    ]


_QUERIES: Final = (
    "What each run cost, and how many of its calls have a cost that is not known:",
    "",
    "```sql",
    "SELECT run_id, count(*) AS calls, sum(cost_nanos) / 1e9 AS usd,",
    "    count(*) FILTER (WHERE ending IS NOT NULL AND cost_nanos IS NULL) AS unknown_cost",
    "FROM calls GROUP BY run_id ORDER BY usd DESC;",
    "```",
    "",
    "How long replies of a task type are, and how many were cut:",
    "",
    "```sql",
    "SELECT task_type, avg(output_tokens) AS mean, max(output_tokens) AS longest,",
    "    count(*) FILTER (WHERE stop_reason = 'max_tokens') AS cut",
    "FROM calls WHERE ending = 'posted' GROUP BY task_type;",
    "```",
)


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    return {row[1]: row[2] for row in connection.execute(f"PRAGMA table_info({table})")}


def _said() -> dict[str, str]:
    """The docstring of each field, by the column that holds it; two where two kinds of entry differ."""
    fields = _field_docs(ledger) | _field_docs(usage)
    said: dict[str, str] = {}
    for kind in ("Usage", "Timings", "SetAside", "Settled", "ToppedUp", "Decided"):
        said |= fields[kind]
    del said["entry_id"]
    said["at_us"] = f"{said['at_us']} {_ENDED}"
    for name in fields["Posted"].keys() | fields["Failed"].keys():
        posted, failed = fields["Posted"].get(name), fields["Failed"].get(name)
        said[name] = f"Posted: {posted} Failed: {failed}" if posted and failed else posted or failed or ""
    return said


def _in_sql(meaning: str) -> str:
    return re.sub(r"\bNone\b", "NULL", meaning)


def _field_docs(module: ModuleType) -> dict[str, dict[str, str]]:
    """Docstrings of the fields of a module's classes, by class and field."""
    return {
        node.name: {
            field.target.id: " ".join(ast.literal_eval(text.value).split())
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
        }
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.ClassDef)
    }


def _filled_by(column: str) -> Iterator[str]:
    """The kinds of entry that have a column."""
    for kind in _KINDS:
        names = set(kind.__dataclass_fields__)
        if "usage" in names:
            names |= set(usage.Usage.__dataclass_fields__) | set(ledger.Timings.__dataclass_fields__)
        if column in names | {"seq", "kind", "call_id"}:
            yield _kind_name(kind)
    if column in {"seq", *AUDITED}:
        yield from map(
            _kind_name,
            (ledger.Paired, ledger.Graded, ledger.Declared, ledger.Acted, ledger.Checked, ledger.Outcome),
        )


def _kind_name(kind: type) -> str:
    """As the column `kind` writes it: `set-aside` for `SetAside`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


# --- Errors.

_MEANINGS: Final[Mapping[str, str]] = {
    "malformed": "The body is not a Messages request: no JSON object, or `model`, `max_tokens` or `messages` is "
    "missing or of another type.",
    "unknown-task-type": "The declared task type is not in the policy, and the policy is strict, or the type stood "
    "in the model's name and there is no default contract.",
    "ineligible": "No tier's model takes this body. The message says why, tier by tier.",
    "thread": "The thread's model is not the decided one; or a budget or `max_cost_usd` does not cover what it may "
    "hold. The SDKs answer by sending the whole conversation.",
    "budget": "A budget has less left than the call may cost. The message and the headers say which, and until when.",
    "budget-store": "The store of the balances cannot be reached, so nobody knows what a hard budget has left.",
    "unpriced": "The model has no price, and a hard budget or `max_cost_usd` counts the call.",
    "too-dear": "The call's worst case is above its contract's `max_cost_usd`, at every useful cap.",
    "not-supported": "Text completions, what OpenAI bills beside tokens: they would cost money that "
    "the ledger does not see. Also a call of OpenAI's clients that the policy has no place for: nothing is translated.",
    "no-credential": "The caller brings no key and the gateway has none.",
    "unknown-key": "The gateway serves only its clients, and the request has the key of none.",
    "not-allowed": "The client may not make calls of this task type, or use this address.",
    "too-slow": "The headers took longer than 20 seconds; or the body paused for 20, or took 300.",
    "head-too-large": "The request has more than 200 headers, or more than 64 KiB of them.",
    "busy": "More than 256 MiB of large bodies are coming in at once.",
    "not-found": "No such path. The provider's API is under `/v1/`, the gateway's own pages under `/tierwise/`.",
    "too-large": "The body is larger than the 32 MB that the provider takes.",
    "internal": "A fault of Tierwise; its log has the traceback.",
    "unreachable": "No connection to the provider: the call was not sent.",
    "dropped": "The provider closed the connection before the end of its reply; it may have billed the call.",
    "ledger": "The ledger cannot be written, so no call is made.",
    "timeout": "The provider sent nothing within `read_timeout`. It may have billed the call.",
}


def errors_page() -> str:
    """Return the page of the errors that callers see, from `WIRE_ERRORS`."""
    unused = _MEANINGS.keys() - WIRE_ERRORS.keys()
    if unused:
        raise KeyError(*sorted(unused))
    rows = [
        (f"`{code}`", error.status, f"`{error.type}`", "yes" if error.retry else "no", _MEANINGS[code])
        for code, error in WIRE_ERRORS.items()
    ]
    return _page(
        "Errors that callers see",
        "src/tierwise/wire/errors.py",
        "An error of the gateway has the provider's shape, so that every SDK understands it:",
        "",
        "```json",
        '{"type": "error", "error": {"type": "invalid_request_error", "message": "…"}, "request_id": "c0651…"}',
        "```",
        "",
        "The header `x-tierwise-error` holds the code of the table and tells it from an error of the provider's own,",
        "which passes unchanged. `x-should-retry` tells the provider's SDKs whether to try again. `request_id` and",
        "the header `request-id` hold the call's id in the ledger, and `none` for a request that came to no entry.",
        "",
        *_table(("code", "status", "type", "retry", "meaning"), rows),
        "",
        "`thread` has `error.details.error_code` `thread_unsupported_request` besides.",
        "",
        "A stream that breaks is broken off: the caller's connection closes without the body's end, as the",
        "provider's did, and the SDKs raise a connection error.",
    )


# --- Fitting.

_FEATURES: Final[Mapping[str, str]] = {
    "thinking.adaptive": '`thinking.type` "adaptive"',
    "thinking.enabled": '`thinking.type` "enabled", with `budget_tokens`',
    "thinking.disabled": '`thinking.type` "disabled"',
    "thinking.between_tools": '`thinking.type` "between_tools"',
    "sampling.2023-06-01": "`temperature`, `top_p`, `top_k`",
    "sampling.2026-10-21": "the same under `anthropic-version` 2026-10-21 or later",
    "sampling.thinking": "the same while the model thinks",
    "prefill": "the last message is the assistant's",
    "tool_choice.any": '`tool_choice.type` "any"',
    "tool_choice.tool": '`tool_choice.type` "tool"',
    "system_turns": "a message with the role `system`",
    "task_budget": "`output_config.task_budget`",
    "compaction": "`compaction`, or a `compact_…` edit in `context_management`",
    "fallbacks": "`fallbacks`",
    "computer_20250124": "this type among `tools`",
    "computer_20251124": "this type among `tools`",
    "computer_toolset_20260801": "this type among `tools`",
    "inference_geo.global": '`inference_geo` "global"',
    "inference_geo.pinned": "any other `inference_geo`",
    "speed.standard": '`speed` "standard"',
    "speed.fast": '`speed` "fast"',
    "speed.fast+beta": "the same with the beta flag `fast-mode-2026-02-01`",
    "thread.moved": "`thread`, where the decided model is not the one asked for",
}


def fitting_page() -> str:
    """Return the page of the fitting table, from the code's own text of it."""
    constants = _constants(matrix)
    header, *rows = (line.split() for line in constants["_TABLE"].strip().splitlines())
    unused = _FEATURES.keys() - {row[0] for row in rows}
    if unused:
        raise KeyError(*sorted(unused))
    return _page(
        "The fitting table",
        "src/tierwise/core/matrix.py",
        "What becomes of each feature of a request at each model, where Tierwise changes the call at all.",
        "[Fitting](../explanation/fitting.md) says why. A cell is one of these words; a dot stands for `ok`.",
        "",
        *_table(("word", "the feature"), _words(inspect.getdoc(matrix) or "")),
        "",
        "## Features",
        "",
        *_table(("row", "holds for a request with"), ((f"`{row[0]}`", _FEATURES[row[0]]) for row in rows)),
        "",
        "## Models",
        "",
        *_table(("column", "models"), _models(header, constants["_COLUMN_OF"])),
        "",
        "## The table",
        "",
        *_table(("", *header), ((f"`{name}`", *map(_cell, words)) for name, *words in rows)),
        "",
        "Besides the table: an effort that the model does not take becomes the nearest lower one; `max_tokens` is",
        "never sent above the model's own limit; a thinking budget that leaves no room below the cap is lowered;",
        "a body too long for the model's context is ineligible.",
    )


def _constants(module: ModuleType) -> dict[str, Any]:
    """The module's constants that are plain literals, by name: its private tables are read from its text."""
    found: dict[str, Any] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            try:
                found[node.target.id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def _words(docstring: str) -> list[tuple[str, str]]:
    return [
        (f"`{word}`", meaning) for word, meaning in re.findall(r"^    (\w+) +(.+)$", docstring, re.MULTILINE)
    ]


def _models(header: list[str], column_of: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for column in header:
        yield column, ", ".join(f"`{model}`" for model in MODELS if column_of[model] == column)


def _cell(word: str) -> str:
    return "·" if word == "ok" else f"**{word}**" if word == "no" else word


# --- Markdown.


def _page(title: str, source: str, *lines: str) -> str:
    head = f"<!-- Generated by tools/build_docs.py from {source}: change those. -->"
    return "\n".join((head, "", f"# {title}", "", *lines)) + "\n"


def _table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    titles = list(header)
    return [_row(titles), _row(["---"] * len(titles)), *(_row(row) for row in rows)]


def _row(cells: Iterable[object]) -> str:
    escaped = (str(cell).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


if __name__ == "__main__":
    sys.exit(main())
