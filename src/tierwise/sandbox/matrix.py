"""What each model accepts: one row a feature, one column a model.

The columns are Haiku, Sonnet and Opus 4.5; Sonnet and Opus 4.6; Opus 4.7 and 4.8; Sonnet and Opus 5; Haiku,
Sonnet and Opus 5.5; Fable (and Mythos) 5, 5.1 and 5.2. The cells:

- `ok` accepts, `no` answers 400.
- thinking_omitted: whether the model thinks when the request does not say.
- thinking_disabled, thinking_between: `high` accepts it up to effort high.
- effort: the levels, `l`ow `m`edium `h`igh `x`high ma`X`; effort_default is the level when none is asked.
- sampling (API version 2023-06-01): `one` takes temperature or top_p but not both; `deflt` only defaults.
- forced_tools (tool_choice any or tool): `plain` refuses it beside thinking of type enabled.
- fallbacks: `named` takes a list of models, `dflt` only the word "default", `son5` only claude-sonnet-5.
- computer: the computer tools, `0124`, `1124` or the tool`set`, by the date in their type.
- speed (fast): `beta` needs the beta header, `std` runs and bills at standard speed.
- binding: whether replayed thinking must belong to the conversation it was made in.

Where the provider documents a family by its nearest relative only (4.5 Sonnet and Opus, and computer tools
before Fable 5.2), the cell is that relative's.
"""

from collections.abc import Mapping
from typing import Final

_TABLE: Final = """
feature            H45   S45   O45   S46   O46   O47   O48   S5    O5    H55   S55   O55   F5    F51   F52
thinking_omitted   off   off   off   off   off   off   off   on    on    on    on    on    on    on    on
thinking_adaptive  no    no    no    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
thinking_enabled   ok    ok    ok    ok    ok    no    no    no    no    no    no    no    no    no    no
thinking_disabled  ok    ok    ok    ok    ok    ok    ok    ok    high  high  no    no    no    no    no
thinking_between   no    no    no    no    no    no    no    no    no    no    high  no    no    no    no
effort             no    no    lmh   lmhX  lmhX  lmhxX lmhxX lmhxX lmhxX lmhxX lmhxX lmhxX lmhxX lmhxX lmhxX
effort_default     high  high  high  high  high  high  high  high  high  med   high  med   high  high  high
sampling           one   one   one   ok    ok    no    no    no    no    deflt deflt no    no    no    no
prefill            ok    ok    ok    no    no    no    no    no    no    no    no    no    no    no    no
forced_tools       plain plain plain plain plain ok    ok    ok    ok    ok    no    no    ok    no    no
system_role        no    no    no    no    no    no    ok    no    ok    ok    ok    ok    ok    ok    ok
task_budget        no    no    no    no    no    ok    ok    no    ok    ok    ok    ok    ok    ok    ok
compaction         no    no    no    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
fallbacks          no    no    no    named named named named named named dflt  son5  named named named named
computer           0124  0124  1124  1124  1124  1124  1124  both  both  set   set   set   both  both  set
inference_geo      no    no    no    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
speed              no    no    no    no    std   no    beta  no    beta  no    no    ok    no    no    ok
binding            no    no    no    no    no    no    no    no    no    yes   yes   yes   no    yes   yes
"""


def _columns() -> Mapping[str, Mapping[str, str]]:
    (_, *names), *rows = [row.split() for row in _TABLE.strip().splitlines()]
    return {name: {feature: cells[place] for feature, *cells in rows} for place, name in enumerate(names)}


COLUMNS: Final = _columns()
"""The table by column, then by feature."""

EFFORTS: Final[Mapping[str, str]] = {"low": "l", "medium": "m", "high": "h", "xhigh": "x", "max": "X"}
"""The levels of effort and their letters in the table."""

COMPUTER_TOOLS: Final[Mapping[str, frozenset[str]]] = {
    "computer_20250124": frozenset({"0124"}),
    "computer_20251124": frozenset({"1124", "both"}),
    "computer_toolset_20260801": frozenset({"set", "both"}),
}
"""The cells of the row `computer` that take each tool type."""
