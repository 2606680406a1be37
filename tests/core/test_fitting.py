"""Fitting: what each model needs changed, by feature; and what holds for every call, model and decision."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.call import Call
from tierwise.core.catalog import MODELS
from tierwise.core.changes import REMOVED, Change
from tierwise.core.decision import Decision
from tierwise.core.fitting import Fitted, fit
from tierwise.core.matrix import COLUMNS, Ineligible
from tierwise.core.policy import EFFORTS, Effort, Thinking

CAP = 8192
NEW_VERSION = "2026-10-21"

H45 = ("claude-haiku-4-5", "claude-sonnet-4-5")
O45 = ("claude-opus-4-5",)
H55 = ("claude-haiku-5-5",)
M46 = ("claude-sonnet-4-6", "claude-opus-4-6")
O47 = ("claude-opus-4-7",)
O48 = ("claude-opus-4-8",)
S5 = ("claude-sonnet-5",)
O5 = ("claude-opus-5",)
S55 = ("claude-sonnet-5-5",)
O55 = ("claude-opus-5-5",)
F5 = ("claude-fable-5", "claude-mythos-5")
F51 = ("claude-fable-5-1", "claude-mythos-5-1")
F52 = ("claude-fable-5-2", "claude-mythos-5-2")
OLD = (*H45, *O45)
ALWAYS_THINK = (*O55, *F5, *F51, *F52)
ALL = (*OLD, *H55, *M46, *O47, *O48, *S5, *O5, *S55, *ALWAYS_THINK)

Edits: TypeAlias = Mapping[str, Any]
NOTHING: Edits = {}
INELIGIBLE: Edits = {"ineligible": True}

DISABLED: Edits = {"thinking": {"type": "disabled"}}
BETWEEN: Edits = {"thinking": {"type": "between_tools"}}
NO_THINKING: Edits = {"thinking": REMOVED}
TO_ADAPTIVE: Edits = {"thinking.type": "adaptive", "thinking.budget_tokens": REMOVED}
HIGH: Edits = {"output_config.effort": "high"}
NO_EFFORT: Edits = {"output_config.effort": REMOVED}
NO_TEMPERATURE: Edits = {"temperature": REMOVED}
NO_SPEED: Edits = {"speed": REMOVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What one feature needs on the models that do not take it as it is."""

    feature: str
    sent: Mapping[str, Any]
    changes: tuple[tuple[Iterable[str], Edits], ...]

    def on(self, model: str) -> Edits:
        return next((edits for models, edits in self.changes if model in models), NOTHING)


