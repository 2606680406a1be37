"""A call after which another attempt is made, through both drivers: its caller is handed nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from support.plays import Driver, play
from support.policies import TWO_TIERS, book
from support.transcripts import JSON, Transcript, error, message
from tierwise.errors import UpstreamDropped, UpstreamUnreachable

OVERLOADED = error("overloaded_error", 529)
RAISES = book(TWO_TIERS + 'on_truncation = "raise-cap"\n')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture(params=["coroutine", "thread"])
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        (OVERLOADED, "overloaded_error"),
        (replace(OVERLOADED, breaks=UpstreamDropped(why="reset")), "stream-broke"),
        (Transcript(no_reply=UpstreamUnreachable(why="refused")), "unreachable"),
    ],
)
def test_a_failure_that_is_tried_again_is_recorded_and_handed_to_nobody(
    driver: Driver, path: Path, provider: Transcript, error: str
) -> None:
    played = play(driver, provider, path, tries_again=True)

    assert played.again is not None
    assert (played.taken.status, played.taken.parts, played.taken.answered) == (None, [], None)
    assert (played.call["error"], played.call["cost_nanos"]) == (error, 0)
    assert played.notes[-1] == "ending durable"


def test_a_cut_reply_that_is_tried_again_is_held_back(driver: Driver, path: Path) -> None:
    cut = Transcript(chunks=(message(stop_reason="max_tokens", output_tokens=512),))
    played = play(driver, cut, path, policy=RAISES, tries_again=True)

    assert played.again is not None
    assert played.again.lengthens
    assert (played.taken.parts, played.call["stop_reason"]) == ([], "max_tokens")


def test_a_caller_that_does_not_try_again_gets_every_failure(driver: Driver, path: Path) -> None:
    played = play(driver, OVERLOADED, path, policy=RAISES)

    assert played.again is None
    assert (played.taken.status, played.taken.parts) == (529, [b"".join(OVERLOADED.chunks)])


def test_a_caller_that_leaves_while_an_error_is_read_aside_ends_it_all(path: Path) -> None:
    hanging = replace(OVERLOADED, hangs="after the chunks")
    played = play("coroutine", hanging, path, tries_again=True)

    assert played.again is None
    assert (played.call["error"], played.call["cost_nanos"], played.closed) == ("caller-left", 0, [True])


def test_the_providers_word_on_another_try_is_kept(driver: Driver, path: Path) -> None:
    final = replace(OVERLOADED, headers=(*JSON, (b"x-should-retry", b"false")))

    assert play(driver, final, path, tries_again=True).again is None
