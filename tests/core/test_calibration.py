"""How many tokens a text is taken to have: never more than its bytes."""

from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.calibration import LEAST_CALLS, UNCALIBRATED, Calibration, Ratio

MODEL = "claude-haiku-5-5"
RATIOS = st.builds(Ratio, calls=st.integers(0, 1_000), most_per_mille=st.integers(0, 3_000))
BYTES = st.integers(0, 10_000_000)


def of(ratio: Ratio) -> Calibration:
    return Calibration(ratios={(MODEL, "ascii"): ratio})


def test_a_text_has_at_most_the_highest_ratio_that_was_seen_and_half_more_rounded_up() -> None:
    seen = of(Ratio(calls=LEAST_CALLS, most_per_mille=300))

    assert seen.most_tokens(MODEL, "ascii", 1_000) == 450
    assert seen.most_tokens(MODEL, "ascii", 1_001) == 451


def test_too_few_calls_say_nothing() -> None:
    few = of(Ratio(calls=LEAST_CALLS - 1, most_per_mille=300))

    assert few.most_tokens(MODEL, "ascii", 1_000) == 1_000


def test_what_is_known_of_one_model_and_kind_says_nothing_of_others() -> None:
    seen = of(Ratio(calls=LEAST_CALLS, most_per_mille=300))

    assert seen.most_tokens(MODEL, "unicode", 1_000) == 1_000
    assert seen.most_tokens("claude-opus-5-5", "ascii", 1_000) == 1_000
    assert UNCALIBRATED.most_tokens(MODEL, "ascii", 1_000) == 1_000


@given(ratio=RATIOS, size=BYTES)
def test_a_text_never_has_more_tokens_than_bytes(ratio: Ratio, size: int) -> None:
    assert 0 <= of(ratio).most_tokens(MODEL, "ascii", size) <= size


@given(ratio=RATIOS, sizes=st.tuples(BYTES, BYTES))
def test_a_longer_text_never_has_fewer_tokens(ratio: Ratio, sizes: tuple[int, int]) -> None:
    shorter, longer = sorted(sizes)

    assert of(ratio).most_tokens(MODEL, "ascii", shorter) <= of(ratio).most_tokens(MODEL, "ascii", longer)


@given(
    calls=st.integers(0, 1_000), ratios=st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)), size=BYTES
)
def test_a_higher_ratio_never_means_fewer_tokens(calls: int, ratios: tuple[int, int], size: int) -> None:
    lower, higher = (of(Ratio(calls=calls, most_per_mille=ratio)) for ratio in sorted(ratios))

    assert lower.most_tokens(MODEL, "ascii", size) <= higher.most_tokens(MODEL, "ascii", size)
