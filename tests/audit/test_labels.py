import random
from statistics import fmean, median

import pytest

from audit.simulation import slack
from tierwise.audit.counts import Counts
from tierwise.audit.evidence import log_safe, threshold
from tierwise.audit.labels import (
    LabelledEvidence,
    LabelPlan,
    attenuated_margin,
    corrected,
    observe,
    overturning_bias,
    sensitivity_bound,
)

PROVEN = threshold(0.05)


def judged_pair(draw: random.Random, *, mean: float, bias: float = 0.0) -> tuple[int, int]:
    """The truth and what a judge says who keeps 80 % of differences and sees some in 6 % of ties."""
    chance, noise = draw.random(), draw.random()
    truth = 1 if chance < (0.1 + mean) / 2 else -1 if chance < 0.1 else 0
    if truth:
        return truth, truth if noise < 0.8 else 0
    return truth, 1 if noise < 0.03 + bias / 2 else -1 if noise > 0.97 + bias / 2 else 0


def labelled(evidence: LabelledEvidence, draw: random.Random, truth: int, judged: int) -> LabelledEvidence:
    asked = draw.random() < evidence.plan.probability(judged)
    return observe(evidence, judged=judged, label=truth if asked else None)


def until_proven(
    *, mean: float, bias: float, seed: int, most: int, plan: LabelPlan | None = None
) -> LabelledEvidence:
    draw = random.Random(seed)
    evidence = LabelledEvidence(margin=0.05, plan=plan or LabelPlan())
    while evidence.log_safe < PROVEN and evidence.pairs < most:
        evidence = labelled(evidence, draw, *judged_pair(draw, mean=mean, bias=bias))
    return evidence


@pytest.mark.parametrize("plan", [LabelPlan(), LabelPlan(tie=0.25, differing=0.5)])
def test_labels_hold_the_error_at_the_margin_however_the_judge_is_biased(plan: LabelPlan) -> None:
    repetitions = 40

    false = sum(
        until_proven(mean=-0.05, bias=0.03, seed=seed, most=900, plan=plan).log_safe >= PROVEN
        for seed in range(repetitions)
    )

    assert false / repetitions <= 0.05 + slack(0.05, repetitions)


def test_a_biased_judge_alone_proves_falsely_nearly_always() -> None:
    def proves(seed: int) -> bool:
        draw, counts = random.Random(seed), Counts()
        for _ in range(1500):
            _, judged = judged_pair(draw, mean=-0.05, bias=0.03)
            counts += Counts(worse=judged == -1, same=judged == 0, better=judged == 1)
            if log_safe(counts, margin=0.05) >= PROVEN:
                return True
        return False

    assert sum(proves(seed) for seed in range(20)) >= 18


def test_the_median_of_pairs_and_labels_until_a_proof_is_the_reference() -> None:
    found = [until_proven(mean=0, bias=0, seed=seed, most=20_000) for seed in range(40)]

    assert median(evidence.pairs for evidence in found) == pytest.approx(840, rel=0.35)
    assert median(evidence.labels for evidence in found) == pytest.approx(250, rel=0.35)


def test_the_corrected_difference_has_the_true_mean_whatever_the_judge_says() -> None:
    for judged in (-1, 0, 1):
        for truth in (-1, 0, 1):
            for coefficient in (0.0, 0.4, 1.0):
                asked = corrected(judged=judged, label=truth, probability=0.2, coefficient=coefficient)
                not_asked = corrected(judged=judged, label=None, probability=0.2, coefficient=coefficient)

                assert 0.2 * asked + 0.8 * not_asked == pytest.approx(truth)


@pytest.mark.parametrize("plan", [LabelPlan(), LabelPlan(tie=0.5, differing=0.1), LabelPlan(tie=1)])
def test_no_corrected_difference_reaches_further_than_the_stakes_allow(plan: LabelPlan) -> None:
    values = [
        corrected(judged=judged, label=label, probability=plan.probability(judged), coefficient=coefficient)
        for judged in (-1.0, 0.0, 1.0)
        for label in (-1.0, 0.0, 1.0, None)
        for coefficient in (0.0, 0.5, 1.0)
    ]

    assert max(map(abs, values)) <= plan.reach + 1e-12


def test_the_coefficient_is_learnt_from_earlier_labels() -> None:
    draw, plan = random.Random(1), LabelPlan(tie=0.5, differing=0.5)
    useless = useful = LabelledEvidence(margin=0.05, plan=plan)
    for _ in range(2000):
        truth, judged = judged_pair(draw, mean=0)
        useful = labelled(useful, draw, truth, judged)
        useless = labelled(useless, draw, 0, judged)

    assert LabelledEvidence(margin=0.05, plan=plan).coefficient == 1
    assert useful.coefficient == pytest.approx(0.08 / (0.08 + 0.9 * 0.06), abs=0.15)
    assert useless.coefficient == 0


def test_equal_answers_need_neither_judge_nor_label() -> None:
    evidence = LabelledEvidence(margin=0.05, plan=LabelPlan())
    for _ in range(600):
        evidence = observe(evidence, judged=0, label=0, probability=1)

    assert evidence.log_safe > PROVEN


def test_every_pair_labelled_is_evidence_as_without_a_judge() -> None:
    draw = random.Random(2)
    evidence = LabelledEvidence(margin=0.05, plan=LabelPlan(tie=1, differing=1))
    found: list[int] = []
    for _ in range(300):
        truth, judged = judged_pair(draw, mean=0.01)
        evidence = observe(evidence, judged=judged, label=truth)
        found.append(truth)
    counts = Counts(worse=found.count(-1), same=found.count(0), better=found.count(1))

    assert evidence.log_safe == pytest.approx(log_safe(counts, margin=0.05), abs=1e-9)
    assert evidence.labels == evidence.pairs == 300


def test_an_uncorrected_claim_comes_with_the_bias_that_would_overturn_it() -> None:
    judged = Counts(worse=30, same=1900, better=70)

    bias = overturning_bias(judged, margin=0.05, alpha=0.05)

    assert 0.05 < bias < 0.02 + 0.05
    assert overturning_bias(Counts(worse=90, same=900, better=10), margin=0.05, alpha=0.05) < 0


def test_a_judge_that_sees_a_part_is_held_to_that_part_of_the_margin() -> None:
    bound = sensitivity_bound(kept=160, missed=40, alpha=0.05)

    assert 0.70 < bound < 0.80
    assert attenuated_margin(0.05, sensitivity=bound) == pytest.approx(0.05 * bound)
    assert sensitivity_bound(kept=0, missed=0, alpha=0.05) == 0


def test_the_bound_of_sensitivity_holds_at_every_look() -> None:
    def exceeds(seed: int) -> bool:
        draw, kept = random.Random(seed), 0
        for number in range(1, 201):
            kept += draw.random() < 0.8
            if number % 10 == 0 and sensitivity_bound(kept=kept, missed=number - kept, alpha=0.05) > 0.8:
                return True
        return False

    assert fmean(exceeds(seed) for seed in range(60)) <= 0.05 + slack(0.05, 60)
