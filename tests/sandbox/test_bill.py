"""Bills worked out by hand from the provider's price list: dollars a million tokens are nanodollars times 1000."""

from fractions import Fraction
from typing import Any

import pytest

from tierwise.sandbox.bill import CARDS, Charge, Ledger, Usage, card, price
from tierwise.sandbox.models import SERVED
from tierwise.sandbox.server import Running

HAIKU = "claude-haiku-5-5"
OPUS = "claude-opus-5-5"


def test_every_served_model_has_a_price() -> None:
    assert {model.id for model in SERVED} == set(CARDS)


@pytest.mark.parametrize(
    ("model", "usage", "nanos"),
    [
        # 1,000 in at $4 and 500 out at $20: $0.004 + $0.010.
        (OPUS, Usage(input_tokens=1_000, output_tokens=500), 14_000_000),
        # 2,000 written for 5 minutes at $5, 3,000 for an hour at $8, 10,000 read at $0.20, 10 out at $20.
        (
            OPUS,
            Usage(
                cache_write_5m_tokens=2_000,
                cache_write_1h_tokens=3_000,
                cache_read_tokens=10_000,
                output_tokens=10,
            ),
            10_000_000 + 24_000_000 + 2_000_000 + 200_000,
        ),
        # Fable 5.2 reads its cache at 0.025 of $8.
        ("claude-fable-5-2", Usage(cache_read_tokens=1_000_000), 200_000_000),
        # Opus 5 reads its cache at 0.1 of $5.
        ("claude-opus-5", Usage(cache_read_tokens=1_000_000), 500_000_000),
        # Sonnet 5.5 writes 800 at $2.50.
        ("claude-sonnet-5-5", Usage(cache_write_5m_tokens=800), 2_000_000),
        # Haiku 4.5: 1,234 at $1, 567 at $5.
        ("claude-haiku-4-5-20251001", Usage(input_tokens=1_234, output_tokens=567), 4_069_000),
        # Three searches at a cent, beside 10 tokens at $2.
        ("claude-sonnet-5-5", Usage(input_tokens=10, web_searches=3), 30_020_000),
    ],
)
def test_a_call_costs_its_tokens_at_the_list_price(model: str, usage: Usage, nanos: int) -> None:
    assert price([Charge(model=model, usage=usage)]) == nanos


def test_a_haiku_prompt_of_exactly_100_thousand_tokens_is_at_the_lower_card() -> None:
    usage = Usage(
        input_tokens=40_000, cache_read_tokens=50_000, cache_write_5m_tokens=10_000, output_tokens=1_000
    )

    # $0.10, $0.01, $0.125 and $0.50 a million
    assert price([Charge(model=HAIKU, usage=usage)]) == 4_000_000 + 500_000 + 1_250_000 + 500_000


def test_one_token_more_of_haiku_prompt_bills_every_token_at_the_higher_card() -> None:
    usage = Usage(
        input_tokens=40_001, cache_read_tokens=50_000, cache_write_5m_tokens=10_000, output_tokens=1_000
    )

    # $0.50, $0.05, $0.625 and $2.50 a million
    assert price([Charge(model=HAIKU, usage=usage)]) == 20_000_500 + 2_500_000 + 6_250_000 + 2_500_000


def test_us_only_inference_costs_a_tenth_more_on_every_kind_of_token() -> None:
    usage = Usage(input_tokens=100, cache_read_tokens=1_000, output_tokens=10)

    assert price([Charge(model=OPUS, usage=usage, us_only=True)]) == 440_000 + 220_000 + 220_000


def test_searches_cost_the_same_in_every_geography() -> None:
    assert price([Charge(model=OPUS, usage=Usage(web_searches=1), us_only=True)]) == 10_000_000


def test_fast_mode_has_prices_of_its_own_with_the_cache_multipliers_on_top() -> None:
    usage = Usage(input_tokens=100, output_tokens=100, cache_write_5m_tokens=100, cache_read_tokens=100)

    # $8, $40, 1.25 x $8 and 0.05 x $8
    assert price([Charge(model=OPUS, usage=usage, speed="fast")]) == 800_000 + 4_000_000 + 1_000_000 + 40_000


