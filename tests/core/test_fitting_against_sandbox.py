"""Fitting against a provider that wrote down by itself what each model refuses, and shares no code with it."""

import json
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from itertools import product
from typing import Any, Final, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tierwise.core.catalog import MODELS
from tierwise.core.decision import Decision
from tierwise.core.fitting import Fitted, fit
from tierwise.core.matrix import Ineligible
from tierwise.core.policy import EFFORTS, Effort, Thinking
from tierwise.sandbox.server import running
from tierwise.wire.requests import read_request, rewrite

CAP: Final = 4096
FAST_BETA: Final = {"anthropic-beta": "fast-mode-2026-02-01"}
NEW_VERSION: Final = {"anthropic-version": "2026-10-21"}

USER: Final = {"role": "user", "content": "Name three rivers."}
TOOL: Final = {"name": "river", "input_schema": {"type": "object"}}

FEATURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "nothing": {},
    "adaptive": {"thinking": {"type": "adaptive", "display": "omitted"}},
    "enabled": {"thinking": {"type": "enabled", "budget_tokens": 2048, "display": "summarized"}},
    "budget at the cap": {"thinking": {"type": "enabled", "budget_tokens": CAP}},
    "disabled": {"thinking": {"type": "disabled"}},
    "disabled at xhigh": {"thinking": {"type": "disabled"}, "output_config": {"effort": "xhigh"}},
    "between_tools": {"thinking": {"type": "between_tools"}},
    "between_tools at max": {"thinking": {"type": "between_tools"}, "output_config": {"effort": "max"}},
    **{f"effort {effort}": {"output_config": {"effort": effort}} for effort in EFFORTS},
    "temperature": {"temperature": 0.2},
    "temperature 1": {"temperature": 1},
    "temperature and top_p": {"temperature": 0.2, "top_p": 0.9},
    "top_k": {"top_k": 40},
    "temperature beside thinking": {"temperature": 0.2, "thinking": {"type": "adaptive"}},
    "top_p beside a budget": {"top_p": 0.5, "thinking": {"type": "enabled", "budget_tokens": 2048}},
    "top_p beside disabled thinking": {"top_p": 0.5, "thinking": {"type": "disabled"}},
    "temperature, new version": {"temperature": 1, "headers": NEW_VERSION},
    "prefill": {"messages": [USER, {"role": "assistant", "content": "The Rhine,"}]},
    "prefill beside a budget": {
        "messages": [USER, {"role": "assistant", "content": "The Rhine,"}],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
    },
    "forced to any tool": {"tools": [TOOL], "tool_choice": {"type": "any"}},
    "forced to a tool": {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "river"}},
    "forced beside a budget": {
        "tools": [TOOL],
        "tool_choice": {"type": "any"},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
    },
    "forced beside adaptive": {
        "tools": [TOOL],
        "tool_choice": {"type": "tool", "name": "river"},
        "thinking": {"type": "adaptive"},
    },
    "system turn": {
        "messages": [USER, {"role": "system", "content": "Be short."}, {"role": "user", "content": "Well?"}]
    },
    "task budget": {"output_config": {"task_budget": {"type": "tokens", "total": 20_000}}},
    "compaction edit": {"context_management": {"edits": [{"type": "compact_20260112"}]}},
    "compaction": {"compaction": {"enabled": True}},
    "fallbacks": {"fallbacks": [{"model": "claude-opus-4-8"}]},
    "fallbacks default": {"fallbacks": "default"},
    "computer_20250124": {"tools": [{"type": "computer_20250124", "name": "computer"}]},
    "computer_20251124": {"tools": [{"type": "computer_20251124", "name": "computer"}]},
    "computer_toolset_20260801": {"tools": [{"type": "computer_toolset_20260801"}]},
    "geo global": {"inference_geo": "global"},
    "geo us": {"inference_geo": "us"},
    "speed standard": {"speed": "standard"},
    "speed fast": {"speed": "fast"},
    "speed fast with its beta flag": {"speed": "fast", "headers": FAST_BETA},
    "cap of 128,000": {"max_tokens": 128_000},
}

