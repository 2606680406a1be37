import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from audit.simulation import pair
from tierwise.audit.recorded import Concluded, conclude
from tierwise.audit.verdicts import Verdict
from tierwise.engine import offline
from tierwise.engine.offline import Gathered, gather
from tierwise.errors import MalformedPair
from tierwise.money import usd


def line(
    cheap: object = 1,
    frontier: object = 1,
    *,
    task_type: str = "extraction",
    cluster: object = "c",
    **more: Any,
) -> bytes:
    return json.dumps(
        {
            "task_type": task_type,
            "cluster": cluster,
            "cheap": {"quality": cheap, "cost_usd": 0.001, "model": "small"},
            "frontier": {"quality": frontier, "cost_usd": 0.025},
            **more,
        }
    ).encode()


def read(*lines: bytes, keep_going: bool = False) -> Gathered:
    return gather(lines, file="pairs.jsonl", keep_going=keep_going)


def test_a_line_is_a_pair_of_its_type_and_other_fields_are_ignored() -> None:
    found = read(line(cheap=0.5, cluster=1, model="x"), b"\n", line(task_type="triage", cluster=2))

    assert (found.lines, set(found.types)) == (2, {"extraction", "triage"})
    assert found.types["extraction"].mean == -0.5
    assert found.types["extraction"].costs.dear_nanos == usd("0.025")
    assert found.types["extraction"].costs.cheap_nanos == usd("0.001")


def test_true_and_false_are_qualities() -> None:
    assert read(line(cheap=False, frontier=True)).types["extraction"].mean == -1


def test_the_first_pair_of_a_cluster_counts_and_the_others_are_left_out() -> None:
    found = read(line(cheap=0), line(), line(), line(task_type="triage"), line(cluster=7), line(cluster="7"))

    assert found.types["extraction"].pairs == 3
    assert found.types["extraction"].left_out == 2
    assert found.types["extraction"].mean == pytest.approx(-1 / 3)
    assert found.types["triage"].pairs == 1


def test_pairs_that_name_no_cluster_are_taken_as_one_each_and_counted() -> None:
    found = read(line(cluster=None), line(cluster=None))

    assert (found.alone, found.types["extraction"].pairs) == (2, 2)


def test_an_unknown_quality_or_a_side_that_is_missing_leaves_the_pair_undecided() -> None:
    without = b'{"task_type": "extraction", "cheap": null, "frontier": {"quality": 1}}'
    found = read(line(cheap=None), without).types["extraction"]

    assert (found.pairs, found.undecided, found.costs.pairs) == (2, 2, 1)
    assert found.at_worst == {-1200: 2}
    assert found.at_best == {0: 2}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"pairs", "is no JSON object"),
        (b"[1]", "Expected `object`"),
        (b'{"cluster": 1, "cheap": {}, "frontier": {}}', "task_type"),
        (b'{"task_type": "a", "cheap": {"quality": 1}}', "frontier"),
        (line(task_type=""), "task_type is empty"),
        (line(cheap=1.2), "cheap.quality is 1.2"),
        (line(frontier=-0.1), "frontier.quality is -0.1"),
        (line(frontier="good"), "frontier.quality"),
        (line(cheap=1, frontier=1).replace(b"0.025", b"-0.025"), "frontier.cost_usd is -0.025"),
        (line(cheap=1, frontier=1).replace(b"0.025", b"1e300"), "frontier.cost_usd is 1e\\+300"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_what_to_do(bad: bytes, why: str) -> None:
    with pytest.raises(MalformedPair, match=why) as raised:
        read(line(), bad)

    assert (raised.value.file, raised.value.line) == ("pairs.jsonl", 2)
    assert raised.value.fix


def test_on_request_unusable_lines_count_as_undecided_in_their_type() -> None:
    found = read(
        line(cluster=1),
        line(cheap=7, cluster=2),
        line(cheap=7, cluster=1),
        line(cheap=7, cluster=None),
        b"pairs",
        line(task_type="", cheap=7),
        keep_going=True,
    )

    assert (found.bad, found.nowhere, found.alone, len(found.problems)) == (5, 2, 1, 5)
    assert (found.types["extraction"].pairs, found.types["extraction"].undecided) == (3, 2)
    assert found.types["extraction"].left_out == 1


def test_only_the_first_problems_are_kept() -> None:
    found = read(*[b"pairs"] * 30, keep_going=True)

    assert (found.bad, len(found.problems)) == (30, offline.TOLD)


def test_names_of_tasks_in_place_of_kinds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "MOST_TYPES", 2)

    with pytest.raises(MalformedPair, match="task type number 3"):
        read(line(task_type="a"), line(task_type="b"), line(task_type="c"))


def sessions(seed: int, *, cluster: bool) -> Iterator[bytes]:
    """Twenty pairs a session, all alike, of a type at the margin."""
    rng = random.Random(seed)
    for session in range(60):
        difference = pair(rng, mean=-0.03, differing=0.10)
        cheap, frontier = (0, 1) if difference < 0 else (1, 1 - difference)
        for task in range(20):
            yield line(cheap=cheap, frontier=frontier, cluster=session if cluster else f"{session}.{task}")


def verdict(seed: int, *, cluster: bool) -> Verdict:
    one: Concluded
    (one,) = conclude(read(*sessions(seed, cluster=cluster)).types, margin=0.03, alpha=0.05)
    return one.verdict


def test_pairs_of_one_session_prove_nothing_that_the_session_does_not() -> None:
    seeds = range(40)

    apart = sum(verdict(seed, cluster=False) is Verdict.PROVEN for seed in seeds)
    together = sum(verdict(seed, cluster=True) is Verdict.PROVEN for seed in seeds)

    assert apart / len(seeds) > 0.2
    assert together == 0
