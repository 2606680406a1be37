"""What breaks an audit, and what becomes of it here. Clusters and dropped failures are with recorded pairs."""

import random

import pytest

from audit.simulation import pair, slack
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_safe, threshold
from tierwise.audit.labels import LabelledEvidence, LabelPlan, observe, overturning_bias
from tierwise.audit.sampling import Purpose, Sampled, sample, uniform
from tierwise.audit.selection import select


def restarts(seed: int, *, remembered: bool) -> bool:
    """Whether a type at the margin is ever called safe, if its evidence is begun anew whenever it disappoints."""
    draw, frozen = random.Random(seed), dict[str, float]()
    for line in range(25):
        counts = Counts()
        for number in range(1, 201):
            found = pair(draw, mean=-0.05, differing=0.10)
            counts += Counts(worse=found < 0, same=found == 0, better=found > 0)
            if number % 5 == 0:
                live = {f"line-{line}": log_safe(counts, margin=0.05)}
                if select(live, frozen=frozen if remembered else {}, alpha=0.05).new:
                    return True
        frozen[f"line-{line}"] = log_safe(counts, margin=0.05)
    return False


def test_evidence_that_is_begun_anew_until_it_proves_is_counted_with_all_that_was_begun_before() -> None:
    repetitions = 60

    forgotten = sum(restarts(seed, remembered=False) for seed in range(repetitions)) / repetitions
    remembered = sum(restarts(seed, remembered=True) for seed in range(repetitions)) / repetitions

    assert forgotten > 0.25
    assert remembered <= 0.05 + slack(0.05, repetitions)


def test_a_rate_that_is_changed_after_a_task_was_seen_cannot_choose_among_tasks() -> None:
    """A cluster's draw is that of its name and day: neither the task nor its answer is in it."""
    clusters = [f"cluster-{number}" for number in range(4000)]
    draws = {name: uniform(Purpose.PAIR, "line", name, 20_781, salt="s") for name in clusters}
    good = set(clusters[::2])

    at_low = {
        n for n in clusters if isinstance(sample(draw=draws[n], rate=0.1, cluster_has_pair=False), Sampled)
    }
    at_high = {
        n
        for n in clusters
        if isinstance(sample(draw=draws[n], rate=0.5, cluster_has_pair=n in at_low), Sampled)
    }

    assert not at_low & at_high
    for chosen, size in ((at_low, 0.1), (at_low | at_high, 0.5)):
        assert len(chosen) / 4000 == pytest.approx(size, abs=slack(size, 4000))
        assert len(chosen & good) / len(chosen) == pytest.approx(0.5, abs=slack(0.5, len(chosen)))


def judged(draw: random.Random, *, bias: float) -> tuple[int, int]:
    """The truth at a margin of 5 points, and a judge who favours the cheaper tier in ties by so much."""
    truth = pair(draw, mean=-0.05, differing=0.10)
    noise = draw.random()
    if truth:
        return truth, truth
    return truth, 1 if noise < 0.02 + bias else -1 if noise > 0.98 else 0


@pytest.mark.parametrize("bias", [0.02, 0.03])
def test_a_biased_judge_alone_claims_too_much_and_says_which_bias_would_overturn_it(bias: float) -> None:
    repetitions, claimed, exceeded = 40, 0, 0
    for seed in range(repetitions):
        draw, counts = random.Random(seed), Counts()
        for _ in range(4000):
            _, found = judged(draw, bias=bias)
            counts += Counts(worse=found < 0, same=found == 0, better=found > 0)
        claimed += log_safe(counts, margin=0.05) >= threshold(0.05)
        exceeded += overturning_bias(counts, margin=0.05, alpha=0.05) > 0.9 * bias

    assert claimed / repetitions > 0.25
    assert exceeded / repetitions <= 0.05 + slack(0.05, repetitions)


@pytest.mark.parametrize("bias", [0.02, 0.03])
def test_with_labels_the_same_judge_holds_the_stated_error(bias: float) -> None:
    def proves(seed: int) -> bool:
        draw, evidence = random.Random(seed), LabelledEvidence(margin=0.05, plan=LabelPlan())
        for _ in range(900):
            truth, found = judged(draw, bias=bias)
            asked = draw.random() < evidence.plan.probability(found)
            evidence = observe(evidence, judged=found, label=truth if asked else None)
            if evidence.log_safe >= threshold(0.05):
                return True
        return False

    repetitions = 40

    assert sum(proves(seed) for seed in range(repetitions)) / repetitions <= 0.05 + slack(0.05, repetitions)
