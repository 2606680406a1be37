"""Acts in a ledger, of either kind."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import acted
from tierwise.core.ledger import Act
from tierwise.stores.ledger.acts import acts, count_acts
from tierwise.stores.ledger.opening import Ledger, open_ledger
from tierwise.stores.ledger.verification import verify


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    where = tmp_path / "ledger" if request.param == "sqlite" else request.getfixturevalue("address")
    with closing(open_ledger(where)) as ledger:
        yield ledger


def test_acts_are_read_as_they_were_written_and_in_order(ledger: Ledger) -> None:
    first, second = acted("a2"), acted("a1", act=Act.APPLIED, share=None)
    ledger.write([first])
    ledger.write([second])

    assert acts(ledger) == (first, second)
    assert count_acts(ledger) == 2


def test_of_two_acts_with_one_name_the_first_is_kept(ledger: Ledger) -> None:
    ledger.write([acted(share=0.9)])
    ledger.write([acted(share=0.98)])

    assert acts(ledger) == (acted(share=0.9),)


def test_an_act_belongs_to_no_call_and_breaks_no_law(ledger: Ledger) -> None:
    ledger.write([acted()])

    assert not [finding.law for finding in verify(ledger) if finding.breaches]
