"""JSON Schemas: which can be used, and what they describe."""

import socket
from typing import NoReturn

import pytest

from tierwise.wire.schemas import canonical, describes, problem_of, validator_of

DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    "schema",
    [
        "true",
        '{"type": "object", "required": ["total"]}',
        f'{{"$schema": "{DRAFT_7}", "items": [{{"type": "string"}}]}}',
        '{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}',
        '{"$id": "https://a/b", "properties": {"x": {"$ref": "b#k"}, "y": {"$anchor": "k"}}}',
        '{"$ref": "https://json-schema.org/draft/2020-12/schema"}',
    ],
)
def test_a_schema_whose_references_lie_in_it_can_be_used(schema: str) -> None:
    assert problem_of(schema) is None


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ('{"type":', "is not JSON: line 1: Expecting value"),
        ("[]", "is no JSON Schema: it is neither an object nor true or false"),
        ('{"type": "objec"}', "is no JSON Schema: $.type: 'objec'"),
        ('{"pattern": "("}', "is no JSON Schema: $.pattern: '(' is not a 'regex'"),
        ('{"enum": 1, "$schema": "https://example.com/mine"}', "https://example.com/mine is no draft"),
        ('{"$schema": 7}', "7 is no draft that is known"),
        ('{"$ref": "https://example.com/x"}', "refers to https://example.com/x, which is not in it"),
        ('{"allOf": [{"$ref": "other.json"}]}', "refers to other.json, which is not in it"),
        ('{"$ref": "#/$defs/b", "$defs": {"a": true}}', "refers to #/$defs/b, which is not in it"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"minimum": ' + "9" * 5_000 + "}", "has too long a number"),
        ('{"const": "' + "a" * 200 + '", "type": "' + "b" * 200 + '"}', "…"),
    ],
)
def test_what_is_wrong_with_a_schema_is_told(schema: str, told: str) -> None:
    problem = problem_of(schema)

    assert problem is not None
    assert told in problem


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> NoReturn:
        raise AssertionError

    monkeypatch.setattr(socket, "create_connection", connect)
    schema = '{"$ref": "http://127.0.0.1:1/x"}'

    assert problem_of(schema) is not None
    with pytest.raises(Exception, match="Unresolvable"):
        describes(validator_of(schema), "1")


TOTAL = '{"type": "object", "required": ["total"], "properties": {"total": {"type": "integer"}}}'


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ('{"total": 3}', True),
        ('{"total": 3.0}', True),
        ('{"total": "3"}', False),
        ("{}", False),
        ("three", False),
        ('{"total": 3, "mean": NaN}', False),
        ("[" * 100_000, False),
        ('{"total": ' + "9" * 5_000 + "}", False),
    ],
)
def test_a_text_is_described_where_it_is_json_of_that_shape(text: str, described: bool) -> None:
    assert describes(validator_of(TOTAL), text) is described


def test_the_draft_that_a_schema_names_decides() -> None:
    pair = '{"items": [{"type": "string"}, {"type": "integer"}]DRAFT}'
    old = validator_of(pair.replace("DRAFT", f', "$schema": "{DRAFT_7}"'))

    assert describes(old, '["a", 1]')
    assert not describes(old, '[1, "a"]')


def test_formats_decide_nothing() -> None:
    assert describes(validator_of('{"format": "date"}'), '"no day"')


def test_layout_makes_no_other_schema() -> None:
    assert canonical('{"a": 1,\n "b": [2]}') == canonical('{"b":[2],"a":1}')
    assert canonical('{"a": 1}') != canonical('{"a": 2}')