def test_a_half_nanodollar_is_rounded_to_the_even_side_once_a_call() -> None:
    # Haiku 5.5 writes at 125 nanodollars a token; in the US that is 137.5.
    one = Charge(model=HAIKU, usage=Usage(cache_write_5m_tokens=1), us_only=True)
    three = Charge(model=HAIKU, usage=Usage(cache_write_5m_tokens=3), us_only=True)

    assert price([one]) == 138
    assert price([three]) == 412
    assert price([one, three]) == 550


def test_prices_are_exact_fractions() -> None:
    assert card(HAIKU, us_only=True).write_5m == Fraction(275, 2)


def test_the_parts_of_a_call_are_billed_at_their_own_models() -> None:
    charges = [
        Charge(model=HAIKU, usage=Usage(input_tokens=10)),
        Charge(model=OPUS, usage=Usage(input_tokens=10)),
    ]

    assert price(charges) == 1_000 + 40_000


def test_an_empty_ledger_bills_nothing() -> None:
    assert Ledger().billing() == {
        "calls": 0,
        "total_nanos": 0,
        "by_model": {},
        "truncated": {"calls": 0, "output_tokens_cut": 0, "nanos_not_run": 0},
        "unbilled": {"calls": 0},
    }


def asked(sandbox: Running, model: str, words: str, **more: Any) -> dict[str, Any]:
    body = {
        "model": model,
        "max_tokens": 1_000,
        "messages": [{"role": "user", "content": f"[[sandbox {words}]]"}],
        **more,
    }
    answer = sandbox.messages(body, {"anthropic-beta": "fast-mode-2026-02-01"})
    assert answer.status == 200, answer.body
    return answer.json()


def test_the_reply_says_what_is_billed(sandbox: Running) -> None:
    usage = asked(sandbox, OPUS, "prompt_tokens=993 output_tokens=500")["usage"]

    assert (usage["input_tokens"], usage["output_tokens"]) == (1_000, 500)
    assert sandbox.billing()["total_nanos"] == 14_000_000
    assert sandbox.billing()["by_model"][OPUS]["total_nanos"] == 14_000_000


def test_us_geo_is_told_and_billed(sandbox: Running) -> None:
    usage = asked(sandbox, OPUS, "prompt_tokens=993 output_tokens=500", inference_geo="us")["usage"]

    assert usage["inference_geo"] == "us"
    assert sandbox.billing()["total_nanos"] == 15_400_000


def test_fast_mode_is_told_and_billed(sandbox: Running) -> None:
    usage = asked(sandbox, "claude-opus-5", "prompt_tokens=993 output_tokens=500", speed="fast")["usage"]

    assert usage["speed"] == "fast"
    assert sandbox.billing()["total_nanos"] == 35_000_000  # $10 and $50


def test_opus_4_6_takes_fast_mode_and_runs_at_standard_speed_and_price(sandbox: Running) -> None:
    usage = asked(sandbox, "claude-opus-4-6", "output_tokens=100", speed="fast")["usage"]

    assert usage["speed"] == "standard"
    assert sandbox.billing()["total_nanos"] == usage["input_tokens"] * 5_000 + 100 * 25_000


def test_a_long_haiku_prompt_is_billed_at_the_higher_card(sandbox: Running) -> None:
    asked(sandbox, HAIKU, "prompt_tokens=99993 output_tokens=100", thinking={"type": "disabled"})
    at_the_step = sandbox.billing()["total_nanos"]
    asked(sandbox, HAIKU, "prompt_tokens=99994 output_tokens=100", thinking={"type": "disabled"})

    assert at_the_step == 100_000 * 100 + 100 * 500
    assert sandbox.billing()["total_nanos"] - at_the_step == 100_001 * 500 + 100 * 2_500


def test_searches_are_told_and_billed(sandbox: Running) -> None:
    usage = asked(sandbox, OPUS, "prompt_tokens=993 output_tokens=500 searches=2")["usage"]

    assert usage["server_tool_use"] == {"web_search_requests": 2, "web_fetch_requests": 0}
    assert sandbox.billing()["total_nanos"] == 34_000_000


