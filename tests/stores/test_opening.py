import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from support.entries import decided
from tierwise.errors import LedgerUnavailable
from tierwise.stores.ledger.opening import is_shared, open_ledger, read_ledger, shown

SECRET = "s3cret"


def test_a_path_is_a_file_and_an_address_is_a_database(tmp_path: Path, address: str) -> None:
    for where in (tmp_path / "ledger.sqlite3", str(tmp_path / "other.sqlite3"), address):
        with closing(open_ledger(where, durability="power")) as ledger:
            ledger.write([decided("c1")])
        with closing(read_ledger(where)) as reader:
            assert list(reader.rows("SELECT call_id FROM entries")) == [{"call_id": "c1"}]
            assert reader.dialect.name == ("postgres" if where == address else "sqlite")
            assert reader.path == str(where)


@pytest.mark.parametrize(
    ("where", "shared"),
    [
        ("postgresql://host/ledger", True),
        ("postgres://host/ledger", True),
        ("postgresql.sqlite3", False),
        ("/var/lib/tierwise/ledger.sqlite3", False),
        (Path("ledger.sqlite3"), False),
    ],
)
def test_only_an_address_is_shared_between_machines(where: str | Path, shared: bool) -> None:
    assert is_shared(where) == shared


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("ledger@home:1.sqlite3", "ledger@home:1.sqlite3"),
        ("postgresql://host/ledger", "postgresql://host/ledger"),
        ("postgresql://host:5433/ledger", "postgresql://host:5433/ledger"),
        ("postgresql:///ledger?host=/run/postgresql", "postgresql:///ledger?host=/run/postgresql"),
        (f"postgresql://user:{SECRET}@host:5433/ledger", "postgresql://user@host:5433/ledger"),
        (f"postgres://user:{SECRET}@a:1,b:2/ledger", "postgres://user@a:1,b:2/ledger"),
        (f"postgresql://user@host/ledger?password={SECRET}&sslmode=require", "postgresql://user@host/ledger"),
        (f"postgresql://user:a@{SECRET}@host/ledger", "postgresql://user@host/ledger"),
        (f"postgresql://user:a/{SECRET}@host/ledger", "postgresql://user@host/ledger"),
        (f"postgresql://user:a#{SECRET}@host/ledger", "postgresql://user@host/ledger"),
        (f"postgresql://user:{SECRET}?b@host/ledger", "postgresql://"),
        (f"postgresql://user:a?{SECRET}@host/ledger", "postgresql://"),
    ],
)
def test_an_address_is_shown_without_its_password(where: str, expected: str) -> None:
    assert shown(where) == expected
    assert SECRET not in shown(where)


@pytest.mark.parametrize(
    "where",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:1/ledger",
        f"postgresql://user:a@{SECRET}@127.0.0.1:1/ledger",
        f"postgresql://user:%zz{SECRET}@127.0.0.1:1/ledger",
        f"postgresql://127.0.0.1:1/ledger?password={SECRET}",
        f"postgresql://127.0.0.1:1/ledger?nonsense={SECRET}",
        f"postgresql://user:{SECRET}?b@127.0.0.1:1/ledger",
    ],
)
def test_no_error_tells_the_password(where: str) -> None:
    for opened in (open_ledger, read_ledger):
        with pytest.raises(LedgerUnavailable) as raised:
            opened(where)

        assert SECRET not in str(raised.value)


def test_a_ledger_in_postgresql_without_psycopg_says_what_to_install(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {sys.path!r}
        sys.modules["psycopg"] = None  # as Python marks what is not to be found
        from tierwise.errors import MissingExtra
        from tierwise.stores.ledger.opening import open_ledger, read_ledger
        open_ledger({str(tmp_path / "ledger.sqlite3")!r}).close()
        for opened in (open_ledger, read_ledger):
            try:
                opened("postgresql://host/ledger")
            except MissingExtra as error:
                print(error)
    """)

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ['this needs psycopg: pip install "tierwise[postgres]"'] * 2
