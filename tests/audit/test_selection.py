import random
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.simulation import pair
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_safe
from tierwise.audit.selection import bar, e_bh, select

VALUES = st.dictionaries(st.text(min_size=1, max_size=3), st.floats(-20, 20), max_size=12)


def test_the_largest_number_of_lines_is_declared_that_the_rule_allows() -> None:
    # K / (α k) for K = 4: 80, 40, 26.7, 20.
    assert e_bh({"a": log(79), "b": log(39), "c": log(26), "d": log(19)}, alpha=0.05) == ()
    assert e_bh({"a": log(81), "b": log(39), "c": log(26), "d": log(19)}, alpha=0.05) == ("a",)
    assert e_bh({"a": log(79), "b": log(39), "c": log(27), "d": log(19)}, alpha=0.05) == ("a", "b", "c")
    assert e_bh({}, alpha=0.05) == ()


def test_one_line_alone_needs_one_over_alpha() -> None:
    assert e_bh({"a": log(20.1)}, alpha=0.05) == ("a",)
    assert e_bh({"a": log(19.9)}, alpha=0.05) == ()


@given(values=VALUES, alpha=st.floats(0.01, 0.5))
def test_the_declared_lines_are_those_that_brute_force_finds(values: dict[str, float], alpha: float) -> None:
    def enough(count: int) -> bool:
        return sum(value >= log(len(values) / (alpha * count)) for value in values.values()) >= count

    size = max((count for count in range(1, len(values) + 1) if enough(count)), default=0)

    assert len(e_bh(values, alpha=alpha)) == size


@given(values=VALUES, more=st.floats(0, 10), data=st.data())
def test_more_evidence_for_one_line_takes_nothing_from_another(
    values: dict[str, float], more: float, data: st.DataObject
) -> None:
    before = set(e_bh(values, alpha=0.05))
    if values:
        line = data.draw(st.sampled_from(sorted(values)))
        values = {**values, line: values[line] + more}

    assert before <= set(e_bh(values, alpha=0.05))


@given(values=VALUES, later=VALUES)
def test_a_declared_line_keeps_its_value_and_stays_declared(
    values: dict[str, float], later: dict[str, float]
) -> None:
    first = select(values, frozen={}, alpha=0.05)
    live = {line: later.get(line, -5.0) for line in values if line not in first.new}

    second = select(live, frozen=first.new, alpha=0.05)

    assert first.proven == frozenset(first.new)
    assert first.proven <= second.proven
    assert second.new.keys() <= live.keys()


def test_lines_that_are_opened_later_can_take_a_declaration_back() -> None:
    declared = select({"a": log(21)}, frozen={}, alpha=0.05)

    after = select({"b": 0.0, "c": 0.0}, frozen=declared.new, alpha=0.05)

    assert declared.proven == {"a"}
    assert after.proven == frozenset()


@pytest.mark.parametrize("declared", [0, 1, 2])
def test_the_bar_is_what_the_next_line_needs(declared: int) -> None:
    needed = bar(lines=3, declared=declared, alpha=0.05)
    frozen = {f"old-{number}": 9.0 for number in range(declared)}
    rest = {f"rest-{number}": -1.0 for number in range(2 - declared)}

    assert "new" in select({"new": needed + 1e-9, **rest}, frozen=frozen, alpha=0.05).proven
    assert "new" not in select({"new": needed - 1e-9, **rest}, frozen=frozen, alpha=0.05).proven


def test_few_of_all_claims_are_wrong_where_watching_each_line_alone_goes_wrong_in_many_fleets() -> None:
    def fleet(seed: int) -> tuple[float, bool]:
        """Share of false declarations of e-BH, and whether watching each line alone made any."""
        draw = random.Random(seed)
        counts = {f"fine-{n}": Counts() for n in range(4)} | {f"edge-{n}": Counts() for n in range(16)}
        frozen: dict[str, float] = {}
        alone = False
        for _ in range(60):  # looks, sixty pairs apart
            for line in sorted(counts.keys() - frozen.keys()):
                mean = 0.0 if line.startswith("fine") else -0.03
                found = [pair(draw, mean=mean, differing=0.05) for _ in range(60)]
                counts[line] += Counts(worse=found.count(-1), same=found.count(0), better=found.count(1))
            live = {
                line: log_safe(counts[line], margin=0.03) for line in sorted(counts.keys() - frozen.keys())
            }
            alone |= any(value >= log(20) for line, value in live.items() if line.startswith("edge"))
            frozen |= select(live, frozen=frozen, alpha=0.05).new
        false = sum(line.startswith("edge") for line in frozen)
        return false / max(1, len(frozen)), alone

    fleets = [fleet(seed) for seed in range(30)]

    assert sum(share for share, _ in fleets) / len(fleets) <= 0.05
    assert sum(alone for _, alone in fleets) / len(fleets) > 0.15
