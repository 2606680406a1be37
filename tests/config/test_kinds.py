import re
import subprocess
import sys
from datetime import UTC, date, datetime, time
from zoneinfo import available_timezones

import pytest

from tierwise.config.kinds import Amount, Misfit, Name, Zone
from tierwise.config.values import shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (12, "12"),
        (0.5, "0.5"),
        (float("nan"), "nan"),
        (10**18, "a huge number"),
        ("a", '"a"'),
        ("é\n", '"é\\n"'),
        ({}, "a table"),
        ([], "a list"),
        (date(2026, 12, 1), "a date"),
        (datetime(2026, 12, 1, tzinfo=UTC), "a date with a time"),
        (time(7, 32), "a time"),
    ],
)
def test_a_value_is_shown_in_few_words(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_long_text_is_shown_by_its_beginning() -> None:
    assert shown("x" * 1000) == f'"{"x" * 57}…"'


def test_no_part_of_a_secret_is_shown_wherever_the_text_is_cut() -> None:
    for before in range(70):
        assert "sk-ant" not in shown("." * before + "sk-ant-secretsecret")


@pytest.mark.parametrize("amount", ["0", "0.00", "000.000000000", "0.000000001", "10", "007.50"])
def test_the_schema_of_an_amount_above_zero_takes_what_is_read(amount: str) -> None:
    kind = Amount(above_zero=True)

    is_read = not isinstance(kind.read(amount), Misfit)

    assert bool(re.search(kind.schema()["pattern"], amount)) == is_read


def test_every_zone_of_the_database_can_be_named() -> None:
    zones = [name for name in available_timezones() if name[0].isupper()]

    assert len(zones) > 300
    assert [name for name in zones if Zone().read(name) != name] == []


def test_utc_is_known_where_no_other_zone_is() -> None:
    code = (
        "import sys, zoneinfo; sys.modules['tzdata'] = None; zoneinfo.reset_tzpath([]); "
        "from tierwise.config.kinds import Zone; print(Zone().read('UTC')); print(Zone().read('Asia/Tokyo').fix)"
    )

    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert seen.stdout.splitlines() == [
        "UTC",
        'this machine has no time zones: install the package tzdata, or write "UTC"',
    ]


def test_the_zone_of_this_machine_is_not_a_name() -> None:
    assert isinstance(Zone().read("localtime"), Misfit)


@pytest.mark.parametrize("name", ["Europe", "A" * 5000, "A\0", "A\ud800", "A/", "A/../B", ""])
def test_no_text_breaks_the_search_for_a_zone(name: str) -> None:
    assert isinstance(Zone().read(name), Misfit)


def test_a_name_that_is_a_secret_is_not_repeated_in_small_letters() -> None:
    assert Name().read("sk-ant-Secret_1") == Misfit(
        '"…" is not a name: names have small letters, digits and dashes only'
    )