# Changed although the provider takes it: fallbacks, which only some lists may hold, go on every model that does not
# take them all; a speed that says nothing goes where a model may not know the field; fast mode goes on Opus 4.6,
# which would run at standard speed.
_OLD: Final = ("claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5")
BY_POLICY: Final[Mapping[str, tuple[str, ...]]] = {
    "fallbacks": (
        "claude-sonnet-4-6",
        "claude-opus-4-6",
        "claude-opus-4-7",
        "claude-opus-4-8",
        "claude-sonnet-5",
    ),
    "fallbacks default": (
        "claude-haiku-5-5",
        "claude-sonnet-4-6",
        "claude-opus-4-6",
        "claude-opus-4-7",
        "claude-opus-4-8",
        "claude-sonnet-5",
        "claude-sonnet-5-5",
    ),
    "speed standard": _OLD,
    "speed fast": ("claude-opus-4-6",),
    "speed fast with its beta flag": ("claude-opus-4-6",),
}


class Provider:
    """The sandbox, over one connection."""

    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    def takes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Whether a body is answered; anything but an answer and a 400 is an error of the test."""
        self._connection.request("POST", "/v1/messages", body, {**headers, "x-api-key": "any"})
        response = self._connection.getresponse()
        reply = response.read()
        assert response.status in {200, 400}, reply
        return response.status == 200


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running(seed=1) as sandbox:
        connection = HTTPConnection(sandbox.base_url.removeprefix("http://"), timeout=30)
        yield Provider(connection)
        connection.close()


def request(feature: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The body and the headers of a call with one feature."""
    fields = dict(FEATURES[feature])
    headers = {"anthropic-version": "2023-06-01", **fields.pop("headers", {})}
    return {"model": "task/any", "max_tokens": CAP, "messages": [USER], **fields}, headers


def decided(
    model: str,
    *,
    max_tokens: int = 200_000,
    effort: Any = "keep",
    thinking: Thinking = "keep",
) -> Decision:
    return Decision(
        tier="tier",
        model=model,
        max_tokens=max_tokens,
        effort=effort,
        thinking=thinking,
        acts=True,
        reasons=(),
    )


def fitted(body: Mapping[str, Any], headers: Mapping[str, str], decision: Decision) -> bytes | None:
    """The body as it goes out to the decision's model; None where that cannot take it."""
    call, read = read_request(json.dumps(body).encode(), headers)
    match fit(call, model=MODELS[decision.model], decision=decision):
        case Fitted(changes=changes):
            return rewrite(read, changes)
        case Ineligible():
            return None


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("feature", FEATURES)
def test_a_fitted_body_is_taken_and_one_that_is_changed_or_refused_needs_it(
    provider: Provider, feature: str, model: str
) -> None:
    body, headers = request(feature)
    unfitted = {**body, "model": model}

    sent = fitted(body, headers, decided(model))

    assert sent is None or provider.takes(sent, headers)
    if sent is None or json.loads(sent) != unfitted:
        needless = provider.takes(json.dumps(unfitted).encode(), headers)
        assert needless == (model in BY_POLICY.get(feature, ()))


