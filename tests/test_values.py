from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from tierwise.values import maker, value


@value
class Point:
    x: int
    y: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    x: int
    y: int = 2


def test_a_value_is_what_a_frozen_dataclass_is() -> None:
    assert Point(x=1) == Point(x=1, y=2) != Point(x=1, y=3)
    assert hash(Point(x=1)) == hash(Plain(x=1))
    assert repr(Point(x=1)) == "Point(x=1, y=2)"
    assert replace(Point(x=1), y=5) == Point(x=1, y=5)
    assert [(each.name, each.default) for each in fields(Point)] == [
        (each.name, each.default) for each in fields(Plain)
    ]


def test_a_value_cannot_be_changed() -> None:
    point = Point(x=1)

    with pytest.raises(FrozenInstanceError):
        point.x = 2  # pyright: ignore[reportAttributeAccessIssue] — what the test is about
    with pytest.raises((AttributeError, TypeError)):
        point.z = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_value_takes_the_fields_that_it_has_by_their_names() -> None:
    with pytest.raises(TypeError, match="y2"):
        Point(x=1, y2=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="positional"):
        Point(1)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="x"):
        Point()  # pyright: ignore[reportCallIssue]


def test_a_value_makes_a_new_default_each_time() -> None:
    @value
    class Bag:
        things: list[int] = field(default_factory=list[int])

    assert Bag() == Bag(things=[])
    assert Bag().things is not Bag().things


def test_a_value_may_have_no_fields() -> None:
    @value
    class Nothing:
        """Nothing."""

    assert Nothing() == Nothing()


def test_a_maker_makes_what_the_class_makes() -> None:
    make = maker(Point)

    assert make(x=1) == Point(x=1)
    assert make(x=1, y=3) == Point(x=1, y=3)
    assert type(make(x=1)) is Point


def test_what_a_maker_made_cannot_be_changed() -> None:
    point = maker(Point)(x=1)

    with pytest.raises(FrozenInstanceError):
        point.x = 2  # pyright: ignore[reportAttributeAccessIssue] — what the test is about


def test_a_maker_takes_the_fields_by_their_names() -> None:
    make = maker(Point)

    with pytest.raises(TypeError, match="y2"):
        make(x=1, y2=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="x"):
        make()  # pyright: ignore[reportCallIssue]


def test_a_maker_makes_a_new_default_each_time() -> None:
    @value
    class Bag:
        things: list[int] = field(default_factory=list[int])

    make = maker(Bag)

    assert make().things == []
    assert make().things is not make().things
