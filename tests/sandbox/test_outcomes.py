import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tierwise.sandbox.outcomes import OutcomesError, load
from tierwise.sandbox.server import Running, running

DATA = Path(os.environ.get("TIERWISE_DATA") or Path(__file__).parents[3] / "shared" / "data")

ROWS = [
    {"id": "p1", "model": "small", "valid": False, "out_tokens": 40},
    {"id": "p1", "model": "large", "valid": True, "out_tokens": 400},
    {"id": "p2", "model": "small", "valid": True, "out_tokens": None},
    {"id": "p1", "model": "unused", "valid": True, "out_tokens": 9},
]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Running]:
    outcomes = load(
        lines(tmp_path / "outcomes.jsonl", ROWS),
        weak="small",
        strong="large",
        prompts=lines(tmp_path / "prompts.jsonl", [{"id": "p1", "question": "What is it?"}]),
    )
    with running(outcomes=outcomes) as sandbox:
        yield sandbox


def reply_to(sandbox: Running, content: str, model: str) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 1_000, "messages": [{"role": "user", "content": content}]}
    return sandbox.messages(body).json()


@pytest.mark.parametrize("content", ["[[sandbox outcome=p1]]", "What is it?"])
def test_a_recorded_prompt_is_answered_as_its_models_once_did(recorded: Running, content: str) -> None:
    weak = reply_to(recorded, content, "claude-haiku-5-5")
    strong = reply_to(recorded, content, "claude-opus-5-5")

    assert weak["content"][0]["text"].startswith("answer: wrong")
    assert weak["usage"]["output_tokens"] == 40
    assert strong["content"][0]["text"].startswith("answer: right")
    assert strong["usage"]["output_tokens"] == 400


def test_a_length_that_was_not_recorded_is_drawn(recorded: Running) -> None:
    assert reply_to(recorded, "[[sandbox outcome=p2]]", "claude-haiku-5-5")["usage"]["output_tokens"] >= 24


@pytest.mark.parametrize("content", ["[[sandbox outcome=p3]]", "[[sandbox outcome=p2]]"])
def test_an_outcome_that_was_not_recorded_is_refused(recorded: Running, content: str) -> None:
    error = reply_to(recorded, content, "claude-opus-5-5")["error"]

    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith("sandbox: no recorded outcome of 'p")


def test_another_prompt_is_answered_as_ever(recorded: Running) -> None:
    assert reply_to(recorded, "Hello", "claude-opus-5-5")["content"][0]["text"].startswith("Sandbox reply")


@pytest.mark.parametrize(
    ("rows", "weak", "problem"),
    [
        (ROWS, "tiny", "has no outcomes of 'tiny'; it has large, small, unused"),
        ([], "small", "holds no rows"),
        ([{"id": "p1", "model": "small"}], "small", "has none of the columns valid, correct, resolved"),
        ([{"model": "small", "valid": True}], "small", "has none of the columns id, instance_id"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, rows: list[dict[str, Any]], weak: str, problem: str
) -> None:
    with pytest.raises(OutcomesError, match=problem):
        load(lines(tmp_path / "outcomes.jsonl", rows), weak=weak, strong="large")


def test_a_file_that_is_absent_or_no_json_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("{")

    with pytest.raises(OutcomesError, match="cannot be read"):
        load(tmp_path / "absent.jsonl", weak="a", strong="b")
    with pytest.raises(OutcomesError, match="is not JSON lines"):
        load(wrong, weak="a", strong="b")


def test_parquet_without_polars_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)

    with pytest.raises(OutcomesError, match=r'pip install "tierwise\[outcomes\]"'):
        load(tmp_path / "outcomes.parquet", weak="a", strong="b")


@pytest.mark.parametrize(
    ("file", "prompts", "weak", "strong", "some_id"),
    [
        (
            "bfcl_v1_outcomes.parquet",
            "bfcl_v1_prompts.parquet",
            "claude-3-haiku-20240307-FC",
            "claude-3-5-sonnet-20240620-FC",
            "simple_0",
        ),
        (
            "zeroeval_outcomes.parquet",
            "zeroeval_prompts.parquet",
            "claude-3-haiku-20240307",
            "claude-3-opus-20240229",
            "crux-crux-test-#0",
        ),
        (
            "swebench_verified_minisweagent.parquet",
            "swebench_verified_prompts.parquet",
            None,
            None,
            "astropy__astropy-12907",
        ),
    ],
)
def test_the_public_recordings_are_read(
    file: str, prompts: str, weak: str | None, strong: str | None, some_id: str
) -> None:
    if not DATA.is_dir():
        pytest.skip(f"the folder of recorded outcomes is absent: {DATA}; set TIERWISE_DATA")
    if weak is None or strong is None:
        weak, strong = "GPT-5 mini (2025-08-07) (medium reasoning)", "Claude 4.5 Opus medium (20251101)"

    outcomes = load(DATA / file, weak=weak, strong=strong, prompts=DATA / prompts)

    assert len(outcomes.weak) == len(outcomes.strong) >= 500
    assert outcomes.find(some_id, weak=True) is not None
    assert some_id in outcomes.ids.values()
