import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from tierwise.config import parse_book
from tierwise.config.keys import TABLES, TIER, TOP
from tierwise.config.kinds import Misfit
from tierwise.config.schema import policy_schema, policy_schema_text
from tierwise.config.starter import PAIRS, Pair, starter_policy
from tierwise.config.tables import REQUIRED, Key, Table

ROOT = Path(__file__).parents[2]
KEYS = [pytest.param(key, id=f"{table.name}.{key.name}") for table in TABLES for key in table.keys]

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


def faults(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """What a value does not have of a schema: of the words that the policy's schema uses, no others."""
    value = value.isoformat() if isinstance(value, date) else value
    kinds: list[str] = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(isinstance(value, TYPES[kind]) for kind in kinds) or (
        value is True and "boolean" not in kinds
    ):
        yield f"{path} is not {kinds}"
        return
    if value not in schema.get("enum", [value]):
        yield f"{path} is not one of {schema['enum']}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{path} does not match"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{path} is too short"
    if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{path} is out of bounds"
    if isinstance(value, dict):
        yield from faults_inside(cast("dict[str, Any]", value), schema, path)
    if isinstance(value, list):
        yield from faults_of_list(cast("list[Any]", value), schema, path)


def faults_of_list(value: list[Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{path} is too short"
    if schema.get("uniqueItems", False) and any(item in value[:index] for index, item in enumerate(value)):
        yield f"{path} has something twice"
    for index, item in enumerate(value):
        yield from faults(item, schema["items"], f"{path}[{index}]")


def faults_inside(value: dict[str, Any], schema: dict[str, Any], path: str) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path} has no {name}"
    if "anyOf" in schema and not any(choice["required"][0] in value for choice in schema["anyOf"]):
        yield f"{path} has none of its choices"
    for name, item in value.items():
        patterns = [
            inner
            for pattern, inner in schema.get("patternProperties", {}).items()
            if re.search(pattern, name)
        ]
        inner = schema.get("properties", {}).get(name) or (
            patterns[0] if patterns else schema["additionalProperties"]
        )
        if inner:
            yield from faults(item, inner, f"{path}.{name}")
        else:
            yield f"{path}.{name} is not known"


def faults_of(text: str) -> list[str]:
    return list(faults(tomllib.loads(text), policy_schema()))


def budget(lines: str) -> str:
    return f'[[budgets]]\nscope = "run"\n{lines}'


def a_type(lines: str) -> str:
    return f'[task_types.x]\ntier = "a"\n{lines}'


@pytest.mark.parametrize("pair", PAIRS)
def test_the_schema_takes_the_starter(pair: Pair) -> None:
    assert faults_of(starter_policy(pair)) == []


def test_the_schema_takes_the_example_of_each_table() -> None:
    for table in (table for table in TABLES if not table.name.startswith("prices.")):
        assert faults_of(table.example) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('mode = "rout"', [".mode is not one of ['route', 'observe']"]),
        ("modes = 1", [".modes is not known"]),
        ("[tiers.Fast]", [".tiers.Fast is not known"]),
        ("[tiers.fast]", [".tiers.fast has no model"]),
        ('[task_types.x]\ntier = "a"\nmax_tokens = 0', [".task_types.x.max_tokens is out of bounds"]),
        ('[[match]]\ntask_type = "x"', [".match[0] has none of its choices"]),
        ('[task_types.x]\ntier = "a"\nmax_cost_usd = "0.00"', [".task_types.x.max_cost_usd does not match"]),
        ('time_zone = "../x"', [".time_zone does not match"]),
        ("[[budgets]]", [".budgets[0] has no scope", ".budgets[0] has no limit_usd"]),
        (budget("limit_usd = 0"), [".budgets[0].limit_usd is out of bounds"]),
        (budget('limit_usd = 1\nname = "A b"'), [".budgets[0].name does not match"]),
        (budget("limit_usd = 1\nwarn_at = [0]"), [".budgets[0].warn_at[0] is out of bounds"]),
        (budget("limit_usd = 1\nwarn_at = [101]"), [".budgets[0].warn_at[0] is out of bounds"]),
        (budget("limit_usd = 1\nwarn_at = [9, 9]"), [".budgets[0].warn_at has something twice"]),
        (budget("limit_usd = 1\nwhen_short = []"), [".budgets[0].when_short is too short"]),
        (
            budget('limit_usd = 1\nwhen_short = ["wait", "refuse"]'),
            [".budgets[0].when_short[0] is not one of ['shrink', 'downgrade', 'queue', 'refuse']"],
        ),
        (budget("limit_usd = 1\npending_share = 0"), [".budgets[0].pending_share is out of bounds"]),
        (budget("limit_usd = 1\npending_share = 101"), [".budgets[0].pending_share is out of bounds"]),
        (budget('limit_usd = 1\nonly = ""'), [".budgets[0].only is too short"]),
        ("keep_for = 24", [".keep_for is not ['string']"]),
        ('queue_for = "soon"', [".queue_for does not match"]),
        ('prompt_bound = "tokens"', [".prompt_bound is not one of ['bytes', 'calibrated']"]),
        ("count_near_limit = 1", [".count_near_limit is not ['boolean']"]),
        ('budget_store = "valkey://:pw@x"', [".budget_store does not match"]),
        ('budget_store_lost = "queue"', [".budget_store_lost is not one of ['refuse', 'allow']"]),
        ('warn_url = "https://u:p@x/y"', [".warn_url does not match"]),
        (a_type("max_calls = 0"), [".task_types.x.max_calls is out of bounds"]),
        (a_type("task_budget = 19999"), [".task_types.x.task_budget is out of bounds"]),
        (a_type("downgrade_to = 1"), [".task_types.x.downgrade_to is not ['string']"]),
        (a_type('budget.when_short = ["refuse"]'), [".task_types.x.budget has none of its choices"]),
        (a_type("budget.per_run_usd = 0"), [".task_types.x.budget.per_run_usd is out of bounds"]),
        (
            a_type("budget.limit_usd = 1\nbudget.per_task_usd = 1"),
            [".task_types.x.budget.limit_usd is not known"],
        ),
        ('[upstream]\nbase_url = "https://u:p@x"', [".upstream.base_url does not match"]),
        (
            '[[prices]]\nmodel = "x"\ninput_usd_per_mtok = 0.5',
            [".prices[0].input_usd_per_mtok is not ['string', 'integer']"],
        ),
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(text: str, told: list[str]) -> None:
    assert faults_of(text) == told


@pytest.mark.parametrize("key", KEYS)
def test_the_example_of_a_key_is_of_its_kind(key: Key[object]) -> None:
    value = tomllib.loads(f"value = {key.example}")["value"]

    assert not isinstance(key.kind.read(value), Misfit)
    assert list(faults(value, key.kind.schema())) == []


@pytest.mark.parametrize("table", [pytest.param(table, id=table.heading) for table in TABLES])
def test_a_table_knows_each_name_once(table: Table) -> None:
    names = [*table.known, *table.planned, *(name for name, _ in table.elsewhere)]

    assert len(names) == len(set(names))


def test_a_policy_of_all_examples_is_good() -> None:
    keys = {table.name: "\n".join(f"{key.name} = {key.example}" for key in table.keys) for table in TABLES}
    keys["task_types"] = keys["task_types"].replace(TIER.example, '"frontier"', 1)  # it goes down to fast
    fast = '[tiers.fast]\nmodel = "claude-haiku-5-5"\nthinking = "off"\n[task_types.default]\ntier = "fast"\n'
    text = (
        f"{keys['']}\n[tiers.frontier]\n{keys['tiers']}\n{fast}[task_types.extraction]\n{keys['task_types']}\n"
        f"[task_types.extraction.budget]\n{keys['task_types.NAME.budget']}\n"
        f"[[match]]\n{keys['match']}\n[[budgets]]\n{keys['budgets']}\n[upstream]\n{keys['upstream']}\n[[prices]]\n{keys['prices']}\n"
        f"[prices.long_prompt]\n{keys['prices.long_prompt']}\n[prices.fast]\n{keys['prices.fast']}\n"
    )

    assert faults_of(text) == []
    policy = parse_book(text, file="tierwise.toml").policy
    assert "extraction" in policy.contracts
    assert [budget.name for budget in policy.budgets] == ["per-run"]
    assert [budget.name for budget in policy.contracts["extraction"].budgets] == [
        "extraction.per-run",
        "extraction.per-task",
        "extraction.max-calls",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "warn_at = []",
        'when_short = ["refuse"]',
        'when_short = ["downgrade", "queue", "shrink", "refuse"]',
        'kind = "warn"',
        "pending_share = 1",
        "pending_share = 100",
        'only = "extraction"',
    ],
)
def test_the_schema_takes_what_the_parser_takes(lines: str) -> None:
    text = starter_policy() + budget(f"limit_usd = 1\n{lines}\n")

    assert faults_of(text) == []
    assert parse_book(text, file="tierwise.toml").policy.budgets


def test_only_keys_that_must_be_there_are_required() -> None:
    required = {
        f"{table.name}.{key.name}" for table in TABLES for key in table.keys if key.absent == REQUIRED
    }

    assert required == {
        "tiers.model",
        "task_types.tier",
        "match.task_type",
        "openai.base_url",
        "openai.tiers.model",
        "clients.name",
        "clients.key_sha256",
        "budgets.scope",
        "budgets.limit_usd",
        "prices.model",
    }


def test_the_schemas_text_is_the_schema() -> None:
    assert json.loads(policy_schema_text()) == policy_schema()
    assert set(policy_schema()["properties"]) == set(TOP.known)


def test_the_generated_reference_is_up_to_date() -> None:
    tool = [sys.executable, str(ROOT / "tools" / "build_reference.py"), "--check"]

    assert subprocess.run(tool, capture_output=True, text=True, check=False).stderr == ""
