"""Values: frozen, slotted, keyword-only dataclasses that are made quickly, for what every call makes many of.

A frozen dataclass sets each field of itself by name, past its own lock. Here the constructor goes to each field's slot
directly, which takes half as long; all else of the dataclass is as it was. What is made at each call is made by a
`maker`, which takes half of that again: a class that is called has its arguments packed into a dictionary first, and a
function has not.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ParamSpec, TypeVar, cast, dataclass_transform

P = ParamSpec("P")
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a class a frozen, slotted, keyword-only dataclass."""
    made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    made.__init__ = _constructor(made)
    return made


def maker(made: Callable[P, T]) -> Callable[P, T]:
    """Return a function that makes what a class of `value` makes, of the same arguments.

    The object is of a class with the same slots and no lock until its fields are set.
    """
    cls = cast("type[Any]", made)
    names = tuple(each.name for each in fields(cls))
    unlocked = type(f"Unlocked{cls.__name__}", (), {"__slots__": names})
    body = [f"self.{name} = {given}" for name, given in _given(cls)]
    known = {"_unlocked": unlocked, "_made": cls}
    lines = ("self = _unlocked()", *body, "self.__class__ = _made", "return self")
    return _function(cls, "make", lines, known, first=(), returns=cls)


def _constructor(made: type[Any]) -> Callable[..., None]:
    """Write `def __init__(self, *, a, b=b_default): set_a(self, a); …` for a dataclass."""
    known = {f"set_{each.name}": made.__dict__[each.name].__set__ for each in fields(made)}
    body = [f"set_{name}(self, {given})" for name, given in _given(made)]
    return _function(made, "__init__", body or ("pass",), known, first=("self",), returns=None)


def _given(made: type[Any]) -> Iterator[tuple[str, str]]:
    """Each field's name, and what it is set to: its argument, or a new default."""
    for each in fields(made):
        name = each.name
        fresh = each.default_factory is not MISSING
        yield name, f"new_{name}() if {name} is MISSING else {name}" if fresh else name


def _function(
    made: type[Any],
    name: str,
    lines: Sequence[str],
    known: dict[str, Any],
    *,
    first: tuple[str, ...],
    returns: object,
) -> Callable[..., Any]:
    """Write a function that takes a dataclass's fields by their names."""
    known = {**known, "MISSING": MISSING, **_defaults(fields(made))}
    taken = [
        f"{each.name}={each.name}_default" if f"{each.name}_default" in known else each.name
        for each in fields(made)
    ]
    head = ", ".join((*first, *(("*", *taken) if taken else ())))
    exec("\n".join((f"def {name}({head}):", *(f"    {line}" for line in lines))), known)  # noqa: S102 — as dataclasses do
    function: Callable[..., Any] = known[name]
    function.__qualname__ = f"{made.__qualname__}.{name}"
    function.__module__ = made.__module__
    function.__annotations__ = {each.name: each.type for each in fields(made)} | {"return": returns}
    return function


def _defaults(all_fields: tuple[Field[Any], ...]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for each in all_fields:
        if each.default_factory is not MISSING:
            known |= {f"{each.name}_default": MISSING, f"new_{each.name}": each.default_factory}
        elif each.default is not MISSING:
            known[f"{each.name}_default"] = each.default
    return known
