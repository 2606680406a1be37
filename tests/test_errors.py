import inspect
import re

import pytest

from tierwise import errors
from tierwise.errors import (
    CallerGone,
    LedgerError,
    LedgerTooNew,
    LedgerUnavailable,
    MalformedPair,
    MalformedRequest,
    MoneyError,
    NoCap,
    PolicyError,
    PolicyProblem,
    PriceDataError,
    TierwiseError,
    UnknownTaskType,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_a_tierwise_error(kind: type[Exception]) -> None:
    assert issubclass(kind, TierwiseError)


def test_the_module_opens_with_the_whole_tree_of_its_errors() -> None:
    tree = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    parents: dict[int, str] = {}
    drawn: dict[str, str] = {}
    for branch, name in tree:
        parents[len(branch)] = name
        drawn[name] = parents.get(len(branch) - 4, "Exception")

    assert drawn == {kind.__name__: kind.__base__.__name__ for kind in CLASSES if kind.__base__}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TierwiseError(), "Something in Tierwise failed."),
        (CallerGone(), "Whoever made the call no longer takes the reply."),
        (LedgerError(), "The ledger failed."),
        (MoneyError(amount="ten", why="is not an amount of dollars"), "'ten' is not an amount of dollars"),
        (PriceDataError(where="claude-x", why="is there twice"), "price data, claude-x: is there twice"),
        (MalformedRequest(why="model: Field required"), "model: Field required"),
        (
            MalformedPair(file="pairs.jsonl", line=7, why="task_type is empty", fix="name the kind of task"),
            "pairs.jsonl: line 7: task_type is empty\n    name the kind of task",
        ),
        (
            UnknownTaskType(task_type="extracton", nearest="extraction", known=("extraction", "synthesis")),
            (
                "The policy has no task type 'extracton'. Did you mean 'extraction'? "
                "It knows: extraction, synthesis."
            ),
        ),
        (
            UnknownTaskType(task_type="xyz", nearest=None, known=("extraction",)),
            "The policy has no task type 'xyz'. It knows: extraction.",
        ),
        (
            NoCap(task_type="extraction", model="claude-next"),
            (
                "extraction has no max_tokens and claude-next is not in the catalogue: "
                "give max_tokens in the call or in the policy"
            ),
        ),
        (
            LedgerUnavailable(path="calls.db", why="disk full"),
            "the ledger calls.db cannot be used: disk full",
        ),
        (
            LedgerTooNew(path="calls.db", found=3, known=2),
            (
                "the ledger calls.db has schema version 3, this Tierwise knows up to 2: "
                "use the newer Tierwise that wrote it, or another file"
            ),
        ),
        (UpstreamError(why="it hung up"), "The provider gave no reply: it hung up"),
        (UpstreamUnreachable(why="no route"), "The provider could not be reached: no route"),
        (UpstreamTimeout(why="600 s"), "The provider did not answer in time: 600 s"),
    ],
)
def test_an_error_says_in_a_sentence_what_failed(error: TierwiseError, message: str) -> None:
    assert str(error) == message


def test_a_wrong_policy_names_every_problem_as_compilers_do() -> None:
    error = PolicyError(
        file="tierwise.toml",
        problems=(
            PolicyProblem(
                path="task_types.x.tier", line=7, message="there is no tier 'fats'", fix='tier = "fast"'
            ),
            PolicyProblem(path="", line=None, message="there is no tier at all"),
        ),
    )

    assert str(error) == (
        "tierwise.toml:7: task_types.x.tier: there is no tier 'fats'\n"
        '    tier = "fast"\n'
        "tierwise.toml: there is no tier at all"
    )


def test_a_problem_can_say_of_what_kind_it_is() -> None:
    problem = PolicyProblem(path="mode", line=1, message="is not a mode")

    assert problem.describe("p.toml", kind="warning") == "p.toml:1: warning: mode: is not a mode"
