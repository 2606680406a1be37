from collections import Counter
from importlib.resources import files
from itertools import groupby
from pathlib import Path

import pytest

from tierwise.sandbox.fleet import (
    FleetError,
    answer,
    draw_lengths,
    is_right,
    load,
    plan,
    request_of,
    right_answer,
)
from tierwise.sandbox.models import find
from tierwise.sandbox.server import Running
from tierwise.sandbox.tokens import text_tokens

FLEET = load()
CLASS_A = {"synthesis", "architecture-coding", "edge-case", "evaluation"}
STARTER_FAST = {
    "summarization",
    "extraction",
    "classification",
    "formatting",
    "template-filling",
    "reranking",
}


def names(*, tagged: str, needs: str) -> set[str]:
    return {
        name
        for name, task_type in FLEET.types.items()
        if (task_type.tagged_tier, task_type.needs) == (tagged, needs)
    }


@pytest.mark.parametrize(
    ("tagged", "needs", "types", "share"),
    [
        ("frontier", "frontier", 4, 0.18),
        ("frontier", "fast", 8, 0.42),
        ("fast", "fast", 7, 0.38),
        ("fast", "frontier", 1, 0.02),
    ],
)
def test_the_classes_of_the_fleet_have_their_shares(
    tagged: str, needs: str, types: int, share: float
) -> None:
    members = names(tagged=tagged, needs=needs)

    assert len(members) == types
    assert sum(FLEET.types[name].share for name in members) == pytest.approx(share)


def test_the_starter_types_are_where_a_starter_policy_puts_them() -> None:
    assert names(tagged="frontier", needs="frontier") == CLASS_A
    assert names(tagged="fast", needs="fast") >= STARTER_FAST


def test_a_type_that_needs_the_frontier_loses_more_than_three_points_on_the_fast_tier() -> None:
    lost = {name: row.success_frontier - row.success_fast for name, row in FLEET.types.items()}

    assert {name for name, points in lost.items() if points > 0.03} == CLASS_A | {"moderation"}


def test_a_plan_has_its_types_in_their_shares_and_mixed() -> None:
    tasks = plan(FLEET, 10_000, seed=3)

    counts = Counter(task.type for task in tasks)
    assert counts == {name: round(row.share * 10_000) for name, row in FLEET.types.items()}
    in_the_first_tenth = Counter(task.type for task in tasks[:1_000])
    assert all(abs(in_the_first_tenth[name] - count / 10) <= 2 for name, count in counts.items())
    assert max(len(list(run)) for _, run in groupby(task.type for task in tasks)) < 10


def test_a_small_plan_has_as_many_tasks_as_asked() -> None:
    assert [len(plan(FLEET, tasks, seed=0)) for tasks in (0, 1, 7, 33)] == [0, 1, 7, 33]


def test_a_plan_has_20_agents_1_3_calls_a_task_and_names_of_its_own() -> None:
    tasks = plan(FLEET, 10_000, seed=3)

    assert len({task.agent for task in tasks}) == 20
    assert 1.2 < sum(len(task.calls) for task in tasks) / 10_000 < 1.4
    assert max(len(task.calls) for task in tasks) == 6
    assert len({task.task for task in tasks}) == 10_000
    assert all(task.task.startswith(f"{task.run}/") for task in tasks)


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert plan(FLEET, 50, seed=3) == plan(FLEET, 50, seed=3)
    assert plan(FLEET, 50, seed=3) != plan(FLEET, 50, seed=4)


def test_full_prompts_are_as_long_as_the_short_ones_stand_for() -> None:
    opus = find("claude-opus-5-5")
    assert opus is not None

    for short, full in zip(plan(FLEET, 40, seed=3), plan(FLEET, 40, seed=3, full_prompts=True), strict=True):
        stands_for = int(short.calls[0].prompt.split("prompt_tokens=")[1].split("]")[0])
        assert "prompt_tokens" not in full.calls[0].prompt
        assert abs(text_tokens(len(full.calls[0].prompt), opus) - stands_for) <= 1


