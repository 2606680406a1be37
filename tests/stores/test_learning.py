"""What the ledger's calls teach of texts and replies, whichever database holds it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided, posted, set_aside, settled
from tierwise.core.calibration import LEAST_CALLS, Ratio
from tierwise.core.ledger import Entry
from tierwise.core.lengths import Counts
from tierwise.stores.ledger import learning
from tierwise.stores.ledger.learning import calibration, lengths
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.usage import Usage


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    is_file = request.param == "sqlite"
    where = str(tmp_path / "ledger.sqlite3") if is_file else request.getfixturevalue("address")
    with closing(open_ledger(where)) as ledger:
        yield ledger


def a_call(
    call_id: str,
    tokens: int,
    of_bytes: int | None,
    *,
    kind: str | None = "ascii",
    model: str = "claude-haiku-5-5",
) -> list[Entry]:
    used = Usage(input_tokens=tokens, output_tokens=9)
    return [
        decided(call_id),
        set_aside(call_id, prompt_bytes=of_bytes, prompt_kind=kind),
        posted(call_id, served_model=model, usage=used),
    ]


def test_a_ledger_without_calls_teaches_nothing(ledger: Ledger) -> None:
    assert calibration(ledger).ratios == {}


def test_the_highest_ratio_is_learned_by_model_and_kind_of_text(ledger: Ledger) -> None:
    ledger.write(
        [
            *a_call("c1", 200, 1000),
            *a_call("c2", 250, 1000),
            *a_call("c3", 400, 1000, kind="unicode"),
            *a_call("c4", 300, 1000, model="claude-opus-5-5"),
        ]
    )

    assert calibration(ledger).ratios == {
        ("claude-haiku-5-5", "ascii"): Ratio(calls=2, most_per_mille=250),
        ("claude-haiku-5-5", "unicode"): Ratio(calls=1, most_per_mille=400),
        ("claude-opus-5-5", "ascii"): Ratio(calls=1, most_per_mille=300),
    }


def test_tokens_from_and_for_the_cache_are_tokens_of_the_prompt(ledger: Ledger) -> None:
    usage = Usage(input_tokens=10, cache_write_5m_tokens=20, cache_write_1h_tokens=30, cache_read_tokens=40)
    ledger.write([decided(), set_aside(prompt_bytes=1000, prompt_kind="ascii"), posted(usage=usage)])

    assert calibration(ledger).ratios["claude-haiku-5-5", "ascii"].most_per_mille == 100


def test_a_ratio_is_rounded_up(ledger: Ledger) -> None:
    ledger.write(a_call("c1", 1, 999))

    assert calibration(ledger).ratios["claude-haiku-5-5", "ascii"].most_per_mille == 2


def test_calls_that_are_not_all_text_or_did_not_finish_teach_nothing(ledger: Ledger) -> None:
    ledger.write(
        [
            *a_call("c1", 9000, None, kind=None),
            decided("c2"),
            set_aside("c2", prompt_bytes=1000, prompt_kind="ascii"),
            settled("c2"),
        ]
    )

    assert calibration(ledger).ratios == {}


def test_only_the_latest_calls_are_looked_at(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "LOOKS_AT", 2)
    ledger.write([*a_call("c1", 900, 1000), *a_call("c2", 100, 1000), *a_call("c3", 200, 1000)])

    assert calibration(ledger).ratios["claude-haiku-5-5", "ascii"] == Ratio(calls=2, most_per_mille=200)


def test_a_bound_needs_enough_calls_and_is_half_more_than_the_highest_ratio(ledger: Ledger) -> None:
    calls = [a_call(f"c{number}", 200, 1000) for number in range(LEAST_CALLS)]
    ledger.write([entry for call in calls[1:] for entry in call])
    before = calibration(ledger).most_tokens("claude-haiku-5-5", "ascii", 10_000)
    ledger.write(calls[0])

    assert before == 10_000
    assert calibration(ledger).most_tokens("claude-haiku-5-5", "ascii", 10_000) == 3_000
    assert calibration(ledger).most_tokens("claude-haiku-5-5", "unicode", 10_000) == 10_000


def a_reply(call_id: str, tokens: int, *, stop_reason: str = "end_turn", **of: str | None) -> list[Entry]:
    used = Usage(input_tokens=10, output_tokens=tokens)
    return [decided(call_id, **of), posted(call_id, usage=used, stop_reason=stop_reason)]


def test_replies_are_counted_by_type_model_and_length_and_cut_ones_apart(ledger: Ledger) -> None:
    ledger.write(
        [
            *a_reply("c1", 512),
            *a_reply("c2", 512, stop_reason="max_tokens"),
            *a_reply("c3", 513),
            *a_reply("c4", 0),
            *a_reply("c5", 10**6),
            *a_reply("c6", 70, task_type="synthesis"),
            *a_reply("c7", 70, task_type=None),
        ]
    )

    assert lengths(ledger).histograms == {
        ("extraction", "claude-haiku-5-5"): {
            64: Counts(whole=1),
            512: Counts(whole=1, cut=1),
            724: Counts(whole=1),
            131_072: Counts(whole=1),
        },
        ("synthesis", "claude-haiku-5-5"): {91: Counts(whole=1)},
    }