def test_compaction_is_billed_and_stands_only_in_the_iterations(sandbox: Running) -> None:
    usage = asked(sandbox, OPUS, "prompt_tokens=993 output_tokens=500 iterations=compaction")["usage"]

    compaction, message = usage["iterations"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (1_000, 500)
    assert (message["type"], message["input_tokens"], message["model"]) == ("message", 1_000, OPUS)
    assert (compaction["type"], compaction["input_tokens"], compaction["output_tokens"]) == (
        "compaction",
        2_400,
        320,
    )
    assert sandbox.billing()["total_nanos"] == 14_000_000 + 2_400 * 4_000 + 320 * 20_000


def test_an_advisor_is_billed_at_its_own_model(sandbox: Running) -> None:
    words = "prompt_tokens=993 output_tokens=500 iterations=advisor_message helper=claude-fable-5-2"
    usage = asked(sandbox, OPUS, words)["usage"]

    assert [part["model"] for part in usage["iterations"]] == ["claude-fable-5-2", OPUS]
    assert sandbox.billing()["total_nanos"] == 14_000_000 + 1_200 * 8_000 + 150 * 40_000


def test_a_fallback_bills_both_models_and_its_top_level_usage_covers_the_serving_one(
    sandbox: Running,
) -> None:
    words = "prompt_tokens=993 output_tokens=500 iterations=fallback_message helper=claude-sonnet-5"
    reply = asked(sandbox, OPUS, words)

    declined, serving = reply["usage"]["iterations"]
    assert reply["model"] == serving["model"] == "claude-sonnet-5"
    assert reply["content"][0]["type"] == "fallback"
    assert (declined["type"], declined["model"], declined["output_tokens"]) == ("message", OPUS, 12)
    assert reply["usage"]["output_tokens"] == serving["output_tokens"] == 500
    # Opus 1,000 at $4 and 12 at $20; Sonnet 5 1,000 at $2 and 500 at $10
    assert sandbox.billing()["total_nanos"] == 4_000_000 + 240_000 + 2_000_000 + 5_000_000


def test_what_a_cap_cut_is_told_with_its_price(sandbox: Running) -> None:
    body_cap = 300
    reply = asked(sandbox, OPUS, "output_tokens=24000", max_tokens=body_cap)

    assert (reply["stop_reason"], reply["usage"]["output_tokens"]) == ("max_tokens", 300)
    assert sandbox.billing()["truncated"] == {
        "calls": 1,
        "output_tokens_cut": 23_700,
        "nanos_not_run": 23_700 * 20_000,
    }


def test_the_totals_are_the_sum_of_the_calls(sandbox: Running) -> None:
    for model in (OPUS, HAIKU, "claude-sonnet-4-6"):
        asked(sandbox, model, "output_tokens=50")

    calls = sandbox.calls()
    billing = sandbox.billing()
    assert billing["calls"] == len(calls) == 3
    assert billing["total_nanos"] == sum(call["nanos"] for call in calls)
    assert billing["total_nanos"] == sum(row["total_nanos"] for row in billing["by_model"].values())


def test_the_record_of_a_call_says_what_the_client_sent(sandbox: Running) -> None:
    body = {"model": OPUS, "max_tokens": 77, "messages": [{"role": "user", "content": "Hello"}], "later": 1}
    answer = sandbox.messages(body, {"x-tierwise-task-id": "t1", "x-stainless-lang": "python"})

    (call,) = sandbox.calls()
    assert call["request_id"] == answer.headers["request-id"]
    assert (call["sent"]["model"], call["sent"]["max_tokens"]) == (OPUS, 77)
    assert call["sent"]["fields"] == ["later", "max_tokens", "messages", "model"]
    assert call["sent"]["headers"] == {"x-tierwise-task-id": "t1"}


def test_a_count_of_tokens_is_free(sandbox: Running) -> None:
    body = b'{"model":"claude-opus-5-5","messages":[{"role":"user","content":"Hello"}]}'
    headers = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
    sandbox.send("POST", "/v1/messages/count_tokens", body, headers)

    assert sandbox.billing()["calls"] == 0
