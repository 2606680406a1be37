"""Labels: a judge's verdicts made honest by people who label some of the same pairs.

A judge that favours one tier proves whatever it favours, and one that overlooks differences proves too easily that
there are none. So where a judge gives J, and a person labels a pair's true D with a probability π that was fixed when
J was known, the bets are placed on

    X = c J + (ξ / π) (D - c J),   ξ = 1 if labelled, else 0

whose mean is that of D whatever the judge does: the evidence is about the truth, and the judge only saves labels.
c is learnt from earlier labels alone. A label of a pair that the judge called a tie weighs 1/π, so π must not be
small there: by default a fifth of ties and all differences are labelled.

Where nobody labels, the evidence is about the judge, and a claim comes with the bias that would overturn it.

No judge and no person is asked yet: Tierwise has only checks, which need neither.

Sources: Csillag et al., arXiv 2502.04294 (prediction-powered e-values); Zrnic & Candès, arXiv 2403.03208 (labels
where they matter); Angelopoulos et al., arXiv 2311.01453 (c).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p

from tierwise.audit.confidence import lower_bound
from tierwise.audit.counts import Counts, Tally
from tierwise.audit.evidence import BOLDEST, GAMBLERS, mixture, spaced


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """With which probability a person labels a pair, by what the judge said: fixed for a line of evidence."""

    tie: float = 0.2
    differing: float = 1.0

    def __post_init__(self) -> None:
        assert 0 < self.tie <= 1
        assert 0 < self.differing <= 1

    def probability(self, judged: float) -> float:
        """The probability for one pair."""
        return self.differing if judged else self.tie

    @property
    def reach(self) -> float:
        """The largest X there is, and the negative of the smallest."""
        return max(1 / self.tie, (2 - self.differing) / self.differing)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledEvidence:
    """The capitals of all gamblers so far, and what the judge's coefficient is learnt from.

    Unlike counts it depends on the order of pairs, and two of them do not merge.
    """

    margin: float
    plan: LabelPlan
    safe: tuple[float, ...] = (0.0,) * GAMBLERS
    needed: tuple[float, ...] = (0.0,) * GAMBLERS
    pairs: int = 0
    labels: int = 0
    agreement: float = 0.0
    """Sum of ξ D J / π."""
    judged_squares: float = 0.0
    """Sum of J²."""

    @property
    def log_safe(self) -> float:
        """The ln E against "the cheaper tier loses the margin or more", in truth and not only to the judge."""
        return mixture(self.safe)

    @property
    def log_needed(self) -> float:
        """The ln E against "the cheaper tier loses the margin or less"."""
        return mixture(self.needed)

    @property
    def coefficient(self) -> float:
        """c: how far the judge is believed, from 0 to 1, by the pairs so far; 1 before any.

        It minimises the variance of X where labels are drawn evenly: Σ D J / Σ J².
        """
        if not self.judged_squares:
            return 1.0
        return min(1.0, max(0.0, self.agreement / self.judged_squares))


def observe(
    evidence: LabelledEvidence, *, judged: float, label: float | None, probability: float | None = None
) -> LabelledEvidence:
    """Take one more pair: what the judge said, and what the person said, if one was asked.

    Pairs must come in the order in which they were drawn, unlabelled ones too, once their label is there or is not
    due. `probability` is the one with which this pair was labelled, where it is not the plan's: 1 for a pair whose
    answers are equal, which needs no judge (`judged` 0, `label` 0). It must not be below the plan's.
    """
    chance = probability if probability is not None else evidence.plan.probability(judged)
    assert evidence.plan.probability(judged) <= chance <= 1
    value = corrected(judged=judged, label=label, probability=chance, coefficient=evidence.coefficient)
    mean, reach, stakes = -evidence.margin, evidence.plan.reach, _stakes(evidence)
    known = label is not None
    return LabelledEvidence(
        margin=evidence.margin,
        plan=evidence.plan,
        safe=_bet(evidence.safe, [stake / (reach + mean) for stake in stakes], value - mean),
        needed=_bet(evidence.needed, [stake / (reach - mean) for stake in stakes], mean - value),
        pairs=evidence.pairs + 1,
        labels=evidence.labels + known,
        agreement=evidence.agreement + (label * judged / chance if label is not None else 0.0),
        judged_squares=evidence.judged_squares + judged**2,
    )


def corrected(*, judged: float, label: float | None, probability: float, coefficient: float) -> float:
    """X: the judge's difference, corrected so that its mean is the true one (Csillag et al., arXiv 2502.04294)."""
    guess = coefficient * judged
    return guess if label is None else guess + (label - guess) / probability


def overturning_bias(judged: Tally, *, margin: float, alpha: float) -> float:
    """b*: the claim "safe" holds unless the judge favours the cheaper tier by more than this.

    The judge's mean difference, at its lower confidence bound, plus the margin. Not positive where the judge
    itself does not support the claim.
    """
    return lower_bound(judged, alpha=alpha, margin=margin) + margin


def sensitivity_bound(*, kept: int, missed: int, alpha: float) -> float:
    """A lower confidence bound, valid at all times, of the share of true differences that the judge sees.

    `kept` and `missed` count labelled pairs with a true difference, labelled at one and the same probability.
    """
    return (1 + lower_bound(Counts(better=kept, worse=missed), alpha=alpha, margin=0.1)) / 2


def attenuated_margin(margin: float, *, sensitivity: float) -> float:
    """The margin for a judge's own differences: it sees only a part of the true ones, so it is held to less.

    `sensitivity` is a lower bound of that part. Without it an unbiased judge that sees 80 % proves falsely, at the
    margin, in a quarter to a third of cases instead of 5 %. Source of the idea: arXiv 2511.21140.
    """
    assert 0 < sensitivity <= 1
    return margin * sensitivity


def _stakes(evidence: LabelledEvidence) -> tuple[float, ...]:
    """The stakes of pairs, measured against how far X reaches: at reach 1 the same, else closer to the boldest."""
    return spaced(min(evidence.margin / 0.4 * evidence.plan.reach, BOLDEST / 4), BOLDEST)


def _bet(log_wealths: Sequence[float], bets: Sequence[float], distance: float) -> tuple[float, ...]:
    return tuple(wealth + log1p(bet * distance) for wealth, bet in zip(log_wealths, bets, strict=True))
