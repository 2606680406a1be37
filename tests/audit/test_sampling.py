import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.simulation import slack
from tierwise.audit.sampling import Purpose, Sampled, Skipped, sample, uniform


def test_a_draw_is_the_same_in_every_process() -> None:
    draw = uniform(Purpose.PAIR, "line", "cluster", 20_781, salt="s")

    assert draw == uniform(Purpose.PAIR, "line", "cluster", 20_781, salt="s")
    assert draw == pytest.approx(0.10870056503221259)


def test_draws_of_different_purposes_days_and_salts_differ() -> None:
    found = {
        uniform(Purpose.PAIR, "cluster", 1, salt="s"),
        uniform(Purpose.DIRECTION, "cluster", 1, salt="s"),
        uniform(Purpose.PAIR, "cluster", 2, salt="s"),
        uniform(Purpose.PAIR, "cluster", 1, salt="t"),
        uniform(Purpose.PAIR, "cluster1", salt="s"),
    }

    assert len(found) == 5


@given(parts=st.lists(st.text(max_size=5), max_size=3), salt=st.text(max_size=3))
def test_a_draw_is_from_zero_to_below_one(parts: list[str], salt: str) -> None:
    assert 0 <= uniform(Purpose.DIRECTION, *parts, salt=salt) < 1


def test_the_share_of_clusters_that_are_sampled_is_the_rate() -> None:
    draws = [uniform(Purpose.PAIR, "line", f"cluster-{n}", 1, salt="s") for n in range(10_000)]

    sampled = sum(isinstance(sample(draw=draw, rate=0.05, cluster_has_pair=False), Sampled) for draw in draws)

    assert sampled / 10_000 == pytest.approx(0.05, abs=slack(0.05, 10_000))


def test_directions_and_pairs_are_drawn_independently() -> None:
    both = sum(
        uniform(Purpose.PAIR, f"c{n}", salt="s") < 0.1 and uniform(Purpose.DIRECTION, f"c{n}", salt="s") < 0.1
        for n in range(10_000)
    )

    assert both / 10_000 == pytest.approx(0.01, abs=slack(0.01, 10_000))


def test_the_probability_is_kept_with_the_pair() -> None:
    assert sample(draw=0.04, rate=0.05, cluster_has_pair=False) == Sampled(probability=0.05)
    assert sample(draw=0.05, rate=0.05, cluster_has_pair=False) is Skipped.NOT_DRAWN
    assert sample(draw=0.0, rate=0.0, cluster_has_pair=False) is Skipped.NOT_DRAWN


def test_a_cluster_gives_one_pair_a_day() -> None:
    assert sample(draw=0.04, rate=0.05, cluster_has_pair=True) is Skipped.CLUSTER_HAS_ITS_PAIR