EFFORT_CHOICES: Final[tuple[Effort | str | None, ...]] = ("keep", None, *EFFORTS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("thinking", get_args(Thinking))
@pytest.mark.parametrize(
    "feature", ["nothing", "enabled", "disabled at xhigh", "temperature beside thinking"]
)
def test_no_decision_makes_a_body_that_its_model_refuses(
    provider: Provider, feature: str, thinking: Thinking, model: str
) -> None:
    body, headers = request(feature)

    for effort, cap in product(EFFORT_CHOICES, (512, 1025, CAP)):
        sent = fitted(body, headers, decided(model, max_tokens=cap, effort=effort, thinking=thinking))

        assert sent is not None
        assert provider.takes(sent, headers), (effort, cap, sent)


def either(*choices: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.sampled_from([{}, *choices])


def thinking_of(kind: str) -> dict[str, Any]:
    return {"type": kind, "budget_tokens": 2048} if kind == "enabled" else {"type": kind}


TURNS: Final = (
    [USER],
    [USER, {"role": "assistant", "content": "The Rhine,"}],
    [USER, {"role": "system", "content": "Be short."}, {"role": "user", "content": "Well?"}],
)
COMBINED: Final = st.builds(
    lambda *parts: {name: value for part in parts for name, value in part.items()},
    either(
        *({"thinking": thinking_of(kind)} for kind in ("adaptive", "enabled", "disabled", "between_tools"))
    ),
    st.one_of(st.none(), st.sampled_from(EFFORTS)).map(lambda effort: {"effort": effort} if effort else {}),
    either({"task_budget": {"type": "tokens", "total": 20_000}}),
    either(
        {"temperature": 0.2},
        {"temperature": 1},
        {"top_p": 0.99},
        {"top_k": 40},
        {"temperature": 1, "top_p": 1},
    ),
    either({"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": {"type": "any"}}),
    either({"compaction": {"enabled": True}}),
    either({"fallbacks": "default"}, {"fallbacks": [{"model": "claude-sonnet-5"}]}),
    either({"inference_geo": "us"}, {"inference_geo": "global"}),
    either({"speed": "fast"}, {"speed": "standard"}),
    st.sampled_from(TURNS).map(lambda turns: {"messages": turns}),
)
"""Fields that one table or the other speaks of, in any combination."""
FLAGS: Final = st.sets(
    st.sampled_from(["fast-mode-2026-02-01", "task-budgets-2026-03-13", "later-2027-01-01"])
)


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str]]:
    """A body of several features, and its headers."""
    fields = draw(COMBINED)
    output = {name: fields.pop(name) for name in ("effort", "task_budget") if name in fields}
    headers = {"anthropic-version": draw(st.sampled_from(["2023-06-01", "2026-10-21"]))}
    flags = draw(FLAGS)
    if flags:
        headers["anthropic-beta"] = ",".join(sorted(flags))
    body = {"model": "task/any", "max_tokens": CAP, **fields, **({"output_config": output} if output else {})}
    return body, headers


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    call=asked(),
    model=st.sampled_from(sorted(MODELS)),
    effort=st.sampled_from(EFFORT_CHOICES),
    thinking=st.sampled_from(get_args(Thinking)),
    cap=st.sampled_from([512, 1025, 200_000]),
)
def test_whatever_is_combined_a_fitted_body_is_taken(
    provider: Provider,
    call: tuple[dict[str, Any], dict[str, str]],
    model: str,
    effort: Any,
    thinking: Thinking,
    cap: int,
) -> None:
    body, headers = call

    sent = fitted(body, headers, decided(model, max_tokens=cap, effort=effort, thinking=thinking))

    assert sent is None or provider.takes(sent, headers), sent


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(call=asked(), model=st.sampled_from(sorted(MODELS)))
def test_whatever_is_combined_a_body_that_is_changed_or_barred_would_be_refused(
    provider: Provider, call: tuple[dict[str, Any], dict[str, str]], model: str
) -> None:
    body, headers = call
    unfitted = {**body, "model": model}

    sent = fitted(body, headers, decided(model))

    if (sent is None or json.loads(sent) != unfitted) and not by_policy(body, headers, model):
        assert not provider.takes(json.dumps(unfitted).encode(), headers), unfitted


def by_policy(body: Mapping[str, Any], headers: Mapping[str, str], model: str) -> bool:
    """Whether a body has what is changed for a model although the provider takes it."""
    if body.get("speed") == "standard" and FAST_BETA["anthropic-beta"] in headers.get("anthropic-beta", ""):
        return True  # it says nothing, and goes, flag or no flag
    if isinstance(body.get("fallbacks"), list):
        return True  # whichever models it holds
    named = {
        "fallbacks default": body.get("fallbacks") == "default",
        "speed standard": body.get("speed") == "standard",
        "speed fast": body.get("speed") == "fast",
    }
    return any(is_there and model in BY_POLICY[feature] for feature, is_there in named.items())
