"""The matrix through HTTP: each feature against each model, with the refusals written out a second time."""

from collections.abc import Mapping
from typing import Any

import pytest

from tierwise.sandbox.models import SERVED
from tierwise.sandbox.server import Running

H45, S45, O45 = "claude-haiku-4-5-20251001", "claude-sonnet-4-5-20250929", "claude-opus-4-5-20251101"
S46, O46, O47, O48 = "claude-sonnet-4-6", "claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8"
S5, O5 = "claude-sonnet-5", "claude-opus-5"
H55, S55, O55 = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
F5 = frozenset({"claude-fable-5", "claude-mythos-5"})
F51 = frozenset({"claude-fable-5-1", "claude-mythos-5-1"})
F52 = frozenset({"claude-fable-5-2", "claude-mythos-5-2"})

EVERY = frozenset(model.id for model in SERVED)
OLD = frozenset({H45, S45, O45})
FAMILY_46 = frozenset({S46, O46})
CLASS_55 = frozenset({S55, O55})
FABLE = F5 | F51 | F52

TOOL: dict[str, Any] = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
HELLO = [{"role": "user", "content": "Hello"}]

# What is added to a plain request, and the models that refuse it.
REFUSED: Mapping[str, tuple[dict[str, Any], frozenset[str]]] = {
    "nothing": ({}, frozenset()),
    "thinking adaptive": ({"thinking": {"type": "adaptive"}}, OLD),
    "thinking enabled": (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        EVERY - OLD - FAMILY_46,
    ),
    "thinking disabled": ({"thinking": {"type": "disabled"}}, CLASS_55 | FABLE),
    "thinking disabled at effort high": (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        CLASS_55 | FABLE | {H45, S45},
    ),
    "thinking disabled at effort max": (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
        CLASS_55 | FABLE | OLD | {H55, O5},
    ),
    "thinking disabled at effort xhigh": (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}},
        CLASS_55 | FABLE | OLD | FAMILY_46 | {H55, O5},
    ),
    "thinking between tools": ({"thinking": {"type": "between_tools"}}, EVERY - {S55}),
    "thinking between tools at effort xhigh": (
        {"thinking": {"type": "between_tools"}, "output_config": {"effort": "xhigh"}},
        EVERY,
    ),
    "thinking between tools with another field": (
        {"thinking": {"type": "between_tools", "display": "omitted"}},
        EVERY,
    ),
    "effort low": ({"output_config": {"effort": "low"}}, frozenset({H45, S45})),
    "effort xhigh": ({"output_config": {"effort": "xhigh"}}, OLD | FAMILY_46),
    "effort max": ({"output_config": {"effort": "max"}}, OLD),
    "temperature": ({"temperature": 0.5}, EVERY - OLD - FAMILY_46),
    "temperature 1": ({"temperature": 1}, EVERY - OLD - FAMILY_46 - {H55, S55}),
    "top_p": ({"top_p": 0.5}, EVERY - OLD - FAMILY_46),
    "top_k": ({"top_k": 10}, EVERY - OLD - FAMILY_46),
    "temperature and top_p": ({"temperature": 0.5, "top_p": 0.5}, EVERY - FAMILY_46),
    "prefill": ({"messages": [*HELLO, {"role": "assistant", "content": "So"}]}, EVERY - OLD),
    "tool choice any": (
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        CLASS_55 | F51 | F52,
    ),
    "tool choice tool": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "look"}},
        CLASS_55 | F51 | F52,
    ),
    "tool choice any beside a budget": (
        {
            "tools": [TOOL],
            "tool_choice": {"type": "any"},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
        EVERY,
    ),
    "tool choice any beside adaptive": (
        {"tools": [TOOL], "tool_choice": {"type": "any"}, "thinking": {"type": "adaptive"}},
        OLD | CLASS_55 | F51 | F52,
    ),
    "tool choice auto": ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, frozenset()),
    "role system": (
        {"messages": [*HELLO, {"role": "system", "content": "Be brief."}, *HELLO]},
        OLD | FAMILY_46 | {O47, S5},
    ),
    "task budget": (
        {"output_config": {"task_budget": {"type": "tokens", "total": 20_000}}},
        OLD | FAMILY_46 | {S5},
    ),
    "compaction edit": ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, OLD),
    "clear thinking edit": (
        {"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}},
        frozenset(),
    ),
    "fallbacks by name": ({"fallbacks": [{"model": "claude-opus-4-8"}]}, OLD | {H55, S55}),
    "fallback to sonnet 5": ({"fallbacks": [{"model": "claude-sonnet-5"}]}, OLD | {H55}),
    "fallbacks default": ({"fallbacks": "default"}, OLD),
    "computer of January 2025": (
        {"tools": [{"type": "computer_20250124", "name": "computer"}]},
        EVERY - {H45, S45},
    ),
    "computer of November 2025": (
        {"tools": [{"type": "computer_20251124", "name": "computer"}]},
        F52 | {H45, S45, H55, S55, O55},
    ),
    "computer toolset": (
        {"tools": [{"type": "computer_toolset_20260801"}]},
        OLD | FAMILY_46 | {O47, O48},
    ),
    "inference geo": ({"inference_geo": "us"}, OLD),
    "speed fast": ({"speed": "fast"}, EVERY - {O55, O46} - F52),
    "speed standard": ({"speed": "standard"}, frozenset({O5, O48})),
    "a cap of 64,000": ({"max_tokens": 64_000}, frozenset()),
    "a cap of 64,001": ({"max_tokens": 64_001}, OLD),
    "a cap of 128,001": ({"max_tokens": 128_001}, EVERY),
}


