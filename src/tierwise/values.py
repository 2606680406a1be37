"""Values: frozen, slotted, keyword-only dataclasses that are made quickly, for what every call makes many of.

A frozen dataclass sets each field of itself by name, past its own lock. Here the constructor goes to each field's slot
directly, which takes half as long; all else of the dataclass is as it was.
"""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a class a frozen, slotted, keyword-only dataclass."""
    made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    made.__init__ = _constructor(made)
    return made


def _constructor(made: type[Any]) -> Callable[..., None]:
    """Write `def __init__(self, *, a, b=b_default): set_a(self, a); …` for a dataclass."""
    known: dict[str, Any] = {"MISSING": MISSING}
    taken: list[str] = []
    body: list[str] = []
    for each in fields(made):
        name = given = each.name
        known[f"set_{name}"] = made.__dict__[name].__set__
        if each.default_factory is not MISSING:
            known |= {f"{name}_default": MISSING, f"new_{name}": each.default_factory}
            given = f"new_{name}() if {name} is MISSING else {name}"
        elif each.default is not MISSING:
            known[f"{name}_default"] = each.default
        taken.append(f"{name}={name}_default" if f"{name}_default" in known else name)
        body.append(f"    set_{name}(self, {given})")
    head = ", ".join(("self", "*", *taken)) if taken else "self"
    exec("\n".join((f"def __init__({head}):", *(body or ["    pass"]))), known)  # noqa: S102 — as dataclasses do
    constructor: Callable[..., None] = known["__init__"]
    constructor.__qualname__ = f"{made.__qualname__}.__init__"
    constructor.__module__ = made.__module__
    constructor.__annotations__ = {each.name: each.type for each in fields(made)} | {"return": None}
    return constructor
