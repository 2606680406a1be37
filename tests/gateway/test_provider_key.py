"""The gateway's own key: where it may be, and how it is changed."""

import os
from pathlib import Path

import pytest

from tierwise.errors import UnsafeKey
from tierwise.gateway.provider_key import KEY, KEY_FILE, KeyFile, key_of, read_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "key", "sk-first\n")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def why(path: Path) -> str:
    with pytest.raises(UnsafeKey) as caught:
        read_key(path)
    return str(caught.value)


def test_a_key_comes_from_the_environment_or_from_a_file(file: Path) -> None:
    assert key_of({}) == (None, None)
    assert key_of({KEY: " \n"}) == (None, None)
    assert key_of({KEY: "sk-own\n"}) == ("sk-own", None)
    assert key_of({KEY_FILE: str(file)}) == ("sk-first", file)


def test_two_keys_are_one_too_many(file: Path) -> None:
    with pytest.raises(UnsafeKey, match="keep one of the two"):
        key_of({KEY: "sk-own", KEY_FILE: str(file)})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o777])
def test_a_file_that_others_may_use_is_refused_with_the_command_that_helps(file: Path, mode: int) -> None:
    file.chmod(mode)

    assert f"chmod 600 {file}" in why(file)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    assert "is no regular file" in why(tmp_path / "pipe")
    assert "cannot be read" in why(tmp_path / "missing")
    assert "is no regular file" in why(tmp_path) or "cannot be read" in why(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "sk a", "sk\u00e9", "a\nb", "k" * 2000])
def test_what_cannot_stand_in_a_header_is_no_key_and_is_not_shown(file: Path, text: str) -> None:
    said = why(written(file, text))

    assert "holds no key" in said
    assert not text.strip() or text not in said
    if text.strip():
        with pytest.raises(UnsafeKey):
            key_of({KEY: text})


def test_a_link_to_a_safe_file_is_followed(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)

    assert read_key(tmp_path / "link") == "sk-first"


def test_a_new_key_is_taken_over_and_a_bad_file_leaves_the_old_one(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[str] = []
    follower = KeyFile(file, "sk-first", taken.append)

    follower.look()
    written(file, "sk-second-one")
    follower.look()
    file.chmod(0o644)
    follower.look()
    file.unlink()
    follower.look()

    assert taken == ["sk-second-one"]
    KeyFile(written(file, "sk-third"), "sk-first", taken.append).look()
    assert taken == ["sk-second-one", "sk-third"]
    assert "may be read by others" in caplog.text
    assert "sk-second" not in caplog.text