@pytest.mark.parametrize("feature", REFUSED)
def test_a_feature_is_refused_by_exactly_the_models_that_do_not_take_it(
    served: Running, feature: str
) -> None:
    added, refusing = REFUSED[feature]
    answers = {
        model.id: served.messages({"model": model.id, "max_tokens": 2_000, "messages": HELLO, **added})
        for model in SERVED
    }

    assert {model for model, answer in answers.items() if answer.status == 400} == refusing
    assert {answer.status for answer in answers.values()} <= {200, 400}


def test_fast_mode_of_opus_5_and_4_8_needs_its_beta_header(served: Running) -> None:
    body = {"max_tokens": 100, "messages": HELLO, "speed": "fast"}
    with_beta = {"anthropic-beta": "other, fast-mode-2026-02-01"}

    assert {served.messages({"model": model, **body}, with_beta).status for model in (O5, O48)} == {200}


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k"])
def test_version_2026_10_21_refuses_sampling_on_every_model(served: Running, field: str) -> None:
    statuses = {
        served.messages(
            {"model": model.id, "max_tokens": 10, "messages": HELLO, field: 1}, version="2026-10-21"
        ).status
        for model in SERVED
    }

    assert statuses == {400}


BLOCKS: list[tuple[dict[str, Any], str]] = [
    ({"role": "assistant", "content": [{"type": "document", "source": {}}]}, "`document`"),
    ({"role": "user", "content": [{"type": "text", "text": "a", "citations": [{}]}]}, "citations"),
]


@pytest.mark.parametrize(("message", "wrong"), BLOCKS)
def test_version_2026_10_21_refuses_blocks_that_2023_06_01_takes(
    served: Running, message: dict[str, Any], wrong: str
) -> None:
    body = {"model": O55, "max_tokens": 10, "messages": [*HELLO, message, *HELLO]}

    assert served.messages(body).status == 200
    refused = served.messages(body, version="2026-10-21")
    assert refused.status == 400
    assert wrong in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "omitted_thinks"),
    [(H45, False), (O46, False), (O48, False), (S5, True), (H55, True), (O55, True)],
)
def test_a_model_thinks_unasked_where_the_matrix_says_so(
    served: Running, model: str, omitted_thinks: bool
) -> None:
    body = {
        "model": model,
        "max_tokens": 900,
        "messages": [{"role": "user", "content": "[[sandbox thinking_tokens=200 output_tokens=100]]"}],
    }

    usage = served.messages(body).json()["usage"]

    assert usage["output_tokens_details"]["thinking_tokens"] == (200 if omitted_thinks else 0)
    assert usage["output_tokens"] == (300 if omitted_thinks else 100)


def test_a_forced_tool_skips_the_thinking_of_haiku_5_5(served: Running) -> None:
    body = {
        "model": H55,
        "max_tokens": 900,
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
        "messages": [{"role": "user", "content": "[[sandbox thinking_tokens=200]]"}],
    }

    reply = served.messages(body).json()

    assert reply["stop_reason"] == "tool_use"
    assert reply["usage"]["output_tokens_details"]["thinking_tokens"] == 0
