"""The process in which patterns and schemas are asked, run as a module: one that takes too long is ended by its alarm.

A pattern keeps the interpreter for itself as long as it is matched, so that no thread could stop it, or run beside it.
The kernel does. Each question is a length in four bytes and as many of JSON; each answer a line: `yes`, `no`, or the
name of the error that kept it from telling. It ends when its questions do.
"""

import json
import signal
import sys
from functools import lru_cache
from typing import Any, BinaryIO, Final

from tierwise.audit.grading import holds, unfenced
from tierwise.core.checks import TextRule
from tierwise.wire.schemas import Validator, describes, validator_of

LENGTH: Final = 4
"""Bytes that tell how long a question is."""

MOST_SCHEMAS: Final = 64
"""Schemas that are kept ready."""


def main(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer one question after the other."""
    while head := questions.read(LENGTH):
        question = json.loads(questions.read(int.from_bytes(head, "big")))
        signal.setitimer(signal.ITIMER_REAL, question["limit_s"])
        said = _answer(question)
        signal.setitimer(signal.ITIMER_REAL, 0)
        answers.write(said.encode() + b"\n")
        answers.flush()


def _answer(question: dict[str, Any]) -> str:
    try:
        return "yes" if _asked(question["kind"], question["argument"], question["text"]) else "no"
    except Exception as error:  # noqa: BLE001 — whatever it is, it is told
        return type(error).__name__


def _asked(kind: str, argument: str, text: str) -> bool:
    if kind == "schema":
        return describes(_ready(argument), unfenced(text))
    return holds(TextRule(kind="regex", argument=argument), text)


@lru_cache(MOST_SCHEMAS)
def _ready(schema: str) -> Validator:
    return validator_of(schema)


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    main(sys.stdin.buffer, sys.stdout.buffer)
