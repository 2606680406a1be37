"""The policy that `tierwise init` writes: two tiers, ten task types, and why they are where they are."""

from typing import Final, Literal, TypeAlias

Pair: TypeAlias = Literal["5.5", "4.6"]
"""Which two models the starter names: Opus 5.5 and Haiku 5.5, or Opus 4.6 and Haiku 4.5."""

PAIRS: Final[tuple[Pair, ...]] = ("5.5", "4.6")

SCHEMA_FILE: Final = "tierwise.schema.json"
"""The name under which `tierwise init --schema` puts the schema beside the policy."""


def starter_policy(pair: Pair = "5.5", *, schema: bool = False) -> str:
    """Return the text of the starter policy.

    Args:
        pair: Which two models it names.
        schema: Whether its first line tells editors to take the schema that lies beside it.
    """
    first = f"#:schema ./{SCHEMA_FILE}\n" if schema else ""
    return first + _STARTER.replace("@TIERS@", _TIERS[pair])


_TIERS: Final[dict[Pair, str]] = {
    "5.5": """\
[tiers.frontier]
model = "claude-opus-5-5"
effort = "medium"         # part of the tier: the strong model at low effort would be a tier too

[tiers.fast]
model = "claude-haiku-5-5"
thinking = "off"          # thinking counts towards max_tokens, and small caps leave no room for it""",
    "4.6": """\
[tiers.frontier]
model = "claude-opus-4-6"
effort = "medium"         # part of the tier: the strong model at low effort would be a tier too

[tiers.fast]
model = "claude-haiku-4-5-20251001"     # takes no effort
thinking = "off"          # thinking counts towards max_tokens, and small caps leave no room for it""",
}

_STARTER: Final = """\
# Which model handles which kind of task, and how long its reply may be.
#
# A call says what kind of task it is by its model, "task/extraction", or by a header,
# x-tierwise-task-type: extraction. A call that says nothing passes as it is.
#
# `tierwise check` reads this file and says what is wrong with it, line by line.

mode = "route"            # "observe" changes no call and records what would have been decided

# --- Tiers, strongest first. To swap a model, change its one line here: no task type names a model.

@TIERS@

# --- The four kinds of task that need the frontier: start here, and let the report question it.

[task_types.synthesis]
tier = "frontier"
max_tokens = 8192
description = "One answer out of long documents that contradict each other."

[task_types.architecture-coding]
tier = "frontier"
max_tokens = 16384
description = "Code whose right form depends on the rest of the system."

[task_types.edge-case]
tier = "frontier"
max_tokens = 4096
description = "Cases that no rule foresees and few examples show."

[task_types.evaluation]
tier = "frontier"
max_tokens = 4096
description = "Judging what another agent wrote."

# --- Everything else. max_tokens is a ceiling against runaway replies, not a target: the model
#     never sees it, and a reply that reaches it is cut. Leave room above the longest good reply.

[task_types.summarization]
tier = "fast"
max_tokens = 2048
description = "A shorter text that says the same."

[task_types.extraction]
tier = "fast"
max_tokens = 2048
description = "Named fields out of a text."

[task_types.classification]
tier = "fast"
max_tokens = 256
description = "One label of a known list."

[task_types.formatting]
tier = "fast"
max_tokens = 4096
description = "The same content in another form."

[task_types.template-filling]
tier = "fast"
max_tokens = 2048
description = "Known values into a given text."

[task_types.reranking]
tier = "fast"
max_tokens = 1024
description = "Candidates in order of relevance."

# --- A call that declares a type which is not in this file.

[task_types.default]
tier = "fast"
max_tokens = 4096
description = "Any declared type without a contract of its own."

# --- For calls that cannot say their type: the first rule whose conditions all hold names it.
#
# [[match]]
# task_type = "extraction"
# headers.x-team = "billing*"

# --- What each run may cost, at the worst.
#
# [[budgets]]
# scope = "run"
# limit_usd = "25.00"
"""