# Written from the provider's documentation, row by row; a model that a row does not name takes the feature.
EXPECTED = [
    Expected(
        feature="thinking adaptive",
        sent={"thinking": "adaptive"},
        changes=((OLD, {"thinking": {"type": "enabled", "budget_tokens": CAP // 2}}),),
    ),
    Expected(
        feature="thinking enabled",
        sent={"thinking": "enabled", "thinking_budget": 2048},
        changes=(((*H55, *O47, *O48, *S5, *O5, *S55, *ALWAYS_THINK), TO_ADAPTIVE),),
    ),
    Expected(
        feature="thinking enabled with a budget of the cap",
        sent={"thinking": "enabled", "thinking_budget": CAP},
        changes=(
            ((*OLD, *M46), {"thinking.budget_tokens": CAP // 2}),
            (ALL, TO_ADAPTIVE),
        ),
    ),
    Expected(
        feature="thinking disabled",
        sent={"thinking": "disabled"},
        changes=((S55, BETWEEN), (ALWAYS_THINK, NO_THINKING)),
    ),
    Expected(
        feature="thinking disabled at xhigh",
        sent={"thinking": "disabled", "effort": "xhigh"},
        changes=(
            (H45, NO_EFFORT),
            ((*O45, *H55, *M46, *O5), HIGH),
            (S55, {**BETWEEN, **HIGH}),
            (ALWAYS_THINK, NO_THINKING),
        ),
    ),
    Expected(
        feature="thinking between_tools",
        sent={"thinking": "between_tools"},
        changes=(((*OLD, *H55, *M46, *O47, *O48, *S5, *O5), DISABLED), (ALWAYS_THINK, NO_THINKING)),
    ),
    Expected(
        feature="thinking between_tools at max",
        sent={"thinking": "between_tools", "effort": "max"},
        changes=(
            (H45, {**DISABLED, **NO_EFFORT}),
            ((*O45, *H55, *O5), {**DISABLED, **HIGH}),
            ((*M46, *O47, *O48, *S5), DISABLED),
            (S55, HIGH),
            (ALWAYS_THINK, NO_THINKING),
        ),
    ),
    Expected(feature="a thinking type of tomorrow", sent={"thinking": "dreaming"}, changes=()),
    Expected(feature="effort low", sent={"effort": "low"}, changes=((H45, NO_EFFORT),)),
    Expected(
        feature="effort xhigh",
        sent={"effort": "xhigh"},
        changes=((H45, NO_EFFORT), ((*O45, *M46), HIGH)),
    ),
    Expected(feature="effort max", sent={"effort": "max"}, changes=((H45, NO_EFFORT), (O45, HIGH))),
    Expected(feature="an effort of tomorrow", sent={"effort": "ultra"}, changes=((H45, NO_EFFORT),)),
    Expected(
        feature="temperature",
        sent={"sampling": {"temperature": 0.2}},
        changes=(((*H55, *O47, *O48, *S5, *O5, *S55, *ALWAYS_THINK), NO_TEMPERATURE),),
    ),
    Expected(
        feature="temperature at its default",
        sent={"sampling": {"temperature": 1}},
        changes=(((*O47, *O48, *S5, *O5, *ALWAYS_THINK), NO_TEMPERATURE),),
    ),
    Expected(
        feature="top_k",
        sent={"sampling": {"top_k": 40}},
        changes=(((*H55, *O47, *O48, *S5, *O5, *S55, *ALWAYS_THINK), {"top_k": REMOVED}),),
    ),
    Expected(
        feature="temperature and top_p",
        sent={"sampling": {"temperature": 0.2, "top_p": 0.9}},
        changes=(
            (OLD, {"top_p": REMOVED}),
            (M46, {}),
            (ALL, {"temperature": REMOVED, "top_p": REMOVED}),
        ),
    ),
    Expected(
        feature="temperature beside thinking",
        sent={"sampling": {"temperature": 0.2}, "thinking": "adaptive"},
        changes=(
            (OLD, {"thinking": {"type": "enabled", "budget_tokens": CAP // 2}, **NO_TEMPERATURE}),
            (ALL, NO_TEMPERATURE),
        ),
    ),
    Expected(
        feature="top_p beside disabled thinking",
        sent={"sampling": {"top_p": 0.9}, "thinking": "disabled"},
        changes=(
            ((*OLD, *M46), {}),
            (S55, {**BETWEEN, "top_p": REMOVED}),
            (ALWAYS_THINK, {**NO_THINKING, "top_p": REMOVED}),
            (ALL, {"top_p": REMOVED}),
        ),
    ),
    Expected(
        feature="temperature at its default beside disabled thinking",
        sent={"sampling": {"temperature": 1.0}, "thinking": "disabled"},
        changes=(
            ((*OLD, *H55, *M46), {}),
            (S55, BETWEEN),
            (ALWAYS_THINK, {**NO_THINKING, **NO_TEMPERATURE}),
            (ALL, NO_TEMPERATURE),
        ),
    ),
    Expected(
        feature="temperature and top_p at their defaults beside thinking",
        sent={"sampling": {"temperature": 1, "top_p": 1}, "thinking": "adaptive"},
        changes=(
            (OLD, {"thinking": {"type": "enabled", "budget_tokens": CAP // 2}, "top_p": REMOVED}),
            ((*M46, *H55, *S55), {}),
            (ALL, {"temperature": REMOVED, "top_p": REMOVED}),
        ),
    ),
    Expected(
        feature="temperature on API version 2026-10-21",
        sent={"sampling": {"temperature": 1}, "api_version": NEW_VERSION},
        changes=((ALL, NO_TEMPERATURE),),
    ),
    Expected(feature="prefill", sent={"prefill": True}, changes=((OLD, {}), (ALL, INELIGIBLE))),
    Expected(
        feature="prefill beside thinking",
        sent={"prefill": True, "thinking": "enabled", "thinking_budget": 2048},
        changes=((OLD, NO_THINKING), (ALL, INELIGIBLE)),
    ),
    Expected(
        feature="tool_choice any",
        sent={"tool_choice": "any"},
        changes=(((*S55, *O55, *F51, *F52), {"tool_choice.type": "auto"}),),
    ),
    Expected(
        feature="tool_choice tool",
        sent={"tool_choice": "tool"},
        changes=(((*S55, *O55, *F51, *F52), {"tool_choice.type": "auto", "tool_choice.name": REMOVED}),),
    ),
    Expected(feature="tool_choice none", sent={"tool_choice": "none"}, changes=()),
    Expected(
        feature="tool_choice any beside enabled thinking",
        sent={"tool_choice": "any", "thinking": "enabled", "thinking_budget": 2048},
        changes=(
            (OLD, NO_THINKING),
            ((*S55, *O55, *F51, *F52), {**TO_ADAPTIVE, "tool_choice.type": "auto"}),
            (ALL, TO_ADAPTIVE),
        ),
    ),
    Expected(
        feature="tool_choice tool beside enabled thinking",
        sent={"tool_choice": "tool", "thinking": "enabled", "thinking_budget": 2048},
        changes=(
            (OLD, NO_THINKING),
            (
                (*S55, *O55, *F51, *F52),
                {**TO_ADAPTIVE, "tool_choice.type": "auto", "tool_choice.name": REMOVED},
            ),
            (ALL, TO_ADAPTIVE),
        ),
    ),
    Expected(
        feature="tool_choice any beside adaptive thinking",
        sent={"tool_choice": "any", "thinking": "adaptive"},
        changes=((OLD, NO_THINKING), ((*S55, *O55, *F51, *F52), {"tool_choice.type": "auto"})),
    ),
    Expected(
        feature="system turns",
        sent={"system_turns": True},
        changes=(((*OLD, *M46, *O47, *S5), INELIGIBLE),),
    ),
    Expected(
        feature="task budget",
        sent={"task_budget": True},
        changes=(((*OLD, *M46, *S5), {"output_config.task_budget": REMOVED}),),
    ),
    Expected(
        feature="compaction",
        sent={"compaction": True},
        changes=((OLD, {"compaction": REMOVED, "context_management": REMOVED}),),
    ),
    Expected(
        feature="fallbacks",
        sent={"fallbacks": True},
        changes=(((*OLD, *H55, *M46, *O47, *O48, *S5, *S55), {"fallbacks": REMOVED}),),
    ),
    Expected(
        feature="computer_20250124",
        sent={"tool_types": ("bash_20250124", "computer_20250124")},
        changes=((H45, {}), (ALL, INELIGIBLE)),
    ),
    Expected(
        feature="computer_20251124",
        sent={"tool_types": ("computer_20251124",)},
        changes=(((*H45, *H55, *S55, *O55, *F52), INELIGIBLE),),
    ),
    Expected(
        feature="computer_toolset_20260801",
        sent={"tool_types": ("computer_toolset_20260801",)},
        changes=(((*OLD, *M46, *O47, *O48), INELIGIBLE),),
    ),
    Expected(feature="a tool of tomorrow", sent={"tool_types": ("computer_20300101",)}, changes=()),
    Expected(
        feature="inference_geo global",
        sent={"inference_geo": "global"},
        changes=((OLD, {"inference_geo": REMOVED}),),
    ),
    Expected(feature="inference_geo us", sent={"inference_geo": "us"}, changes=((OLD, INELIGIBLE),)),
    Expected(
        feature="speed standard",
        sent={"speed": "standard"},
        changes=(((*OLD, *O48, *O5), NO_SPEED),),
    ),
    Expected(
        feature="speed fast",
        sent={"speed": "fast"},
        changes=(((*OLD, *H55, *M46, *O47, *O48, *S5, *O5, *S55, *F5, *F51), NO_SPEED),),
    ),
    Expected(
        feature="speed fast with its beta flag",
        sent={"speed": "fast", "betas": ("fast-mode-2026-02-01",)},
        changes=(((*OLD, *H55, *M46, *O47, *S5, *S55, *F5, *F51), NO_SPEED),),
    ),
    Expected(feature="a speed of tomorrow", sent={"speed": "ludicrous"}, changes=()),
    Expected(feature="a thread", sent={"thread": True}, changes=((ALL, INELIGIBLE),)),
    Expected(
        feature="a body of seven megabytes",
        sent={"body_bytes": 7_000_000},
        changes=((OLD, INELIGIBLE),),
    ),
    Expected(
        feature="a cap of 128,000",
        sent={"max_tokens": 128_000},
        changes=((OLD, {"max_tokens": 64_000}),),
    ),
]


def decision(
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


def fitted(call: Call, wanted: Decision) -> tuple[Change, ...]:
    match fit(call, model=MODELS[wanted.model], decision=wanted):
        case Fitted(changes=changes):
            return changes
        case Ineligible() as ineligible:
            raise AssertionError(ineligible)


def edits(changes: Iterable[Change]) -> dict[str, Any]:
    """The changes but for the model's name, as path and value after."""
    return {".".join(change.path): change.after for change in changes if change.path != ("model",)}


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.feature)
def test_a_feature_is_taken_changed_or_refused_as_the_model_needs(expected: Expected, model: str) -> None:
    call = replace(Call(requested_model="task/any", max_tokens=CAP), **expected.sent)

    match fit(call, model=MODELS[model], decision=decision(model)):
        case Fitted(changes=changes):
            assert edits(changes) == expected.on(model)
        case Ineligible(why=why):
            assert expected.on(model) == INELIGIBLE
            assert why.endswith(".")


def test_the_expectations_name_every_model_of_the_catalogue() -> None:
    assert set(ALL) == set(MODELS)


def test_a_call_decided_as_it_was_asked_is_not_touched() -> None:
    call = Call(
        requested_model="claude-opus-5-5",
        max_tokens=50,
        prefill=True,
        sampling={"temperature": 0},
        effort="max",
    )

    assert fitted(call, decision("claude-opus-5-5", max_tokens=50)) == ()
    assert fitted(call, decision("claude-opus-5-5", max_tokens=50, effort="max")) == ()


def test_a_thread_stays_with_the_model_that_it_names() -> None:
    call = Call(requested_model="claude-opus-5-5", max_tokens=CAP, thread=True)

    assert edits(fitted(call, decision("claude-opus-5-5", max_tokens=512))) == {"max_tokens": 512}


def test_an_alias_is_replaced_by_the_id_that_the_decision_names() -> None:
    call = Call(requested_model="claude-haiku-4-5-20251001", max_tokens=CAP)

    (change,) = fitted(call, decision("claude-haiku-4-5"))

    assert (change.path, change.before, change.after) == (
        ("model",),
        call.requested_model,
        "claude-haiku-4-5",
    )


def test_changes_come_in_the_order_model_cap_thinking_effort_and_the_rest() -> None:
    call = Call(
        requested_model="claude-opus-5-5",
        max_tokens=128_000,
        thinking="adaptive",
        effort="medium",
        sampling={"temperature": 0},
        task_budget=True,
        compaction=True,
        fallbacks=True,
        speed="fast",
    )

    changes = fitted(call, decision("claude-haiku-4-5", max_tokens=CAP, effort=None))

    assert [change.path[0] for change in changes] == [
        "model",
        "max_tokens",
        "thinking",
        "output_config",
        "temperature",
        "output_config",
        "compaction",
        "context_management",
        "fallbacks",
        "speed",
    ]
    assert [change.rule for change in changes[:5]] == [
        "decision.model",
        "decision.max_tokens",
        "thinking.adaptive",
        "decision.effort",
        "sampling.thinking",
    ]


def test_a_change_says_what_was_sent_where_the_call_knows_it() -> None:
    call = Call(
        requested_model="task/any",
        max_tokens=CAP,
        thinking="enabled",
        thinking_budget=4096,
        effort="max",
        task_budget=True,
    )

    changes = fitted(call, decision("claude-sonnet-5", max_tokens=512, effort="low", thinking="off"))

    assert {change.path: change.before for change in changes} == {
        ("model",): "task/any",
        ("max_tokens",): CAP,
        ("thinking",): {"type": "enabled", "budget_tokens": 4096},
        ("output_config", "effort"): "max",
        ("output_config", "task_budget"): None,
    }


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        # By default off: the field goes, or stays away.
        ("claude-haiku-4-5", None, {}),
        ("claude-opus-4-8", "adaptive", NO_THINKING),
        ("claude-opus-4-8", "disabled", {}),
        # By default on: said in the model's own word.
        ("claude-haiku-5-5", None, DISABLED),
        ("claude-haiku-5-5", "adaptive", DISABLED),
        ("claude-sonnet-5-5", None, BETWEEN),
        ("claude-sonnet-5-5", "between_tools", {}),
        # Always on: nothing that the model refuses is left.
        ("claude-opus-5-5", None, {}),
        ("claude-opus-5-5", "adaptive", {}),
        ("claude-opus-5-5", "disabled", NO_THINKING),
    ],
)
def test_thinking_is_turned_off_in_the_models_own_way(model: str, sent: str | None, expected: Edits) -> None:
    call = Call(requested_model="task/any", max_tokens=CAP, thinking=sent)

    assert edits(fitted(call, decision(model, thinking="off"))) == expected


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        ("claude-opus-4-6", None, {"thinking": {"type": "adaptive"}}),
        ("claude-haiku-5-5", None, {}),
        ("claude-haiku-5-5", "disabled", {"thinking": {"type": "adaptive"}}),
        ("claude-opus-4-6", "enabled", TO_ADAPTIVE),
        ("claude-haiku-4-5", None, {"thinking": {"type": "enabled", "budget_tokens": CAP // 2}}),
        ("claude-haiku-4-5", "enabled", {}),
    ],
)
def test_thinking_is_turned_on_in_the_models_own_way(model: str, sent: str | None, expected: Edits) -> None:
    budget = 2048 if sent == "enabled" else None
    call = Call(requested_model="task/any", max_tokens=CAP, thinking=sent, thinking_budget=budget)

    assert edits(fitted(call, decision(model, thinking="adaptive"))) == expected


def test_thinking_off_lowers_an_effort_that_does_not_go_with_it() -> None:
    call = Call(requested_model="task/any", max_tokens=CAP)

    changes = fitted(call, decision("claude-haiku-5-5", effort="max", thinking="off"))

    assert edits(changes) == {**DISABLED, **HIGH}
    assert changes[-1].rule == "thinking.disabled"


def test_a_budget_stays_below_a_lowered_cap() -> None:
    call = Call(requested_model="claude-haiku-4-5", max_tokens=4096, thinking="enabled", thinking_budget=4095)

    changes = fitted(call, decision("claude-haiku-4-5", max_tokens=2048))

    assert edits(changes) == {"max_tokens": 2048, "thinking.budget_tokens": 1024}


@pytest.mark.parametrize("cap", [0, 512, 1024])
def test_a_cap_without_room_for_the_smallest_budget_turns_thinking_off(cap: int) -> None:
    call = Call(requested_model="claude-haiku-4-5", max_tokens=4096, thinking="enabled", thinking_budget=4095)

    changes = fitted(call, decision("claude-haiku-4-5", max_tokens=cap))

    assert edits(changes) == {"max_tokens": cap, **NO_THINKING}
    assert changes[-1].rule == "thinking.budget"


def test_enabled_thinking_without_a_budget_is_left_to_the_provider() -> None:
    call = Call(requested_model="task/any", max_tokens=CAP, thinking="enabled")

    assert edits(fitted(call, decision("claude-haiku-4-5"))) == {}


@pytest.mark.parametrize(
    ("decided", "sent", "expected"),
    [
        ("keep", "low", {}),
        (None, "low", NO_EFFORT),
        (None, None, {}),
        ("high", "low", HIGH),
        ("high", None, HIGH),
        ("high", "high", {}),
    ],
)
def test_the_decided_effort_replaces_the_callers(
    decided: Effort | None, sent: str | None, expected: Edits
) -> None:
    call = Call(requested_model="task/any", max_tokens=CAP, effort=sent)

    assert edits(fitted(call, decision("claude-opus-5-5", effort=decided))) == expected


def test_a_cap_is_never_raised() -> None:
    call = Call(requested_model="task/any", max_tokens=100)

    assert edits(fitted(call, decision("claude-opus-5-5", max_tokens=4096))) == {}


def test_a_later_api_version_takes_no_sampling_either() -> None:
    call = Call(
        requested_model="task/any", max_tokens=CAP, sampling={"temperature": 1}, api_version="2027-01-31"
    )

    (change,) = fitted(call, decision("claude-sonnet-4-6"))[1:]

    assert change.rule == "sampling.2026-10-21"


def test_an_unchanged_part_of_the_thinking_object_is_left_in_place() -> None:
    call = Call(requested_model="task/any", max_tokens=CAP, thinking="enabled", thinking_budget=2048)

    paths = [change.path for change in fitted(call, decision("claude-opus-5-5"))]

    assert ("thinking",) not in paths
    assert ("thinking", "type") in paths


caps = st.sampled_from([0, 1, 512, 1024, 1025, 2048, 4096, 64_000, 64_001, 128_000])
calls = st.builds(
    Call,
    requested_model=st.sampled_from(["task/any", *MODELS]),
    max_tokens=caps,
    body_bytes=st.sampled_from([0, 7_000_000]),
    api_version=st.sampled_from([None, "2023-06-01", NEW_VERSION]),
    betas=st.sampled_from([(), ("fast-mode-2026-02-01",)]),
    thinking=st.sampled_from([None, "adaptive", "enabled", "disabled", "between_tools", "dreaming"]),
    thinking_budget=st.sampled_from([None, 1024, 4095, 127_999]),
    effort=st.sampled_from([None, *EFFORTS, "ultra"]),
    task_budget=st.booleans(),
    sampling=st.dictionaries(
        st.sampled_from(["temperature", "top_p", "top_k"]), st.sampled_from([0, 0.5, 1, 40])
    ),
    prefill=st.booleans(),
    system_turns=st.booleans(),
    tool_choice=st.sampled_from([None, "auto", "any", "tool", "none"]),
    tool_types=st.sampled_from([(), ("computer_20250124",), ("computer_20251124",)]),
    speed=st.sampled_from([None, "standard", "fast"]),
    inference_geo=st.sampled_from([None, "global", "us"]),
    compaction=st.booleans(),
    fallbacks=st.booleans(),
)
decisions = st.builds(
    decision,
    st.sampled_from(list(MODELS)),
    max_tokens=caps,
    effort=st.sampled_from(["keep", None, *EFFORTS]),
    thinking=st.sampled_from(["off", "adaptive", "keep"]),
)


def changed(call: Call, changes: Iterable[Change]) -> Call:
    """The call that the changed body would be read as."""
    for change in changes:
        call = _changed(call, change)
    return call


def _changed(call: Call, change: Change) -> Call:
    after = None if change.after is REMOVED else change.after
    match change.path:
        case ("model",):
            return replace(call, requested_model=after)
        case ("thinking",):
            value: dict[str, Any] = after or {}
            return replace(call, thinking=value.get("type"), thinking_budget=value.get("budget_tokens"))
        case ("thinking", "type"):
            return replace(call, thinking=after)
        case ("thinking", "budget_tokens"):
            return replace(call, thinking_budget=after)
        case ("output_config", "effort"):
            return replace(call, effort=after)
        case ("output_config", "task_budget"):
            return replace(call, task_budget=False)
        case ("temperature" | "top_p" | "top_k" as name,):
            return replace(call, sampling={k: v for k, v in call.sampling.items() if k != name})
        case ("tool_choice", "type"):
            return replace(call, tool_choice=after)
        case ("tool_choice", "name"):
            return call
        case ("compaction" | "context_management",):
            return replace(call, compaction=False)
        case ("fallbacks",):
            return replace(call, fallbacks=False)
        case (name,):
            return replace(call, **{name: after})
        case path:
            raise AssertionError(path)


@settings(max_examples=300, deadline=None)
@given(call=calls, wanted=decisions)
def test_a_fitted_call_needs_no_further_change(call: Call, wanted: Decision) -> None:
    match fit(call, model=MODELS[wanted.model], decision=wanted):
        case Fitted(changes=changes):
            again = changed(call, changes)
            assert fit(again, model=MODELS[wanted.model], decision=wanted) == Fitted(changes=())
        case Ineligible():
            pass


@settings(max_examples=300, deadline=None)
@given(call=calls, wanted=decisions)
def test_what_was_said_and_the_tools_are_never_edited(call: Call, wanted: Decision) -> None:
    match fit(call, model=MODELS[wanted.model], decision=wanted):
        case Fitted(changes=changes):
            assert not {change.path[0] for change in changes} & {"system", "tools", "messages"}
        case Ineligible():
            pass


@settings(max_examples=300, deadline=None)
@given(call=calls, wanted=decisions)
def test_the_cap_is_at_most_the_callers_and_the_models(call: Call, wanted: Decision) -> None:
    match fit(call, model=MODELS[wanted.model], decision=wanted):
        case Fitted(changes=changes) if changes:
            cap = changed(call, changes).max_tokens
            assert cap <= min(call.max_tokens, wanted.max_tokens, MODELS[wanted.model].max_output_tokens)
        case _:
            pass


@settings(max_examples=300, deadline=None)
@given(call=calls, wanted=decisions)
def test_every_change_changes_something_and_says_why(call: Call, wanted: Decision) -> None:
    match fit(call, model=MODELS[wanted.model], decision=wanted):
        case Fitted(changes=changes):
            assert all(change.before != change.after for change in changes)
            assert all(change.why.endswith(".") and change.rule for change in changes)
            assert len({change.path for change in changes}) == len(changes)
        case Ineligible(feature=feature, why=why):
            assert feature
            assert why.endswith(".")


TOLD = {"output_config.task_budget": {"type": "tokens", "total": 50_000}}


def with_task_budget(model: str) -> Decision:
    return replace(decision(model), task_budget=50_000)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_takes_a_task_budget_is_told_the_contracts(model: str) -> None:
    taken = COLUMNS[model].cells["task_budget"] == "ok"
    call = Call(requested_model=model, max_tokens=CAP)

    assert edits(fitted(call, with_task_budget(model))) == (TOLD if taken else {})


def test_a_task_budget_of_the_callers_own_stays() -> None:
    call = Call(requested_model="claude-opus-5-5", max_tokens=CAP, task_budget=True)

    assert fitted(call, with_task_budget("claude-opus-5-5")) == ()


def test_a_call_decided_as_it_was_asked_is_not_touched_where_its_model_takes_no_task_budget() -> None:
    call = Call(
        requested_model="claude-haiku-4-5", max_tokens=CAP, speed="fast", sampling={"temperature": 0.3}
    )

    assert fitted(call, with_task_budget("claude-haiku-4-5")) == ()
