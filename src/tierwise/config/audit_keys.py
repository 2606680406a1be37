"""The keys of the audit: which types are compared, what a good answer is, and what comparing may cost."""

from typing import Final

from tierwise.config.kinds import Duration, Flag, Text, Texts, Whole
from tierwise.config.tables import Key, Table
from tierwise.core.checks import LIMIT_S

SHADOW: Final[Key[bool]] = Key(
    name="shadow",
    kind=Flag(),
    meaning="Whether some of the type's calls are made on another tier too, in the background, so that the audit can "
    "compare. The prompts go to the same provider, with the caller's key, once more.",
    example="true",
    absent="false",
)
MARGIN: Final[Key[int]] = Key(
    name="margin",
    kind=Whole(what="points", least=1, most=30),
    meaning="Loss of quality that counts as none, in points of pass rate.",
    example="5",
    absent="3",
)
CHECK: Final[Key[tuple[str, ...]]] = Key(
    name="check",
    kind=Texts(noun="a check"),
    meaning="What a good answer is: `json`, the text is JSON; `json:KEY,KEY`, it is an object with these keys; "
    "`regex:PATTERN`, the pattern is found in it; `exact:TEXT`, it is that text; `schema:FILE`, it is JSON that the "
    "JSON Schema in the file describes; `command:PROGRAM`, the program ends with 0 when it reads the text, and with 1 "
    "where it is no good answer (with arguments: a list); `python:MODULE:FUNCTION`, the function says so. Files, "
    "programs and modules are looked for from the policy's folder. Answers that call tools are compared as they are.",
    example='"json:invoice_number,total"',
    absent="none: equal answers are as good as each other, and of others nobody can say",
)
CHECK_TIMEOUT: Final[Key[int]] = Key(
    name="check_timeout",
    kind=Duration(),
    meaning="How long the check may take. What it has not said by then nobody knows: the answer has neither passed nor "
    "failed.",
    example='"60s"',
    absent=f'"{LIMIT_S}s"',
)
CHECK_VERSION: Final[Key[str]] = Key(
    name="check_version",
    kind=Text(noun="a version"),
    meaning="Names what a `command:` or a `python:` check asks, in place of a hash of it. Another version begins new "
    "evidence.",
    example='"2"',
    absent="a hash: of the command and the files in the policy's folder that it names; of the function's source",
)
SHARE: Final[Key[int]] = Key(
    name="share",
    kind=Whole(what="per cents", least=1, most=50),
    meaning="Per cent of the spend that flows into the audit's allowance.",
    example="1",
    absent="2",
)
MOST_OF_DAY: Final[Key[int]] = Key(
    name="most_of_day",
    kind=Whole(what="per cents", least=1, most=100),
    meaning="Per cent of a day's spend that the audit takes at most on one day.",
    example="10",
    absent="15",
)
CREDIT: Final[Key[int]] = Key(
    name="credit",
    kind=Duration(least="1d", why_least='write "1d": the allowance is worked out by days'),
    meaning="How long a time's share the allowance begins with, and holds at most; whole days.",
    example='"10d"',
    absent='"30d"',
)
SAMPLE: Final[Key[int]] = Key(
    name="sample",
    kind=Whole(what="per cents", least=1, most=100),
    meaning="Per cent of a type's runs, else conversations, of which one call a day is compared, as long as a line "
    "has too few pairs to plan its day by.",
    example="25",
    absent="10",
)
ERROR: Final[Key[int]] = Key(
    name="error",
    kind=Whole(what="per cents", least=1, most=20),
    meaning="Per cent of all claims `proven` that may be wrong, on average.",
    example="1",
    absent="5",
)
AUTOPILOT: Final[Key[bool]] = Key(
    name="autopilot",
    kind=Flag(),
    meaning="Whether verdicts act by themselves: of a type that is provisional nine runs or conversations in ten go to "
    "the cheaper tier, of one that is proven all but two in a hundred, and an alarm takes them back.",
    example="true",
    absent="false",
)
BY_BATCH: Final[Key[bool]] = Key(
    name="by_batch",
    kind=Flag(),
    meaning="Whether the audit's calls are gathered for an hour and sent as a Message Batch, at half price. A pair is "
    "then there once the provider is through with the batch, within a day.",
    example="true",
    absent="false: they are made at once",
)
TYPE_AUTOPILOT: Final[Key[bool]] = Key(
    name="autopilot",
    kind=Flag(),
    meaning="Whether verdicts on this type act by themselves.",
    example="true",
    absent="that of `[audit]`",
)

QUALITY: Final = Table(
    name="task_types.NAME.quality",
    shape="one",
    meaning="What the audit takes for a good answer of one task type, and which difference counts.",
    keys=(CHECK, CHECK_TIMEOUT, CHECK_VERSION, MARGIN, TYPE_AUTOPILOT),
    example='[task_types.extraction]\ntier = "fast"\nshadow = true\nquality.check = "json:total"\n',
    planned=("judge",),
    needs_one_of=("check", "margin", "autopilot"),
)
AUDIT: Final = Table(
    name="audit",
    shape="one",
    meaning="What comparing tiers may cost. It costs nothing as long as no task type has `shadow = true`.",
    keys=(SHARE, MOST_OF_DAY, CREDIT, SAMPLE, ERROR, AUTOPILOT, BY_BATCH),
    example="[audit]\nshare = 2\nsample = 10\n",
    planned=("judge",),
)
