"""The provider's reports: the shapes that its endpoints and its console give, and what is wrong with others."""

import json
from datetime import date
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.charges import SEARCHES, Charge
from tierwise.errors import MalformedReport
from tierwise.usage import Usage
from tierwise.wire.provider_reports import ProviderReport, read_report

DAY: Final = date(2026, 11, 20)
BUCKET: Final = {"starting_at": "2026-11-20T00:00:00Z", "ending_at": "2026-11-21T00:00:00Z"}
TOKENS: Final = {
    "uncached_input_tokens": 1500,
    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
    "cache_read_input_tokens": 200,
    "output_tokens": 700,
    "server_tool_use": {"web_search_requests": 10},
}
USAGE: Final = Usage(
    input_tokens=1500,
    cache_write_5m_tokens=500,
    cache_write_1h_tokens=1000,
    cache_read_tokens=200,
    output_tokens=700,
    web_search_requests=10,
)


def read(value: Any, **options: Any) -> ProviderReport:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_report(raw, file="report", **options)


def page(*results: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"data": [{**BUCKET, "results": list(results)}], "has_more": False, "next_page": None, **fields}


def row(group: dict[str, Any], **figures: Any) -> dict[str, Any]:
    return {"data": [{**BUCKET, "group": group, **figures}]}


def cost(amount: Any, **fields: Any) -> dict[str, Any]:
    return {"amount": amount, "currency": "USD", "model": "claude-opus-5-5", "cost_type": "tokens", **fields}


def test_a_usage_report_tells_tokens_by_key_and_model() -> None:
    found = read(
        page(
            {
                **TOKENS,
                "api_key_id": "apikey_1",
                "workspace_id": None,
                "model": "claude-opus-5-5",
                "service_tier": "standard",
                "context_window": "0-200k",
                "inference_geo": "global",
                "account_id": "of no interest",
            }
        )
    )

    assert found.charges == (Charge(day=DAY, key="apikey_1", model="claude-opus-5-5", usage=USAGE),)
    assert found.complete_until_us is None


def test_a_cost_report_tells_cents_by_bucket_exactly() -> None:
    found = read(
        page(
            cost("12.3456789", token_type="output_tokens"),
            cost("0.5", token_type="cache_creation.ephemeral_5m_input_tokens"),
            cost("40", model=None, cost_type="web_search"),
            cost("1", model=None, cost_type="code_execution"),
        )
    )

    assert [(each.model, each.bucket, each.cost_nanos) for each in found.charges] == [
        ("claude-opus-5-5", "output_tokens", 123_456_789),
        ("claude-opus-5-5", "cache_write_5m_tokens", 5_000_000),
        (None, SEARCHES, 400_000_000),
        (None, "code_execution", 10_000_000),
    ]
    assert {(each.key, each.usage) for each in found.charges} == {(None, None)}


def test_analytics_rows_have_their_dimensions_in_a_group_and_say_how_far_they_are_complete() -> None:
    group = {"api_key_id": "apikey_1", "model": "claude-opus-5-5", "service_tier": "batch", "actor": {"a": 1}}
    costs = row(group, cost={"amount": "90", "list_amount": "100", "currency": "USD", "requests": 3})
    usages = row(group, usage={**TOKENS, "requests": 3, "total_tokens": 3900})
    found = read([{**costs, "data_refreshed_at": "2026-11-21T05:00:00Z"}, usages])

    assert [(each.key, each.cost_nanos, each.usage, each.batch) for each in found.charges] == [
        ("apikey_1", 900_000_000, None, True),
        ("apikey_1", None, USAGE, True),
    ]
    assert found.complete_until_us == 1_795_237_200_000_000
    assert read(costs, at_list_prices=True).charges[0].cost_nanos == 1_000_000_000


