"""Edits of a policy's text."""

from pathlib import Path

import pytest

from support.policies import TWO_TIERS
from tierwise.config.editing import Edit, edited, write_policy
from tierwise.errors import PolicyError, PolicyNotWritten

PATH = ("task_types", "synthesis", "tier")


def moved(text: str, *remarks: str, to: str = "fast") -> str:
    return edited(text, [Edit(path=PATH, value=to, remarks=remarks)], file="tierwise.toml")


def tables(synthesis: str) -> str:
    head, _, _ = TWO_TIERS.partition("[task_types.synthesis]")
    return f"{head}{synthesis}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "[task_types.synthesis]\n\ttier   =   'frontier'   # dear\nmax_tokens = 8192",
            '[task_types.synthesis]\n\t# audit: Because.\n\ttier   =   "fast"   # dear\nmax_tokens = 8192',
        ),
        (
            '[task_types]\nsynthesis = { tier = "frontier", max_tokens = 8192 }',
            '[task_types]\n# audit: Because.\nsynthesis = { tier = "fast", max_tokens = 8192 }',
        ),
        (
            '[task_types]\n"synthesis".tier = "frontier"\nsynthesis.max_tokens = 8192',
            '[task_types]\n# audit: Because.\n"synthesis".tier = "fast"\nsynthesis.max_tokens = 8192',
        ),
        (
            '[task_types.synthesis]\n# audit: Old.\n# audit: Older.\ntier = "frontier"\nmax_tokens = 8192',
            '[task_types.synthesis]\n# audit: Because.\ntier = "fast"\nmax_tokens = 8192',
        ),
        (
            '[task_types.synthesis]\r\ntier = "frontier"\r\nmax_tokens = 8192',
            '[task_types.synthesis]\r\n# audit: Because.\r\ntier = "fast"\r\nmax_tokens = 8192',
        ),
    ],
)
def test_a_value_is_replaced_where_it_stands_and_the_rest_stays(before: str, after: str) -> None:
    assert moved(tables(before), "Because.") == tables(after)


def test_a_remark_that_would_fall_into_a_text_is_left_out() -> None:
    before = tables(
        '[task_types]\nsynthesis = { description = """a\nb""", tier = "frontier", max_tokens = 8192 }'
    )

    assert moved(before, "Because.") == before.replace('"frontier", max', '"fast", max')


def test_a_key_that_is_not_there_is_not_made_up() -> None:
    with pytest.raises(PolicyNotWritten):
        edited(TWO_TIERS, [Edit(path=("task_types", "synthesis", "effort"), value="keep")], file="x")


def test_an_edit_after_which_the_policy_would_not_load_is_refused() -> None:
    with pytest.raises(PolicyError):
        moved(TWO_TIERS, to="nowhere")


def test_a_file_that_was_changed_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_text("newer")

    with pytest.raises(PolicyNotWritten):
        write_policy(file, before="old", after="mine")

    assert file.read_text() == "newer"
    assert [each.name for each in tmp_path.iterdir()] == ["tierwise.toml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "real.toml", tmp_path / "tierwise.toml"
    target.write_bytes(b"old\r\n")
    link.symlink_to(target)

    write_policy(link, before="old\r\n", after="new\r\n")

    assert link.is_symlink()
    assert target.read_bytes() == b"new\r\n"
