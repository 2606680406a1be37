from fractions import Fraction

from tierwise.core.lengths import BOUNDS, LEAST_REPLIES, Beyond, Counts, Histogram, Lengths, beyond

ENDS_SOON: Histogram = {512: Counts(whole=900, cut=40), 724: Counts(whole=40)}


def test_replies_that_all_end_in_the_next_class_cost_half_of_it_more() -> None:
    assert beyond(ENDS_SOON, cap=512, raised=2_048) == Beyond(tokens=Fraction(512 + 106), whole=Fraction(1))


def test_a_raised_cap_within_a_class_ends_the_share_of_replies_that_it_holds() -> None:
    assert beyond(ENDS_SOON, cap=512, raised=618) == Beyond(
        tokens=512 + 106 * Fraction(3, 4), whole=Fraction(1, 2)
    )


def test_replies_that_were_cut_count_as_longer_not_as_ended() -> None:
    histogram = {724: Counts(whole=10, cut=10), 1_024: Counts(whole=10), 1_448: Counts(whole=10)}
    found = beyond(histogram, cap=512, raised=1_024)

    assert found is not None
    assert found.whole == 1 - Fraction(3, 4) * Fraction(1, 2)
    assert found.tokens == 512 + 212 * Fraction(7, 8) + 300 * Fraction(3, 4) * Fraction(3, 4)


def test_with_few_replies_beyond_a_cap_nothing_is_known_of_them() -> None:
    few = {512: Counts(whole=10_000), 724: Counts(whole=LEAST_REPLIES - 1)}

    assert beyond(few, cap=512, raised=2_048) is None
    assert beyond({**few, 1_024: Counts(whole=1)}, cap=512, raised=2_048) is not None
    assert beyond(few, cap=BOUNDS[-1] + 1, raised=BOUNDS[-1] * 2) is None


def test_a_cap_within_a_class_is_taken_for_its_end() -> None:
    found = beyond({1_024: Counts(cut=500), 1_448: Counts(whole=50)}, cap=1_000, raised=4_000)

    assert found == Beyond(tokens=Fraction(1_024 + 212), whole=Fraction(1))


def test_a_cap_that_is_raised_by_less_than_a_class_ends_none() -> None:
    assert beyond({1_448: Counts(whole=50)}, cap=1_000, raised=1_010) == Beyond(
        tokens=Fraction(1_010), whole=Fraction(0)
    )


def test_replies_that_are_longer_than_all_that_were_seen_run_on_to_their_cap() -> None:
    assert beyond({724: Counts(cut=20)}, cap=512, raised=2_048) == Beyond(
        tokens=Fraction(2_048), whole=Fraction(0)
    )


def test_lengths_are_known_by_type_and_model() -> None:
    lengths = Lengths(histograms={("extraction", "claude-haiku-5-5"): ENDS_SOON})

    assert lengths.beyond("extraction", "claude-haiku-5-5", cap=512, raised=2_048) is not None
    assert lengths.beyond("extraction", "claude-opus-5-5", cap=512, raised=2_048) is None


def test_a_cap_that_is_raised_above_all_classes_ends_every_reply() -> None:
    found = beyond({131_072: Counts(whole=50)}, cap=92_682, raised=4 * 92_682)

    assert found == Beyond(tokens=Fraction(92_682 + 131_072, 2), whole=Fraction(1))
