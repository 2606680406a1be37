"""The JSON Schema of the policy file, for editors: the description of the keys in another form."""

import json
import tomllib
from datetime import date
from typing import Any, Final

from tierwise.config.keys import TOP
from tierwise.config.kinds import NAME
from tierwise.config.tables import Key, Table

DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""What the TOML extensions of editors understand."""


def policy_schema() -> dict[str, Any]:
    """Return the schema of a policy file."""
    return {"$schema": DIALECT, "title": "Tierwise policy", **_table(TOP)}


def policy_schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    properties = {key.name: _key(key) for key in table.keys}
    parts = {part.key: _family(part) for part in table.parts}
    schema: dict[str, Any] = {
        "type": "object",
        "description": table.meaning,
        "properties": properties | parts,
        "additionalProperties": False,
    }
    required = [key.name for key in table.keys if key.required]
    if required:
        schema["required"] = required
    if table.needs_one_of:
        schema["anyOf"] = [{"required": [name]} for name in table.needs_one_of]
    return schema


def _family(table: Table) -> dict[str, Any]:
    """The schema of what stands under a table's key: the table, tables by name, or a list of them."""
    one = _table(table)
    match table.shape:
        case "named":
            members = {f"^{NAME.pattern}$": one}
            return {"type": "object", "patternProperties": members, "additionalProperties": False}
        case "listed":
            return {"type": "array", "items": one}
        case "top" | "one":
            return one


def _key(key: Key[object]) -> dict[str, Any]:
    schema = {**key.kind.schema(), "description": key.meaning, "examples": [_value(key.example)]}
    try:
        return {**schema, "default": _value(key.absent)}
    except tomllib.TOMLDecodeError:  # a phrase: what holds then depends on something else
        return schema


def _value(toml: str) -> Any:
    value = tomllib.loads(f"value = {toml}")["value"]
    return value.isoformat() if isinstance(value, date) else value
