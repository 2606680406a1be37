"""What is written of a call. Figures: Haiku 5.5 costs $0.10 and $0.50 a million tokens, in and out; Opus 5.5 $4 and
$20, Haiku 4.5 $1 and $5 with the old tokenizer. So 1,000 and 500 tokens are 350,000, 14,000,000 and, as 769 and 385
tokens, 2,694,000 nanodollars."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from support.calls import EXTRACTION, FAST, FRONTIER, a_call, a_policy
from tierwise.config.prices import shipped_prices
from tierwise.core.call import Call
from tierwise.core.changes import REMOVED, Change
from tierwise.core.ledger import NO_TIMINGS, Decided, Failed, Fault, Posted, Timings
from tierwise.core.planning import Plan, Refused, plan
from tierwise.core.policy import Policy, Tier
from tierwise.core.settlement import (
    Ending,
    Models,
    at_equal_tokens,
    decided_entry,
    describe,
    ending_entry,
    item_entry,
    refused_entry,
)
from tierwise.core.tasks import LONGEST_ID, name_task
from tierwise.usage import Metered, Usage, UsageLine

PRICES = shipped_prices()
AT = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp()) * 1_000_000
TIMINGS = Timings(until_sent_us=1, until_first_byte_us=2, until_end_us=3)
POLICY = a_policy(EXTRACTION, tiers=(FRONTIER, FAST), version="0123456789ab")
HEADER = {"x-tierwise-task-type": "extraction"}
TOKENS = Usage(input_tokens=1000, output_tokens=500)

AT_HAIKU_5_5 = 350_000
AT_OPUS_5_5 = 14_000_000
AT_HAIKU_4_5 = 2_694_000


def planned(call: Call, policy: Policy = POLICY) -> Plan:
    outcome = plan(call, name_task(call, policy=policy), policy=policy, kept=None)
    assert isinstance(outcome, Plan)
    return outcome


def counted(model: str = "claude-haiku-5-5", usage: Usage = TOKENS, **way: bool) -> Metered:
    return Metered(lines=(UsageLine(model=model, usage=usage, **way),), thinking_tokens=7)


def an_ending(**fields: Any) -> Ending:
    values: dict[str, Any] = {
        "at_us": AT,
        "status": 200,
        "served_model": "claude-haiku-5-5",
        "stop_reason": "end_turn",
        "metered": counted(),
        "request_id": "req_1",
    }
    return Ending(**(values | fields))


def settled(ending: Ending, the_plan: Plan | None = None) -> Posted | Failed:
    the_plan = the_plan or planned(a_call(headers=HEADER))
    return ending_entry(ending, plan=the_plan, prices=PRICES, call_id="c1", timings=TIMINGS)


def posted(ending: Ending, the_plan: Plan | None = None) -> Posted:
    entry = settled(ending, the_plan)
    assert isinstance(entry, Posted)
    return entry


def failed(ending: Ending, the_plan: Plan | None = None) -> Failed:
    entry = settled(ending, the_plan)
    assert isinstance(entry, Failed)
    return entry


def test_the_entry_of_a_decision_says_what_was_asked_decided_and_changed() -> None:
    headers = HEADER | {"x-tierwise-task-id": "t", "x-tierwise-run-id": "r", "x-tierwise-agent": "a"}
    call = a_call(FAST.model, headers=headers, stream=True, thinking="disabled")

    entry = decided_entry(planned(call), call_id="c1", key_id="k1", at_us=AT)

    assert entry == Decided(
        call_id="c1",
        at_us=AT,
        task_type="extraction",
        declared="header",
        unknown_type=None,
        nearest_type=None,
        task_id="t",
        run_id="r",
        agent="a",
        key_id="k1",
        requested_model="claude-haiku-5-5",
        tier="fast",
        decided_model="claude-haiku-5-5",
        acts=True,
        stream=True,
        max_tokens_asked=32_000,
        max_tokens_sent=512,
        policy_version="0123456789ab",
        selection_probability=1.0,
        reasons=(
            "The header declares the task type extraction.",
            "The contract of extraction names the tier fast.",
            "Capped at the contract's 512; the caller asked for 32000.",
        ),
        changes=("max_tokens: 32000 -> 512 (decision.max_tokens)",),
    )


def test_the_entry_of_an_observed_call_keeps_apart_what_was_decided_and_what_was_sent() -> None:
    observed = planned(a_call(headers=HEADER), replace(POLICY, mode="observe"))

    entry = decided_entry(observed, call_id="c1", key_id="k1", at_us=AT)

    assert (entry.tier, entry.decided_model, entry.acts) == ("fast", "claude-haiku-5-5", False)
    assert (entry.max_tokens_sent, entry.changes) == (32_000, ())


def test_the_entry_of_a_refused_call_says_why_and_that_nothing_was_sent() -> None:
    call = a_call("task/nope")
    refused = plan(call, name_task(call, policy=POLICY), policy=POLICY, kept=None)
    assert isinstance(refused, Refused)

    entry = decided_entry(refused, call_id="c1", key_id="k1", at_us=AT)

    assert (entry.task_type, entry.unknown_type, entry.declared) == (None, "nope", "model")
    assert (entry.tier, entry.decided_model, entry.max_tokens_sent) == (None, None, None)
    assert entry.reasons == ("The policy has no task type 'nope'. It knows: extraction.",)
    assert (entry.acts, entry.changes, entry.selection_probability) == (True, (), 1.0)


def test_a_model_name_of_any_length_is_cut_before_it_goes_into_the_ledger() -> None:
    entry = decided_entry(planned(a_call("m" * 1000)), call_id="c1", key_id="k1", at_us=AT)

    assert entry.requested_model == entry.decided_model == "m" * LONGEST_ID


def test_a_call_that_the_gateway_refused_cost_nothing() -> None:
    assert refused_entry(call_id="c1", at_us=AT, error="ineligible", prices=PRICES) == Failed(
        call_id="c1",
        at_us=AT,
        fault=Fault.GATEWAY,
        error="ineligible",
        status=None,
        served_model=None,
        usage=None,
        cost_nanos=0,
        at_least_nanos=None,
        price_version=PRICES.version,
        timings=NO_TIMINGS,
        request_id=None,
    )


def test_a_finished_call_is_posted_with_its_cost_and_three_baselines() -> None:
    entry = settled(an_ending(), planned(a_call("claude-haiku-4-5", headers=HEADER)))

    assert entry == Posted(
        call_id="c1",
        at_us=AT,
        served_model="claude-haiku-5-5",
        stop_reason="end_turn",
        usage=TOKENS,
        thinking_tokens=7,
        cost_nanos=AT_HAIKU_5_5,
        price_version=PRICES.version,
        at_frontier_nanos=AT_OPUS_5_5,
        as_asked_nanos=AT_HAIKU_4_5,
        as_decided_nanos=AT_HAIKU_5_5,
        timings=TIMINGS,
        request_id="req_1",
    )


def test_a_call_that_named_a_task_for_a_model_was_asked_at_its_own_cost() -> None:
    entry = posted(an_ending(), planned(a_call("task/extraction")))

    assert (entry.as_asked_nanos, entry.as_decided_nanos) == (AT_HAIKU_5_5, AT_HAIKU_5_5)


def test_an_observed_call_shows_what_its_decision_would_have_cost() -> None:
    ending = an_ending(served_model=FRONTIER.model, metered=counted(FRONTIER.model))

    entry = posted(ending, planned(a_call(headers=HEADER), replace(POLICY, mode="observe")))

    assert (entry.cost_nanos, entry.as_asked_nanos) == (AT_OPUS_5_5, AT_OPUS_5_5)
    assert (entry.at_frontier_nanos, entry.as_decided_nanos) == (AT_OPUS_5_5, AT_HAIKU_5_5)


def test_an_undeclared_call_was_decided_as_it_was_asked() -> None:
    entry = posted(an_ending(), planned(a_call(FAST.model)))

    assert entry.as_asked_nanos == entry.as_decided_nanos == entry.cost_nanos == AT_HAIKU_5_5
    assert entry.at_frontier_nanos == AT_OPUS_5_5


def test_what_other_models_took_part_for_is_in_the_cost_and_in_the_baseline_of_the_model_that_was_sent() -> (
    None
):
    metered = Metered(lines=(counted().lines[0], counted("claude-opus-5-5").lines[0]))

    entry = posted(an_ending(metered=metered), planned(a_call("task/extraction")))

    assert entry.usage == Usage(input_tokens=2000, output_tokens=1000)
    assert entry.cost_nanos == entry.as_decided_nanos == AT_HAIKU_5_5 + AT_OPUS_5_5
    assert entry.at_frontier_nanos == 2 * AT_OPUS_5_5


def test_a_fast_reply_keeps_its_price_in_the_baselines_of_its_own_model() -> None:
    ending = an_ending(served_model=FRONTIER.model, metered=counted(FRONTIER.model, fast=True))

    entry = posted(ending, planned(a_call(FRONTIER.model)))

    assert entry.cost_nanos == entry.as_asked_nanos == entry.at_frontier_nanos == 2 * AT_OPUS_5_5


def test_a_model_without_a_price_has_an_unknown_cost_and_known_baselines() -> None:
    ending = an_ending(served_model="claude-next", metered=counted("claude-next"))

    entry = posted(ending, planned(a_call("claude-next")))

    assert (entry.cost_nanos, entry.as_asked_nanos, entry.as_decided_nanos) == (None, None, None)
    assert entry.at_frontier_nanos == AT_OPUS_5_5
    assert entry.usage == TOKENS


def test_a_reply_that_does_not_name_its_model_is_posted_under_the_model_that_was_counted() -> None:
    assert posted(an_ending(served_model=None)).served_model == "claude-haiku-5-5"


def test_an_empty_refusal_may_be_unbilled_so_that_its_cost_and_its_baselines_are_unknown() -> None:
    entry = posted(an_ending(stop_reason="refusal", unbilled=None))

    assert entry.cost_nanos is None
    assert entry.at_frontier_nanos is entry.as_asked_nanos is entry.as_decided_nanos is None
    assert (entry.usage, entry.stop_reason) == (TOKENS, "refusal")


def test_counts_beside_which_more_is_billed_leave_cost_and_baselines_unknown_and_are_a_lower_bound() -> None:
    apart = replace(counted(), billed_apart=True)
    entry = posted(an_ending(metered=apart))

    assert (
        entry.cost_nanos is entry.at_frontier_nanos is entry.as_asked_nanos is entry.as_decided_nanos is None
    )
    assert entry.usage == TOKENS
    assert failed(an_ending(metered=apart, error="server_error")).at_least_nanos == AT_HAIKU_5_5


def test_a_whole_reply_without_usage_has_an_unknown_cost() -> None:
    entry = failed(an_ending(metered=None))

    assert (entry.fault, entry.error, entry.status) == (Fault.PROVIDER, "no-usage", 200)
    assert (entry.usage, entry.cost_nanos, entry.at_least_nanos) == (None, None, None)


@pytest.mark.parametrize("fields", [{"finished": False}, {"error": "overloaded_error"}])
def test_a_reply_that_is_unfinished_or_an_error_is_not_posted_though_it_was_counted(
    fields: dict[str, Any],
) -> None:
    assert failed(an_ending(**fields)).at_least_nanos == AT_HAIKU_5_5


def test_an_error_of_the_provider_in_place_of_a_reply_costs_nothing() -> None:
    ending = an_ending(status=529, metered=None, error="overloaded_error", unbilled=True)

    entry = failed(ending)

    assert (entry.fault, entry.error, entry.status) == (Fault.PROVIDER, "overloaded_error", 529)
    assert (entry.cost_nanos, entry.at_least_nanos) == (0, None)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("stream-broke", Fault.PROVIDER),
        ("caller-left", Fault.CALLER),
        ("gateway-stopped", Fault.GATEWAY),
    ],
)
def test_a_cut_stream_costs_at_least_what_was_counted_by_then(error: str, fault: Fault) -> None:
    begun = counted(usage=Usage(input_tokens=1000, output_tokens=1))

    entry = failed(an_ending(metered=begun, finished=False, error=error, fault=fault, stop_reason=None))

    assert (entry.error, entry.fault) == (error, fault)
    assert (entry.cost_nanos, entry.at_least_nanos) == (None, 100_500)
    assert entry.usage == Usage(input_tokens=1000, output_tokens=1)
    assert entry.served_model == "claude-haiku-5-5"
    assert entry.timings == TIMINGS


def test_an_error_in_the_middle_of_a_stream_is_billed_by_the_provider_so_its_cost_is_unknown() -> None:
    entry = failed(an_ending(error="overloaded_error", finished=False))

    assert (entry.cost_nanos, entry.at_least_nanos) == (None, AT_HAIKU_5_5)


def test_a_caller_that_left_before_the_reply_leaves_an_unknown_cost() -> None:
    entry = failed(Ending(at_us=AT, finished=False, error="caller-left", fault=Fault.CALLER))

    assert (entry.cost_nanos, entry.at_least_nanos, entry.usage) == (None, None, None)
    assert (entry.status, entry.served_model, entry.request_id) == (None, None, None)


def test_a_broken_stream_of_an_unpriced_model_has_no_lower_bound_either() -> None:
    entry = failed(an_ending(metered=counted("claude-next"), finished=False, error="stream-broke"))

    assert (entry.cost_nanos, entry.at_least_nanos) == (None, None)


@pytest.mark.parametrize(
    ("model", "nanos"),
    [
        ("claude-haiku-5-5", AT_HAIKU_5_5),
        ("claude-opus-5-5", AT_OPUS_5_5),
        ("claude-haiku-4-5", AT_HAIKU_4_5),
        ("claude-next", None),
    ],
)
def test_the_same_tokens_are_priced_elsewhere_and_converted_where_tokenizers_differ(
    model: str, nanos: int | None
) -> None:
    assert at_equal_tokens(counted(), model=model, prices=PRICES, at_us=AT) == nanos


def test_every_bucket_is_converted_and_searches_are_not() -> None:
    usage = Usage(
        input_tokens=10,
        cache_write_5m_tokens=100,
        cache_write_1h_tokens=1000,
        cache_read_tokens=10_000,
        output_tokens=20,
        web_search_requests=2,
    )

    moved = at_equal_tokens(counted("claude-haiku-4-5", usage), model=FRONTIER.model, prices=PRICES, at_us=AT)

    # 13 × $4 + 130 × $5 + 1,300 × $8 + 13,000 × $0.20 + 26 × $20, a million tokens; and two searches at a cent
    assert moved == 52_000 + 650_000 + 10_400_000 + 2_600_000 + 520_000 + 20_000_000


def test_an_unknown_models_tokens_are_taken_as_they_are() -> None:
    assert (
        at_equal_tokens(counted("claude-next"), model=FRONTIER.model, prices=PRICES, at_us=AT) == AT_OPUS_5_5
    )


def test_a_baseline_keeps_where_and_how_it_ran_but_not_the_fast_mode() -> None:
    def moved(**way: Any) -> int | None:
        return at_equal_tokens(counted(**way), model=FRONTIER.model, prices=PRICES, at_us=AT)

    assert moved(fast=True) == AT_OPUS_5_5
    assert moved(us_only=True) == AT_OPUS_5_5 * 11 // 10
    assert moved(batch=True) == AT_OPUS_5_5 // 2


@pytest.mark.parametrize(
    ("path", "before", "after", "line"),
    [
        (("max_tokens",), 32_000, 512, "max_tokens: 32000 -> 512 (rule)"),
        (("output_config", "effort"), None, "low", "output_config.effort: -> low (rule)"),
        (("temperature",), 0.5, REMOVED, "temperature: removed (rule)"),
        (("model",), "m" * 1000, "claude-haiku-5-5", f"model: {'m' * LONGEST_ID} -> claude-haiku-5-5 (rule)"),
    ],
)
def test_a_change_is_one_short_line(path: tuple[str, ...], before: Any, after: Any, line: str) -> None:
    assert describe(Change(path=path, before=before, after=after, rule="rule", why="Because.")) == line


def test_the_frontier_baseline_is_the_first_tiers_model() -> None:
    policy = a_policy(EXTRACTION, tiers=(Tier(name="top", model="claude-fable-5-2"), FAST))

    assert posted(an_ending(), planned(a_call("task/extraction"), policy)).at_frontier_nanos == 28_000_000


# Items of Message Batches


def test_an_item_is_priced_at_batch_rates_as_of_the_making_of_its_batch() -> None:
    line = UsageLine(model="claude-haiku-5-5", usage=Usage(input_tokens=1_000, output_tokens=100), batch=True)
    models = Models(
        frontier="claude-opus-5-5", requested="task/extraction", decided="claude-haiku-5-5", acts=True
    )
    made_us, fetched_us = 1_795_000_000_000_000, 1_797_000_000_000_000
    entry = item_entry(
        Ending(at_us=fetched_us, metered=Metered(lines=(line,))),
        models=models,
        prices=PRICES,
        priced_us=made_us,
        call_id="c1",
        batch_id="msgbatch_1",
    )

    assert isinstance(entry, Posted)
    assert (entry.at_us, entry.batch_id, entry.timings) == (fetched_us, "msgbatch_1", NO_TIMINGS)
    assert entry.cost_nanos == 1_000 * 50 + 100 * 250
    assert entry.at_frontier_nanos == 1_000 * 2_000 + 100 * 10_000
    assert entry.as_asked_nanos == entry.as_decided_nanos == entry.cost_nanos
