"""Types that should be several, in words, for machines, and as the policy would have them."""

import json
from collections.abc import Iterator
from typing import Any

from tierwise.audit.splitting import OTHERS, Group, Split
from tierwise.audit.standings import Standing
from tierwise.cli.console import harmless
from tierwise.config.kinds import plain_name
from tierwise.core.tasks import AGENT_HEADERS


def split_told(standing: Standing, split: Split) -> str:
    """The split and its evidence, in a sentence."""
    groups = "; ".join(_told(group) for group in split.groups)
    sure = "" if split.decisive else " Where each of them belongs is not certain yet."
    return harmless(
        f"{standing.line.task_type} should be several types, by {split.feature}, which is proven with "
        f"ln E = {split.log_e:.1f} of {split.needed:.1f}: {groups}.{sure}"
    )


def split_json(split: Split | None) -> dict[str, Any] | None:
    """The split, for machines."""
    if split is None:
        return None
    return {
        "feature": split.feature,
        "groups": [
            {
                "name": group.name,
                "worse": group.counts.worse,
                "same": group.counts.same,
                "better": group.counts.better,
                "low": group.interval.low,
                "high": group.interval.high,
            }
            for group in split.groups
        ],
        "log_e": split.log_e,
        "needed": split.needed,
        "searched": split.searched,
        "decisive": split.decisive,
    }


def split_proposed(standing: Standing, split: Split) -> Iterator[str]:
    """What to write so that a type becomes several, as lines of comments."""
    task_type = standing.line.task_type
    yield f"# {split_told(standing, split)}"
    ends = zip((split.groups[0].name, split.groups[-1].name), standing.line.tiers, strict=True)
    agent, tier = next(((name, tier) for name, tier in ends if _is_plain(name)), (None, None))
    if split.feature != "agent" or agent is None:
        yield "# No rule of the policy tells these apart: have the callers name a type for each."
        return
    own = plain_name(f"{task_type}-{agent}")
    yield f"# Have {agent} name {own}; of calls that name no type themselves, this rule does, before all others:"
    yield "# [[match]]"
    yield f'# task_type = "{own}"'
    yield f"# headers.{AGENT_HEADERS[0]} = {json.dumps(agent)}"
    yield f"# [task_types.{own}]"
    yield f'# tier = "{tier}"'
    yield f"# and all else as {task_type} has it."


def _told(group: Group) -> str:
    low, high = group.interval.low * 100, group.interval.high * 100
    return f"{group.name} {low:+.0f} to {high:+.0f} points ({group.counts.pairs:,} pairs)"


def _is_plain(agent: str) -> bool:
    """Whether a rule can name an agent: it is one, and no pattern of several."""
    return agent not in {OTHERS, "(none)"} and not set(agent) & set("*?[") and agent.isprintable()