def test_the_tiers_differ_as_often_as_their_successes_do_and_sometimes_both_ways() -> None:
    tasks = [f"t{place}" for place in range(4_000)]
    right = {
        tier: [
            is_right(f"answer: {answer(FLEET, 'code-review', task, tier, 5)}\n", 5, "code-review", task)
            for task in tasks
        ]
        for tier in ("frontier", "fast")
    }

    row = FLEET.types["code-review"]
    assert abs(sum(right["frontier"]) / 4_000 - row.success_frontier) < 0.02
    assert abs(sum(right["fast"]) / 4_000 - row.success_fast) < 0.02
    pairs = Counter(zip(right["frontier"], right["fast"], strict=True))
    assert 0.04 < (pairs[True, False] + pairs[False, True]) / 4_000 < 0.12
    assert pairs[False, True] > 0


def test_a_wrong_answer_is_another_one_and_no_answer_is_not_right() -> None:
    right = right_answer(1, "triage", "t1")

    assert is_right(f"answer: {right}\nmore", 1, "triage", "t1")
    assert not is_right(f"answer: {right_answer(1, 'triage', 't2')}", 1, "triage", "t1")
    assert not is_right("", 1, "triage", "t1")
    assert not is_right(f"The answer: {right}", 1, "triage", "t1")


def test_a_right_answer_can_be_told_from_a_wrong_one_without_the_task() -> None:
    for number in range(200):
        task = f"t{number}"
        text = f"answer: {answer(FLEET, 'moderation', task, 'fast', 5)}\n"
        assert is_right(text, 5, "moderation", task) == (text[len("answer: ")] in "01234567")


def test_runaways_are_as_frequent_and_long_as_the_file_says() -> None:
    row = FLEET.types["report-drafting"]
    drawn = [draw_lengths(row, "report-drafting", f"t{place}", 0, 5) for place in range(6_000)]
    runaways = [lengths.output for lengths in drawn if lengths.runaway]

    assert 0.009 < len(runaways) / 6_000 < 0.022
    assert min(runaways) > 8_000


def test_a_planned_task_is_played_to_its_end(sandbox: Running) -> None:
    task = next(
        task for task in plan(FLEET, 2_000, seed=1) if task.type == "sql-generation" and len(task.calls) == 3
    )
    conversation: list[dict[str, object]] = []
    endings: list[str] = []
    for call in task.calls:
        request = request_of(call, conversation)
        reply = sandbox.messages(request).json()
        conversation = [*request["messages"], {"role": "assistant", "content": reply["content"]}]
        endings.append(reply["stop_reason"])

    usages = [call["charges"][0] for call in reversed(sandbox.calls())]
    assert endings == ["tool_use", "tool_use", "end_turn"]
    assert usages[0]["cache_write_5m_tokens"] > 1_900
    assert (
        usages[1]["cache_read_tokens"] == usages[2]["cache_read_tokens"] == usages[0]["cache_write_5m_tokens"]
    )
    assert usages[0]["input_tokens"] < usages[1]["input_tokens"] < usages[2]["input_tokens"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("share = 0.03", "share = 0.04"), "the shares of the types add up to 1.0"),
        (("share = 0.03", 'share = "much"'), "Expected `float`, got `str` - at `$.types[...].share`"),
        (("share = 0.03", "portion = 0.03"), "Object"),
        (("agreement = 0.6", "agreement = 6"), "agreement is a probability"),
        (("tasks_per_run = 50", "tasks_per_run = 0"), "tasks_per_run is at least 1"),
        (("success_fast = 0.72", "success_fast = 72"), "types.synthesis.success_fast is between 0 and 1"),
        (("output_tokens = 1400", "output_tokens = 0"), "types.synthesis.output_tokens is at least 1"),
        (
            ("calls = [0.3, 0.25, 0.2, 0.12, 0.08, 0.05]", "calls = []"),
            "types.architecture-coding.calls holds weights",
        ),
        (('agents = ["specialist"]', "agents = []"), "types.edge-case.agents names at least one agent"),
        (("agreement = 0.6", "agreement ="), "Invalid value"),
    ],
)
def test_a_wrong_fleet_file_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    text = files("tierwise.sandbox").joinpath("fleet.toml").read_text()
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace(*change, 1))

    with pytest.raises(FleetError, match=r"wrong\.toml: ") as raised:
        load(wrong)

    assert problem in raised.value.problem
