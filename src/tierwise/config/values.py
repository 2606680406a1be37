"""Values of TOML, as they come from the parser: taken for what they are, and written for messages."""

import json
import re
from datetime import date, datetime
from typing import Any, Final, cast

CLIENT_KEY_PREFIX: Final = "twk_"
"""What a client's key begins with."""

SECRET: Final = re.compile(rf"sk-(?:ant|proj|svcacct|admin)-[\w-]{{6,}}|{CLIENT_KEY_PREFIX}[\w-]{{20,}}")
"""What the providers' credentials and clients' keys look like."""


def as_table(value: object) -> dict[str, Any] | None:
    """Return a value that is a table of TOML; None where it is none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def as_list(value: object) -> list[Any] | None:
    """Return a value that is a list of TOML; None where it is none."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def shown(value: object) -> str:
    """Write a value of the file for a message: short, and never a secret."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**18 else "a huge number"
        case float():
            return str(value)
        case str():
            safe = SECRET.sub("…", value)
            return json.dumps(safe if len(safe) <= 60 else f"{safe[:57]}…", ensure_ascii=False)
        case dict():
            return "a table"
        case list():
            return "a list"
        case datetime():
            return "a date with a time"
        case date():
            return "a date"
        case _:
            return "a time"