def test_an_analytics_row_that_counts_nothing_needs_no_model() -> None:
    nothing = {"uncached_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}

    assert read(row({"api_key_id": None, "model": None}, usage=nothing)).charges == ()


def test_pages_come_one_after_another_or_as_a_list() -> None:
    first, second = page(cost("1"), has_more=True, next_page="p2"), page(cost("2"))
    joined = f"{json.dumps(first)}\n{json.dumps(second, indent=2)}\n".encode()

    assert read(joined) == read([first, second])
    assert [each.cost_nanos for each in read(joined).charges] == [10_000_000, 20_000_000]


def test_hours_are_added_to_their_day_in_utc() -> None:
    hour = {"starting_at": "2026-11-21T00:30:00+01:00", "ending_at": "2026-11-21T01:00:00+01:00"}

    assert read({"data": [{**hour, "results": [cost("1")]}]}).charges[0].day == DAY


@pytest.mark.parametrize(
    ("amounts", "rounding"),
    [
        (["12.34", "5.1"], 50_000),
        (["12.3456789", "5"], 0),
        (["12.345678", "5"], 5),
        (["12.34567891", "5"], 1),
        (["12"], 5_000_000),
    ],
)
def test_a_file_rounds_by_half_of_the_finest_place_that_its_amounts_have(
    amounts: list[str], rounding: int
) -> None:
    assert {each.rounding_nanos for each in read(page(*map(cost, amounts))).charges} == {rounding}


def test_an_amount_that_is_a_number_is_exact_too() -> None:
    found = read(json.dumps(page(cost("X"))).replace('"X"', "0.1000001").encode())

    assert found.charges[0].cost_nanos == 1_000_001


OURS: Final = b"""\
day,api_key,model,input_tokens,cache_read_tokens,cache_write_5m_tokens,cache_write_1h_tokens,output_tokens,web_searches,cost_usd
2026-11-20,apikey_1,claude-opus-5-5,1500,200,500,1000,700,10,0.123456789
"""


def test_csv_has_tokens_and_dollars_by_the_names_of_its_columns() -> None:
    assert read(OURS).charges == (
        Charge(day=DAY, key="apikey_1", model="claude-opus-5-5", usage=USAGE, cost_nanos=123_456_789),
    )


def test_csv_needs_no_more_than_a_day_a_model_and_an_amount_and_ignores_the_rest() -> None:
    found = read(b'\xef\xbb\xbfModel,who,Day,cost_usd\r\nclaude-opus-5-5,"a, b",2026-11-20,1.5\r\n')

    assert found.charges == (
        Charge(
            day=DAY,
            key=None,
            model="claude-opus-5-5",
            cost_nanos=1_500_000_000,
            rounding_nanos=50_000_000,
        ),
    )


def test_the_consoles_export_of_usage_is_read() -> None:
    found = read(
        b"usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        b"usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        b"usage_output_tokens,web_search_count,inference_geo,speed\n"
        b"2026-11-20,claude-opus-5-5,crew,Default,batch,0-200k,1500,500,1000,200,700,10,global,standard\n"
    )

    assert found.charges == (Charge(day=DAY, key="crew", model="claude-opus-5-5", usage=USAGE, batch=True),)


CONSOLE_COST: Final = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,"
    "cost_type,inference_geo,speed,api_key_id,api_key_status\n"
    "2026-11-20,Claude Haiku 4.5,Default,crew,message,≤ 200k,input_cache_read,0.05,0.10,token,global,,apikey_1,active\n"
    "2026-11-20,,Default,crew,message,,,0.40,0.40,web_search,global,,apikey_1,active\n"
).encode()


def test_the_consoles_export_of_cost_is_read_with_the_names_of_models_and_the_ids_of_keys() -> None:
    found = read(CONSOLE_COST)

    assert [
        (each.key, each.model, each.bucket, each.cost_nanos, each.rounding_nanos) for each in found.charges
    ] == [
        ("apikey_1", "claude-haiku-4-5", "cache_read_tokens", 50_000_000, 5_000_000),
        ("apikey_1", None, SEARCHES, 400_000_000, 5_000_000),
    ]
    assert read(CONSOLE_COST, at_list_prices=True).charges[0].cost_nanos == 100_000_000


