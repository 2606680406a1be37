"""Checks as they are asked: beside the event loop, within their time, and never able to harm a call."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.waiting import eventually
from tierwise.config import load_book
from tierwise.core.checks import Check, Command, Function, Quality, Reply, Schema, TextRule
from tierwise.engine import check_jobs, checking
from tierwise.engine.checking import Checker

TOTAL = json.dumps({"type": "object", "required": ["total"]})
CATASTROPHE = r"^(a+)+$"
"""Takes for ever on the text below: longer than the universe is old."""
LONG = "a" * 60 + "!"


def a_check(rule: TextRule | Schema | Command | Function, *, limit_s: int = 60) -> Check:
    return Check(written=str(rule), version="1", rule=rule, limit_s=limit_s)


def command(folder: Path, *words: str, limit_s: int = 60) -> Check:
    return a_check(Command(words=words, folder=str(folder)), limit_s=limit_s)


def python(folder: Path, code: str, limit_s: int = 60) -> Check:
    return command(folder, sys.executable, "-c", code, limit_s=limit_s)


def function(call: Callable[[Reply], Quality], limit_s: int = 60) -> Check:
    return a_check(Function(call), limit_s=limit_s)


def said(*asked: tuple[Check, str]) -> list[bool | None]:
    """What a checker says of each, asked at the same time."""

    async def ask() -> list[bool | None]:
        checker = Checker()
        try:
            return await asyncio.gather(*(checker.passes(check, text) for check, text in asked))
        finally:
            checker.close()

    return asyncio.run(ask())


def test_each_kind_of_check_says_what_passes(tmp_path: Path) -> None:
    schema, pattern = a_check(Schema(TOTAL)), a_check(TextRule(kind="regex", argument="^to"))
    program = python(tmp_path, "import sys; sys.exit(sys.stdin.read() != 'total')")
    own = function(lambda reply: reply.text == "total")

    for check in (pattern, program, own, a_check(TextRule(kind="exact", argument="total"))):
        assert said((check, "total"), (check, "no")) == [True, False]
    assert said((schema, '{"total": 1}'), (schema, "{}")) == [True, False]


def test_a_schema_is_asked_of_the_json_in_a_fence() -> None:
    assert said((a_check(Schema(TOTAL)), '```json\n{"total": 1}\n```')) == [True]


def test_json_that_is_nested_too_deeply_fails_and_harms_nothing() -> None:
    check = a_check(Schema(TOTAL))

    assert said((check, "[" * 1_000_000), (check, '{"total": 1}')) == [False, True]


def test_where_the_schema_itself_goes_too_deep_it_cannot_tell() -> None:
    tree = json.dumps({"items": {"$ref": "#"}})

    assert said((a_check(Schema(tree)), "[" * 900 + "]" * 900), (a_check(Schema(tree)), "[]")) == [None, True]


@pytest.mark.parametrize(
    "rule",
    [
        TextRule(kind="regex", argument=CATASTROPHE),
        Schema(json.dumps({"type": "string", "pattern": CATASTROPHE})),
    ],
)
def test_a_pattern_that_takes_for_ever_stops_nobody_else(rule: TextRule | Schema) -> None:
    text = json.dumps(LONG) if isinstance(rule, Schema) else LONG

    async def ask() -> tuple[bool | None, int, bool | None]:
        checker = Checker()
        asked = asyncio.create_task(checker.passes(a_check(rule, limit_s=1), text))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0.01)
            turns += 1
        after = await checker.passes(a_check(TextRule(kind="regex", argument="a")), "a")
        checker.close()
        return asked.result(), turns, after

    result, turns, after = asyncio.run(ask())

    assert (result, after) == (None, True)
    assert turns > 10


def test_a_child_ends_by_its_own_alarm_when_nobody_ends_it() -> None:
    children = check_jobs.Children()
    rule = TextRule(kind="regex", argument=CATASTROPHE)

    with pytest.raises(check_jobs.CannotTell, match="its process ended with -14"):
        check_jobs.AskChild(rule, LONG, limit_s=1, children=children).run()


def test_one_process_answers_one_question_after_the_other() -> None:
    children = check_jobs.Children()
    first = children.take()
    children.give_back(first)

    rule = TextRule(kind="regex", argument="a")
    answers = [check_jobs.AskChild(rule, text, limit_s=60, children=children).run() for text in "ab"]

    assert answers == [True, False]
    assert children.take() is first
    children.give_back(first)
    children.close()
    assert first.returncode is not None


def test_a_process_that_has_ended_is_replaced() -> None:
    children = check_jobs.Children()
    first = children.take()
    children.give_back(first)
    first.kill()
    first.wait()

    second = children.take()

    assert second is not first
    children.close()
    children.give_back(second)
    assert second.returncode is not None


@pytest.mark.parametrize(("ends", "passes"), [(0, True), (1, False), (2, None), (127, None), (255, None)])
def test_a_program_says_it_by_how_it_ends(tmp_path: Path, ends: int, passes: bool | None) -> None:
    assert said((command(tmp_path, "sh", "-c", f"exit {ends}"), "text")) == [passes]


def test_a_program_need_not_read_the_reply_and_may_write_what_it_likes(tmp_path: Path) -> None:
    check = command(tmp_path, "sh", "-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 0")

    assert said((check, "x" * 3_000_000)) == [True]


def test_a_program_runs_in_the_policys_folder(tmp_path: Path) -> None:
    (tmp_path / "here").touch()

    assert said((command(tmp_path, "test", "-e", "here"), "")) == [True]


def test_a_program_that_is_not_there_any_more_cannot_tell(tmp_path: Path) -> None:
    assert said((command(tmp_path, "./gone"), ""), (command(tmp_path / "gone", "true"), "")) == [None, None]


def test_a_program_gets_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "TIERWISE_LEDGER", "DATABASE_URL", "MY_TOKEN"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("LC_TIME", "C")

    assert said((command(tmp_path, "sh", "-c", "env > seen; exit 0"), "")) == [True]

    seen = (tmp_path / "seen").read_text()
    assert "canary" not in seen
    assert "PATH=" in seen
    assert "LC_TIME=C" in seen


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    check = command(tmp_path, "sh", "-c", "sleep 3600 & echo $! > pid; wait", limit_s=1)

    assert said((check, "")) == [None]

    sleeper = int((tmp_path / "pid").read_text())
    eventually(lambda: alive(sleeper), until=lambda lives: not lives)


def test_what_a_program_leaves_behind_is_ended(tmp_path: Path) -> None:
    assert said((command(tmp_path, "sh", "-c", "sleep 3600 & echo $! > pid"), "")) == [True]

    sleeper = int((tmp_path / "pid").read_text())
    eventually(lambda: alive(sleeper), until=lambda lives: not lives)


def test_a_program_ends_when_whoever_asked_goes_away(tmp_path: Path) -> None:
    check = command(tmp_path, "sh", "-c", "echo $$ > pid; sleep 3600")

    async def ask() -> None:
        checker = Checker()
        asked = asyncio.create_task(checker.passes(check, ""))
        await asyncio.to_thread(eventually, lambda: pid_in(tmp_path), until=bool)
        asked.cancel()
        await asyncio.wait({asked})

    asyncio.run(ask())

    shell = int((tmp_path / "pid").read_text())
    eventually(lambda: alive(shell), until=lambda lives: not lives)


def pid_in(folder: Path) -> str:
    written = folder / "pid"
    return written.read_text() if written.exists() else ""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False


def test_only_so_many_programs_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "AT_ONCE", 1)
    check = command(tmp_path, "sh", "-c", "mkdir alone || exit 1; sleep 0.05; rmdir alone")

    assert said(*[(check, "")] * 5) == [True] * 5


def test_a_check_whose_turn_does_not_come_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "AT_ONCE", 1)

    slow, next_one = command(tmp_path, "sleep", "2"), command(tmp_path, "true", limit_s=1)

    assert said((slow, ""), (next_one, "")) == [True, None]


@pytest.mark.parametrize(
    ("returned", "passes"),
    [(True, True), (False, False), (None, None), (1, True), (0.5, True), (0.49, False), (0, False)],
)
def test_a_function_says_it_by_what_it_returns(returned: Quality, passes: bool | None) -> None:
    assert said((function(lambda _: returned), "text")) == [passes]


@pytest.mark.parametrize("returned", ["yes", 2, -0.1, float("nan"), [True]])
def test_a_function_that_returns_no_quality_cannot_tell(
    returned: Quality, caplog: pytest.LogCaptureFixture
) -> None:
    assert said((function(lambda _: returned), "text")) == [None]
    assert f"it returned no quality, but {type(returned).__name__}" in caplog.text


@pytest.fixture
def patience() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_function_that_never_returns_cannot_tell_and_keeps_nobody(patience: threading.Event) -> None:
    slow = function(lambda _: patience.wait(60), limit_s=1)

    assert said((slow, ""), (function(lambda _: True), "")) == [None, True]


@pytest.mark.parametrize("error", [ValueError("the reply's secret words"), SystemExit(0), RecursionError()])
def test_a_function_that_fails_cannot_tell_and_the_log_says_it_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Reply) -> bool:
        raise error

    check = function(fails)

    async def ask() -> list[bool | None]:
        checker = Checker()
        return [await checker.passes(check, "secret words") for _ in range(3)]

    assert asyncio.run(ask()) == [None] * 3
    (record,) = caplog.records
    assert f"{type(error).__name__} in test_checking.py" in record.getMessage()
    assert "secret words" not in record.getMessage()


def test_a_function_is_called_on_a_thread_of_its_own() -> None:
    threads: list[int] = []

    assert said((function(lambda _: bool(threads.append(threading.get_ident())) or True), "")) == [True]
    assert threads != [threading.get_ident()]


def body(*content: dict[str, object]) -> bytes:
    return json.dumps({"type": "message", "role": "assistant", "content": content}).encode()


@pytest.mark.parametrize(
    ("reply", "passes"),
    [
        (body({"type": "text", "text": "to"}, {"type": "text", "text": "tal"}), True),
        (body({"type": "thinking", "thinking": "total"}, {"type": "text", "text": "no"}), False),
        (body({"type": "text", "text": "total"}, {"type": "tool_use", "name": "a", "input": {}}), None),
        (b"no message", None),
    ],
)
def test_a_whole_reply_is_checked_by_its_text(reply: bytes, passes: bool | None) -> None:
    check = a_check(TextRule(kind="exact", argument="total"))

    assert asyncio.run(Checker().passes_whole(check, reply)) is passes


EXAMPLES = Path(__file__).parents[2] / "examples" / "checks" / "tierwise.toml"


@pytest.mark.parametrize(
    ("task_type", "good", "bad"),
    [
        ("invoices", '{"number": "7", "total": 3, "lines": [{"what": "tea", "amount": 3}]}', '{"total": 3}'),
        ("scripts", "```python\nprint(1)\n```", "print(1"),
        ("expressions", "f(g(x))", ")("),
    ],
)
def test_the_checks_of_the_examples_tell_good_replies_from_bad_ones(
    task_type: str, good: str, bad: str
) -> None:
    check = load_book(EXAMPLES).policy.contracts[task_type].check

    assert check is not None
    assert said((check, good), (check, bad)) == [True, False]


def test_no_file_descriptor_stays_open(tmp_path: Path) -> None:
    checks = [command(tmp_path, "true"), a_check(TextRule(kind="regex", argument="a"))]
    said(*((check, "a") for check in checks))
    before = open_files()

    said(*((check, "a") for check in checks))

    assert open_files() <= before


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
