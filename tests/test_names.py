import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.names import begun, nearest

TYPES = ("summarization", "extraction", "template-filling", "edge-case")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("extracton", "extraction"),
        ("EXTRACTION", "extraction"),
        ("invoice-extraction", "extraction"),
        ("template_filling", "template-filling"),
        ("Template Filling", "template-filling"),
        ("summarisation", "summarization"),
        ("edgecase", "edge-case"),
    ],
)
def test_the_nearest_name_is_what_was_probably_meant(written: str, meant: str) -> None:
    assert nearest(written, TYPES) == meant


@pytest.mark.parametrize("written", ["", "translation-of-poems", "xyz"])
def test_a_name_that_is_close_to_none_has_no_nearest(written: str) -> None:
    assert nearest(written, ("edge-case", "reranking")) is None


def test_among_no_names_none_is_near() -> None:
    assert nearest("extraction", ()) is None


@given(st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=5), st.data())
def test_a_known_name_is_near_to_itself_or_to_one_that_differs_by_case_and_dashes_only(
    known: list[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(known))

    found = nearest(name, known)

    assert found is not None
    assert plain(found) == plain(name)


def test_a_beginning_stands_for_all_names_that_have_it_but_a_whole_name_for_itself() -> None:
    known = ("jobs", "jobs-2", "3f2a", "jobs")

    assert begun("3f", known) == ["3f2a"]
    assert begun("job", known) == ["jobs", "jobs-2"]
    assert begun("jobs", known) == ["jobs"]
    assert begun("x", known) == []


def plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")
