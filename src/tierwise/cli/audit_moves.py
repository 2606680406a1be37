"""`tierwise audit propose`, `apply` and `log`: from verdicts to the policy file, and what came of them before."""

import difflib
import getpass
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tierwise.audit.standings import Audit, Standing
from tierwise.audit.verdicts import Verdict
from tierwise.cli.console import ExitCode, err, harmless, new_table, out, print_json, say
from tierwise.cli.options import (
    DEFAULT_LEDGER,
    DEFAULT_POLICY,
    JsonOption,
    LedgerOption,
    PolicyOption,
)
from tierwise.config import load_book, parse_book
from tierwise.config.editing import Edit, edited, write_policy
from tierwise.core.ledger import Act, Acted
from tierwise.core.policy import Policy
from tierwise.engine.clock import call_ids, now_us
from tierwise.engine.standing import audit_of
from tierwise.money import format_usd
from tierwise.stores.ledger.acts import acts
from tierwise.stores.ledger.opening import open_ledger, read_ledger

_Provisional = Annotated[bool, typer.Option("--provisional", help="Also types that are provisional.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One change of the policy that a verdict asks for."""

    task_type: str
    from_tier: str
    to_tier: str
    standing: Standing

    @property
    def why(self) -> str:
        """The verdict and what it rests on, in few words."""
        return f"{self.standing.verdict.value}, {self.standing.line.pairs} pairs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """All changes, and the policy before and after them."""

    file: Path
    before: str
    after: str
    moves: tuple[Move, ...]

    @property
    def diff(self) -> str:
        """The change as `diff -u` writes it."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            str(self.file),
            str(self.file),
        )
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
        )


def propose(
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    provisional: _Provisional = False,
    as_json: JsonOption = False,
) -> None:
    """Print the change of the policy that the audit asks for.

    Types that are proven move to the cheaper tier, types that need the dearer one move up. It is a unified diff, with
    the evidence as comments; `apply` makes the change. A type that has moved keeps being compared, as long as `shadow`
    stays.

    Example: tierwise audit propose
    """
    proposal = proposal_of(policy, ledger, provisional=provisional, at_us=now_us())
    if as_json:
        print_json(_proposal_json(proposal))
    else:
        _show(proposal)


