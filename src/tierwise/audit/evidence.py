"""Evidence: bets against a hypothesis about a mean, whose capital may be looked at after every pair.

A gambler bets on each pair that the mean lies above m. While the mean is m or less no bet can win on average, so
the capital E, which starts at 1, reaches 1/α with probability α at most, at whatever time it is looked at (Ville's
inequality). The capital is therefore evidence, and a large one a proof. How much to stake depends on how rare
differences are, which nobody knows beforehand; twelve gamblers with stakes from small to large share the first
dollar, and their common capital is the mixture:

    above m:  E = Σ_j w_j Π_i (1 + λ_j (x_i - m)),   λ_j = f_j / (m - low)
    below m:  E = Σ_j w_j Π_i (1 - λ_j (x_i - m)),   λ_j = f_j / (high - m)

The product runs over pairs in any order, so counts by value suffice. Capitals are kept as logarithms: a million
pairs overflow nothing.

Sources: Waudby-Smith & Ramdas, arXiv 2010.09686 (betting); Ryu & Wornell, ICML 2024 (the mixture).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import exp, fsum, inf, log, log1p

from tierwise.audit.counts import Tally

BOLDEST = 0.98
"""The largest share of its capital that a gambler stakes: what is left after the worst pair keeps it in the game."""

GAMBLERS = 12


@lru_cache(maxsize=64)
def stakes(margin: float) -> tuple[float, ...]:
    """The shares f_j that the gamblers stake: twelve, evenly spaced in their logarithms.

    The best stake is about the margin over the share of pairs that differ, so the spacing from `margin` / 0.4 to
    0.98 serves pairs of which 1 to 40 % differ.
    """
    assert 0 < margin < 0.39
    return spaced(margin / 0.4, BOLDEST)


def spaced(least: float, most: float) -> tuple[float, ...]:
    """A stake for each gambler, from `least` to `most`, evenly spaced in their logarithms."""
    step = log(most / least) / (GAMBLERS - 1)
    return tuple(least * exp(step * number) for number in range(GAMBLERS))


def log_safe(tally: Tally, *, margin: float) -> float:
    """The ln E against "the cheaper tier loses the margin or more": evidence that the task type may go down."""
    return log_above(tally, mean=-margin, fractions=stakes(margin))


def log_needed(tally: Tally, *, margin: float) -> float:
    """The ln E against "the cheaper tier loses the margin or less": evidence that the dearer tier is needed."""
    return log_below(tally, mean=-margin, fractions=stakes(margin))


def log_above(tally: Tally, *, mean: float, fractions: Sequence[float]) -> float:
    """The ln E against "the mean is `mean` or less". It falls as `mean` rises."""
    reach = mean - tally.low
    if reach <= 0:
        return inf if any(count and value > mean for value, count in tally.cells()) else 0.0
    return mixture(_wealths(tally, mean, [fraction / reach for fraction in fractions]))


def log_below(tally: Tally, *, mean: float, fractions: Sequence[float]) -> float:
    """The ln E against "the mean is `mean` or more". It rises with `mean`."""
    reach = tally.high - mean
    if reach <= 0:
        return inf if any(count and value < mean for value, count in tally.cells()) else 0.0
    return mixture(_wealths(tally, mean, [-fraction / reach for fraction in fractions]))


def mixture(log_wealths: Sequence[float]) -> float:
    """The ln of the mean of capitals given by their logarithms."""
    top = max(log_wealths)
    if top == -inf:
        return top
    return top + log(sum([exp(wealth - top) for wealth in log_wealths]) / len(log_wealths))


def threshold(alpha: float) -> float:
    """The ln E from which a claim is proven at error `alpha`."""
    return -log(alpha)


def growth(
    chances: Sequence[tuple[float, float]], *, mean: float, low: float, high: float, above: bool
) -> float:
    """Expected gain of ln E with each pair, at the best stake, if values come with these chances.

    It is the g* of n ≈ ln(1/α) / g*; zero where the truth is on the other side of `mean`. About
    (distance to `mean`)² / (2 × the share of pairs that differ).
    """
    reach = mean - low if above else high - mean
    sign = 1.0 if above else -1.0
    drift = sign * fsum(chance * (value - mean) for value, chance in chances)
    if drift <= 0:
        return 0.0
    moves = [(chance, sign * (value - mean) / reach) for value, chance in chances if chance > 0]
    stake = _best_stake(moves)
    return fsum(chance * log1p(stake * move) for chance, move in moves)


def _wealths(tally: Tally, mean: float, bets: Sequence[float]) -> list[float]:
    cells = [(value - mean, count) for value, count in tally.cells() if count]
    return [sum([count * log1p(bet * distance) for distance, count in cells]) for bet in bets]


def _best_stake(moves: Sequence[tuple[float, float]]) -> float:
    """The stake of largest growth: where its derivative, which falls, is zero, by Newton's method kept in bounds."""
    low, high = 0.0, BOLDEST
    squares = sum([chance * move**2 for chance, move in moves])
    stake = min(high, sum([chance * move for chance, move in moves]) / squares)
    for _ in range(8):
        slope = sum([chance * move / (1 + stake * move) for chance, move in moves])
        curve = sum([chance * (move / (1 + stake * move)) ** 2 for chance, move in moves])
        low, high = (stake, high) if slope > 0 else (low, stake)
        step = stake + slope / curve
        if abs(step - stake) < 1e-4:
            return min(step, BOLDEST)
        stake = step if low < step < high else (low + high) / 2
    return stake
