"""Outcomes as they are told."""

from itertools import count
from typing import Any

import pytest

from tierwise.core.ledger import Outcome
from tierwise.errors import MalformedOutcome
from tierwise.wire.outcomes import Told, outcome_entry, read_outcomes


def entry(told: Told, *, teller: str = "k1", only_own: bool = False) -> Outcome:
    numbers = count(1)
    return outcome_entry(
        told, teller=teller, only_own=only_own, at_us=7, new_id=lambda: f"new-{next(numbers)}"
    )


def test_an_outcome_is_of_a_task_a_run_or_both() -> None:
    told = read_outcomes(
        b'[{"task_id": "t", "success": true}, {"run_id": "r", "success": false},'
        b' {"run_id": "r", "task_id": "t", "quality": 0.5}]'
    )

    assert [(one.run_id, one.task_id, one.quality) for one in told] == [
        (None, "t", 1.0),
        ("r", None, 0.0),
        ("r", "t", 0.5),
    ]


def test_one_outcome_needs_no_list() -> None:
    assert len(read_outcomes(b'{"task_id": "t", "success": true}')) == 1


def test_ids_are_cut_where_those_of_calls_are() -> None:
    (told,) = read_outcomes(b'{"run_id": "%s", "quality": 1}' % (b"r" * 300))

    assert told.run_id == "r" * 200


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"{", "The body is not JSON"),
        (b"7", "An outcome is an object"),
        (b'[{"task_id": "t", "success": true}, 7]', "Outcome 2: An outcome is an object"),
        (b'{"success": true}', "Say what it is about"),
        (b'{"task_id": "", "success": true}', "`task_id` is to be a text"),
        (b'{"task_id": 7, "success": true}', "`task_id` is to be a text"),
        (b'{"task_id": "t"}', "`success` or `quality`, one of the two"),
        (b'{"task_id": "t", "success": true, "quality": 1}', "`success` or `quality`, one of the two"),
        (b'{"task_id": "t", "success": "yes"}', "`success` is to be true or false"),
        (b'{"task_id": "t", "quality": 1.5}', "from 0 to 1"),
        (b'{"task_id": "t", "quality": true}', "from 0 to 1"),
        (b'{"task_id": "t", "quality": "good"}', "from 0 to 1"),
        (b'{"task": "t", "success": true}', "There is no `task` in an outcome"),
        (b"[%s]" % b",".join([b"1"] * 1001), "at most 1000 at once"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(raw: bytes, says: str) -> None:
    with pytest.raises(MalformedOutcome, match=says):
        read_outcomes(raw)


def test_an_id_names_the_same_entry_again_but_not_for_another_teller() -> None:
    (told,) = read_outcomes(b'{"task_id": "t", "success": true, "id": "own"}')

    assert entry(told).outcome_id == entry(told).outcome_id != entry(told, teller="k2").outcome_id


def test_without_an_id_it_gets_a_new_one() -> None:
    (told,) = read_outcomes(b'{"task_id": "t", "success": true}')

    assert entry(told).outcome_id == "outcome-new-1"


@pytest.mark.parametrize(("only_own", "key_id"), [(True, "k1"), (False, None)])
def test_who_may_not_make_all_calls_tells_only_of_its_own(only_own: Any, key_id: str | None) -> None:
    (told,) = read_outcomes(b'{"task_id": "t", "success": true}')

    assert entry(told, only_own=only_own).key_id == key_id