def apply(
    types: Annotated[
        list[str] | None, typer.Argument(metavar="[TYPE]...", help="Only these task types; none: all.")
    ] = None,
    policy: PolicyOption = DEFAULT_POLICY,
    ledger: LedgerOption = DEFAULT_LEDGER,
    provisional: _Provisional = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    who: Annotated[
        str | None, typer.Option("--who", metavar="WHO", help="Who changes it, for the record.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change the policy file as `propose` shows.

    It asks first; with --json it writes only with --yes. The file is replaced at once and keeps its permissions and
    whatever else is in it. Nothing is written if it was changed meanwhile, or would not load afterwards. A running
    gateway takes it up by itself. The ledger keeps what was changed, who and why.

    Example: tierwise audit apply triage --yes
    """
    proposal = proposal_of(policy, ledger, provisional=provisional, only=types or (), at_us=now_us())
    missing = sorted(set(types or ()) - {move.task_type for move in proposal.moves})
    if missing:
        say(f"tierwise: no verdict asks for a change of {', '.join(missing)}", err)
        raise typer.Exit(ExitCode.WRONG)
    if not as_json:
        _show(proposal)
    written = bool(proposal.moves) and (yes or (not as_json and typer.confirm("Write this?")))
    if written:
        _write(proposal, ledger, who=who or getpass.getuser())
    if as_json:
        print_json({**_proposal_json(proposal), "written": written})
    elif proposal.moves:
        say(f"Written: {policy}" if written else "Nothing was written.")


def log(ledger: LedgerOption = DEFAULT_LEDGER, as_json: JsonOption = False) -> None:
    """Show what came of verdicts: policy changes, moves of the autopilot, reverts and alarms, oldest first.

    Example: tierwise audit log
    """
    with closing(read_ledger(ledger)) as reader:
        found = acts(reader)
    if as_json:
        print_json({"acts": [asdict(act) for act in found]})
        return
    if not found:
        say("Nothing has come of any verdict yet.")
        return
    table = new_table(
        "at (UTC)", "act", "type", "tiers", "share", "verdict", "who", "why", numbers=("share",)
    )
    for act in found:
        table.add_row(*(Text(harmless(cell)) for cell in _cells(act)))
    out.print(table)


def moves_of(audit: Audit, policy: Policy, *, provisional: bool) -> Iterator[Move]:
    """The changes of tier that the verdicts ask for."""
    down = {Verdict.PROVEN, Verdict.PROVISIONAL} if provisional else {Verdict.PROVEN}
    for standing in audit.standings:
        dear, cheap = standing.line.tiers
        contract = policy.contracts.get(standing.line.task_type)
        target = cheap if standing.verdict in down else dear if standing.verdict is Verdict.NEEDED else None
        if contract is None or target is None or contract.tier not in {dear, cheap} - {target}:
            continue
        yield Move(task_type=contract.name, from_tier=contract.tier, to_tier=target, standing=standing)


def proposal_of(
    policy: Path, ledger: str, *, provisional: bool, only: Iterable[str] = (), at_us: int
) -> Proposal:
    """Work out the changes of a policy file that a ledger's verdicts of a time ask for.

    Args:
        policy: the file.
        ledger: its file or address.
        provisional: whether types that are provisional move too.
        only: the task types that may; none: all.
        at_us: now, in microseconds since 1970 UTC.

    Raises:
        PolicyError: the policy does not load.
        LedgerError: the ledger cannot be read.
    """
    load_book(policy)  # says what is wrong with a file that cannot be read
    before = policy.read_bytes().decode()
    known = parse_book(before, file=str(policy)).policy
    with closing(read_ledger(ledger)) as reader:
        audit = audit_of(reader, known, at_us=at_us)
    wanted = set(only)
    moves = tuple(
        move
        for move in moves_of(audit, known, provisional=provisional)
        if not wanted or move.task_type in wanted
    )
    after = edited(before, [_edit(move, at_us) for move in moves], file=str(policy)) if moves else before
    return Proposal(file=policy, before=before, after=after, moves=moves)


def _edit(move: Move, at_us: int) -> Edit:
    return Edit(
        path=("task_types", move.task_type, "tier"),
        value=move.to_tier,
        remarks=tuple(_evidence(move, at_us)),
    )


def _evidence(move: Move, at_us: int) -> Iterator[str]:
    """What the change rests on, for people."""
    standing = move.standing
    counts, interval, stake = standing.line.counts, standing.interval, standing.stake
    dear, cheap = standing.line.tiers
    open_ = f", {standing.line.undecided} not graded" if standing.line.undecided else ""
    yield (
        f"{_moment(at_us)[:10]}, {standing.verdict.value}: of {standing.line.pairs} pairs {cheap} did worse than "
        f"{dear} in {counts.worse}, as well in {counts.same}, better in {counts.better}{open_}"
    )
    yield (
        f"quality {interval.low * 100:+.1f} to {interval.high * 100:+.1f} points, "
        f"of which a loss of {standing.margin * 100:.0f} counts as none"
    )
    if stake is not None:
        low, high = format_usd(stake.low_nanos), format_usd(stake.high_nanos)
        yield f"{format_usd(stake.nanos)} a day {'saved' if standing.line.on_dear else 'more'} ({low} to {high})"


def _write(proposal: Proposal, ledger: str, *, who: str) -> None:
    new_id = call_ids()
    with closing(open_ledger(ledger)) as writer:
        write_policy(proposal.file, before=proposal.before, after=proposal.after)
        writer.write([_applied(move, act_id=new_id(), who=who) for move in proposal.moves])


def _applied(move: Move, *, act_id: str, who: str) -> Acted:
    return Acted(
        act_id=act_id,
        at_us=now_us(),
        act=Act.APPLIED,
        task_type=move.task_type,
        line=move.standing.line.line,
        verdict=move.standing.verdict.value,
        from_tier=move.from_tier,
        to_tier=move.to_tier,
        share=None,
        who=who,
        why=move.why,
    )


def _show(proposal: Proposal) -> None:
    if proposal.moves:
        say(proposal.diff.rstrip("\n"))
    else:
        say("Nothing to change: no type is proven to be on the wrong tier.")


def _proposal_json(proposal: Proposal) -> dict[str, Any]:
    return {
        "moves": [
            {
                "task_type": move.task_type,
                "from": move.from_tier,
                "to": move.to_tier,
                "verdict": move.standing.verdict.value,
                "why": move.why,
            }
            for move in proposal.moves
        ],
        "diff": proposal.diff,
    }


def _cells(act: Acted) -> Iterator[str]:
    yield _moment(act.at_us)
    yield act.act.value
    yield act.task_type
    yield f"{act.from_tier} → {act.to_tier}"
    yield "" if act.share is None else f"{act.share:.0%}"
    yield act.verdict
    yield act.who
    yield act.why


def _moment(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1_000_000, UTC):%Y-%m-%d %H:%M:%S}"