MALFORMED: Final[list[tuple[Any, str]]] = [
    (b'{"data": [}', "line 1: is not JSON"),
    (b'{"data": []}\n\n{"data": [nonsense', "line 3: is not JSON"),
    (b"\xff\xfe{}", "byte 0: is not UTF-8"),
    (page(cost("1"), has_more=True), "the last page: has_more is true"),
    ([page(cost("1")), page(cost("1"))], "page 2: is there twice"),
    ({"type": "error", "error": {}}, "missing required field `data`"),
    (page({**TOKENS, "output_tokens": -1}), "$.data[0].results[0].output_tokens: Expected `int` >= 0"),
    (page(cost("one")), "$.data[0].results[0].amount: Invalid decimal"),
    (page(cost("NaN")), "NaN is no amount"),
    (page(cost("1E+99")), "is no amount"),
    (page(cost("1", currency="EUR")), "page 1, data[0].results[0]: is in EUR"),
    (page(cost("1", model=None, cost_type=None)), "group_by[]=description"),
    (page(TOKENS), "names no model"),
    (page({"model": "claude-opus-5-5"}), "has neither tokens nor an amount"),
    (
        {"data": [{**BUCKET, "ending_at": "2026-11-22T00:00:00Z", "results": []}]},
        "covers more than one day: 2026-11-20 to 2026-11-21",
    ),
    (
        {"data": [{**BUCKET, "starting_at": "2026-11-20T00:00:00", "results": []}]},
        "its times have no time zone",
    ),
    (b"", "line 1: there is no column day"),
    (b"day,cost_usd\n", "line 1: there is no column model"),
    (b"day,model\n", "line 1: there is no column cost_usd"),
    (b"day,model,cost_usd\n2026-11-20,m,1\n20.11.,m,1\n", "line 3: '20.11.' is no day"),
    (b"day,model,cost_usd\n2026-11-20,m,$1\n", "line 2: '$1' is no amount"),
    (b"day,model,cost_usd\n2026-11-20,m,inf\n", "line 2: Infinity is no amount"),
    (b"day,model,output_tokens\n2026-11-20,m,1.5\n", "line 2: '1.5' is no number of tokens"),
    (b"day,model,cost_usd\n2026-11-20,m\n", "line 2: has another number of fields"),
    (b"day,model,cost_usd\n2026-11-20,m,1,2\n", "line 2: has another number of fields"),
    (b"day,model,cost_usd\n2026-11-20,,1\n", "line 2: names no model"),
    (b'day,model,cost_usd\n2026-11-20,"m,1\n', "after line 1: unexpected end of data"),
]


@pytest.mark.parametrize(("content", "said"), MALFORMED)
def test_what_is_malformed_is_told_with_the_file_the_place_and_what_to_do(content: Any, said: str) -> None:
    with pytest.raises(MalformedReport) as raised:
        read(content)

    told = str(raised.value)
    assert told.startswith("report: ")
    assert said in told
    assert "\n    " in told


@given(raw=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@settings(max_examples=80)
def test_any_bytes_are_a_report_or_malformed(raw: bytes) -> None:
    try:
        found = read(raw)
    except MalformedReport:
        return
    assert all(each.usage or each.cost_nanos is not None for each in found.charges)


@given(nanos=st.integers(0, 10**17))
@settings(max_examples=60)
def test_every_amount_in_whole_nanodollars_is_read_exactly(nanos: int) -> None:
    assert read(page(cost(f"{Decimal(nanos).scaleb(-7):f}"))).charges[0].cost_nanos == nanos


def test_an_empty_cell_of_a_count_is_none_of_those_tokens() -> None:
    report = read_report(b"day,model,cost_usd,output_tokens\n2026-11-20,m,1,\n", file="report.csv")

    (told,) = report.charges
    assert told.usage in {None, Usage()}
