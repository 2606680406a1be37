"""Coarse types: split where groups have different truths, and seldom where they have not."""

import random
from collections.abc import Callable

from audit.simulation import slack
from tierwise.audit.coarse import splits
from tierwise.audit.counts import Arm, LineKey
from tierwise.audit.splitting import Split
from tierwise.audit.standings import stand
from tierwise.audit.verdicts import Rules
from tierwise.core.ledger import Paired

AGENTS = ("planner", "reader", "writer")


def fleet(seed: int, worse: Callable[[str, str], float], *, types: int, pairs: int) -> list[Paired]:
    """Pairs of types with three agents; `worse` says how often the cheaper tier fails, by type and agent."""
    draw = random.Random(seed)
    found: list[Paired] = []
    for number in range(types):
        name = f"type-{number}"
        key = LineKey(
            task_type=name,
            dear=Arm(tier="frontier", model="opus"),
            cheap=Arm(tier="fast", model="haiku"),
        )
        for each in range(pairs):
            agent = draw.choice(AGENTS)
            lost, won = draw.random() < worse(name, agent), draw.random() < 0.02
            found.append(
                Paired(
                    pair_id=f"{name} {each}",
                    at_us=each,
                    call_id="c",
                    shadow_call_id="s",
                    task_type=name,
                    line=key.id,
                    line_parts=key.parts,
                    on_dear=True,
                    difference=-1 if lost else int(won),
                    how="check",
                    probability=0.1,
                    cluster=f"{each}",
                    dear_nanos=10,
                    cheap_nanos=1,
                    features=(
                        ("agent", agent),
                        ("body", draw.choice(("small", "large"))),
                        ("tools", draw.choice(("none", "some"))),
                    ),
                )
            )
    return found


def proposed(found: list[Paired]) -> dict[str, Split]:
    audit = stand(found, {}, traffic={}, margins={}, rules=Rules())
    names = {one.line.line: one.line.task_type for one in audit.standings}
    return {names[line]: split for line, split in splits(audit.standings, alpha=0.05).items()}


def test_the_type_whose_agents_differ_is_found_among_those_whose_do_not() -> None:
    def worse(name: str, agent: str) -> float:
        return 0.4 if (name, agent) == ("type-1", "planner") else 0.02

    found = proposed(fleet(1, worse, types=3, pairs=400))

    assert list(found) == ["type-1"]
    assert found["type-1"].feature == "agent"
    assert found["type-1"].groups[0].name == "planner"


def test_types_that_are_one_are_split_at_most_at_the_stated_rate() -> None:
    """At the margin, where a split would change something, and looked at as the pairs come."""

    def is_split(seed: int) -> bool:
        pairs = fleet(seed, lambda name, agent: 0.05, types=2, pairs=240)
        return any(proposed([pair for pair in pairs if pair.at_us < day]) for day in (60, 120, 240))

    repetitions = 30
    assert sum(is_split(seed) for seed in range(repetitions)) / repetitions <= 0.05 + slack(0.05, repetitions)


def test_pairs_without_features_propose_nothing() -> None:
    assert splits((), alpha=0.05) == {}
