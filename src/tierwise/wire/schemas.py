"""JSON Schemas: which texts one describes.

Nothing is fetched: what a schema refers to stands in it. Formats are annotations, as the specification has it, and
decide nothing. The library is an extra, `tierwise[schema]`, and is imported where a schema is used.
"""

import json
from importlib import import_module
from typing import Any, Final, NoReturn, Protocol


class Validator(Protocol):
    """A schema that is ready to be asked."""

    def is_valid(self, instance: Any) -> bool:
        """Whether the schema describes a value."""
        ...


def problem_of(text: str) -> str | None:
    """Say what is wrong with a schema, as the end of a sentence about its file; None where it can be used.

    Raises:
        ImportError: the library is not installed.
    """
    invalid: Any = import_module("jsonschema.exceptions").SchemaError
    try:
        return _problem(json.loads(text))
    except json.JSONDecodeError as error:
        return f"is not JSON: line {error.lineno}: {error.msg}"
    except invalid as error:
        return f"is no JSON Schema: {error.json_path}: {_short(error.message)}"
    except (ValueError, RecursionError):
        return "is nested too deeply, or has too long a number"


def validator_of(text: str) -> Validator:
    """Make a schema ready: one that `problem_of` finds nothing wrong with."""
    schema = json.loads(text)
    return _draft(schema)(schema, registry=import_module("referencing").Registry())


def describes(validator: Validator, text: str) -> bool:
    """Whether a text is JSON that a schema describes. What is nested too deeply to be read is none."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return validator.is_valid(value)


def canonical(text: str) -> str:
    """The same schema in a layout of ours."""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def _problem(schema: Any) -> str | None:
    if not isinstance(schema, dict | bool):
        return "is no JSON Schema: it is neither an object nor true or false"
    draft = _draft(schema)
    if draft is None:
        return f"is no JSON Schema: {_short(str(_dialect(schema)))} is no draft that is known"
    draft.check_schema(schema)
    referencing = import_module("referencing")
    known: Any = import_module("jsonschema_specifications").REGISTRY
    resource = referencing.Resource.from_contents(
        schema, default_specification=import_module("referencing.jsonschema").DRAFT202012
    )
    lost = _lost(resource, known.resolver_with_root(resource), referencing.exceptions.Unresolvable)
    return None if lost is None else f"refers to {_short(lost)}, which is not in it: nothing is fetched"


def _draft(schema: Any) -> Any:
    """The class that validates by the draft that a schema names, else by the newest; None where it is not known."""
    dialect = _dialect(schema)
    if dialect is None:
        return import_module("jsonschema").Draft202012Validator
    if not isinstance(dialect, str):
        return None
    return import_module("jsonschema.validators").validator_for(schema, default=None)


def _dialect(schema: Any) -> object:
    return None if isinstance(schema, bool) else schema.get("$schema")


def _lost(resource: Any, resolver: Any, unresolvable: type[Exception]) -> str | None:
    """The first reference of a schema, or of one within it, that leads nowhere."""
    for reference in _references(resource.contents):
        try:
            resolver.lookup(reference)
        except unresolvable:
            return reference
    within = (_lost(inner, resolver.in_subresource(inner), unresolvable) for inner in resource.subresources())
    return next((lost for lost in within if lost is not None), None)


def _references(contents: Any) -> list[str]:
    found = [] if isinstance(contents, bool) else [contents.get(key) for key in _REFERENCES]
    return [each for each in found if isinstance(each, str)]


_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


def _short(message: str) -> str:
    return message if len(message) <= 120 else f"{message[:119]}…"


def _refuse(constant: str) -> NoReturn:
    """NaN and Infinity are no JSON, though the standard library reads them."""
    raise ValueError(constant)
