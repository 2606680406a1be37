from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date
from pathlib import Path

import pytest

from support.entries import acted, decided, failed, posted, set_aside, settled, topped_up
from tierwise.core.ledger import Entry
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.copying import ROWS_A_STATEMENT, copy_ledger
from tierwise.stores.ledger.groups import key_ids, our_calls, pruned_until
from tierwise.stores.ledger.learning import calibration
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.reports import report
from tierwise.stores.ledger.reservations import account_totals, open_reservations, past
from tierwise.stores.ledger.retention import prune
from tierwise.stores.ledger.rows import DECIDED
from tierwise.stores.ledger.verification import verify

DAY_US = 86_400_000_000


def quietly(done: int, total: int) -> None:
    """Nobody looks."""


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite"])
def both(request: pytest.FixtureRequest, tmp_path: Path, address: str) -> Iterator[tuple[Ledger, Ledger]]:
    """A source and a destination."""
    places: list[str | Path] = [tmp_path / "ledger.sqlite3", address]
    if request.param == "postgres to sqlite":
        places.reverse()
    with closing(open_ledger(places[0])) as source, closing(open_ledger(places[1])) as destination:
        yield source, destination


def history() -> list[Entry]:
    """Calls of every fate on two days, and a top-up."""
    entries: list[Entry] = [topped_up("t1"), acted("a1")]
    for number in range(2 * ROWS_A_STATEMENT):
        call_id, at_us = f"c{number}", number % 2 * DAY_US + number
        entries += [
            decided(call_id, at_us=at_us, agent=f"ü{number % 3}"),
            set_aside(call_id, at_us=at_us, prompt_bytes=400, prompt_kind="ascii"),
        ]
        match number % 4:
            case 0:
                entries.append(posted(call_id, at_us=at_us))
            case 1:
                entries.append(failed(call_id, at_us=at_us, cost_nanos=None, at_least_nanos=3))
            case 2:
                entries += [failed(call_id, at_us=at_us, cost_nanos=None), settled(call_id, at_us=at_us)]
            case _:
                pass
    return entries


def sums(ledger: Ledger) -> object:
    return report(ledger, by="agent"), account_totals(ledger), open_reservations(ledger)


def learned(ledger: Ledger) -> object:
    days = our_calls(ledger, since=date(1970, 1, 1), until=date(1970, 1, 9))
    return days, key_ids(ledger), pruned_until(ledger), calibration(ledger), list(past(ledger))


def columns(ledger: Ledger) -> list[object]:
    names = ", ".join((*DECIDED, "data"))
    return [tuple(row.values()) for row in ledger.rows(f"SELECT {names} FROM entries ORDER BY seq")]


def test_a_copy_has_the_same_entries_in_the_same_order_and_comes_to_the_same(
    both: tuple[Ledger, Ledger],
) -> None:
    source, destination = both
    source.write(history())

    copied = copy_ledger(source, destination, progress=quietly)

    assert copied == len(history())
    assert columns(destination) == columns(source)
    assert sums(destination) == sums(source)
    assert learned(destination) == learned(source)
    assert not [finding for finding in verify(destination) if finding.breaches]


def test_a_copy_of_a_pruned_ledger_has_the_sums_of_what_was_deleted(both: tuple[Ledger, Ledger]) -> None:
    source, destination = both
    source.write(history())
    before = sums(source)
    pruned = prune(source, DAY_US)

    copy_ledger(source, destination, progress=quietly)

    assert pruned.calls > 0
    assert sums(destination) == before
    assert learned(destination) == learned(source)
    assert not [finding for finding in verify(destination) if finding.breaches]


def test_a_copy_goes_on_with_the_entries_that_come_after_it(both: tuple[Ledger, Ledger]) -> None:
    source, destination = both
    source.write([decided("c1"), set_aside("c1")])
    copy_ledger(source, destination, progress=quietly)

    destination.write([posted("c1")])

    assert [line.totals.finished for line in report(destination).lines] == [1]
    assert not [finding for finding in verify(destination) if finding.breaches]


def test_a_destination_that_has_entries_is_refused_and_left_as_it_is(both: tuple[Ledger, Ledger]) -> None:
    source, destination = both
    source.write(history())
    destination.write([decided("other")])

    with pytest.raises(LedgerUnavailable, match="has entries already"):
        copy_ledger(source, destination, progress=quietly)

    assert [row["call_id"] for row in destination.rows("SELECT call_id FROM entries")] == ["other"]


def test_a_copy_that_is_interrupted_leaves_nothing_and_can_be_begun_again(
    both: tuple[Ledger, Ledger],
) -> None:
    source, destination = both
    source.write(history())

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        copy_ledger(source, destination, progress=interrupt)
    left = list(destination.rows("SELECT call_id FROM entries"))
    copy_ledger(source, destination, progress=quietly)

    assert left == []
    assert sums(destination) == sums(source)


def test_a_text_with_a_zero_in_it_does_not_stop_a_copy(both: tuple[Ledger, Ledger]) -> None:
    source, destination = both
    source.write([decided(requested_model="a\0b")])

    copy_ledger(source, destination, progress=quietly)

    ((model,),) = [row.values() for row in destination.rows("SELECT requested_model FROM calls")]
    assert model in {"a\0b", "a\N{REPLACEMENT CHARACTER}b"}


def test_progress_is_told_up_to_the_end(both: tuple[Ledger, Ledger]) -> None:
    source, destination = both
    source.write(history())
    told: list[tuple[int, int]] = []

    copy_ledger(source, destination, progress=lambda done, total: told.append((done, total)))

    total = len(history())
    assert told[0] == (ROWS_A_STATEMENT, total)
    assert told[-1] == (total, total)


def test_a_copy_that_does_not_come_to_the_same_is_not_kept(
    both: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, destination = both
    source.write(history())
    run: Callable[..., int] = destination.run

    def forgetful(statement: str, parameters: object = ()) -> int:
        return 0 if "INTO balances" in statement else run(statement, parameters)

    monkeypatch.setattr(destination, "run", forgetful)

    with pytest.raises(LedgerUnavailable, match="does not come to the same: the balances"):
        copy_ledger(source, destination, progress=quietly)

    assert list(destination.rows("SELECT call_id FROM entries")) == []
