"""The keys of `[openai]`, described once."""

from typing import Final, Literal

from tierwise.config.addresses import Address, Addresses
from tierwise.config.kinds import Text, Whole, Word
from tierwise.config.tables import REQUIRED, Key, Table
from tierwise.core.policy import OPENAI_EFFORTS, CapField, Effort
from tierwise.core.routing import NO_TRANSLATION

OPENAI_BASE_URL: Final[Key[str]] = Key(
    name="base_url",
    kind=Address(where_credentials_go="set OPENAI_API_KEY in the environment"),
    meaning="Where the OpenAI-compatible API is: what `OPENAI_BASE_URL` would be without the gateway, `/v1` included. "
    "Read at a start.",
    example='"https://api.openai.com/v1"',
    absent=REQUIRED,
)
OPENAI_FALLBACK_URLS: Final[Key[tuple[str, ...]]] = Key(
    name="fallback_urls",
    kind=Addresses(Address(where_credentials_go="set OPENAI_API_KEY in the environment")),
    meaning="Where the API is too, `/v1` included. A retry goes to the next of them, with the credentials of its call: "
    "list only addresses that may have them. Read at a start.",
    example='["https://llm.example.com/v1"]',
    absent="none",
)
CAP_FIELD: Final[Key[CapField]] = Key(
    name="cap_field",
    kind=Word(("max_completion_tokens", "max_tokens")),
    meaning="How a cap is spelled in a Chat Completions call that brings none. Some servers know only `max_tokens`; a "
    "caller's own spelling stays.",
    example='"max_tokens"',
    absent='"max_completion_tokens"',
)
OPENAI_MODEL: Final[Key[str]] = Key(
    name="model",
    kind=Text(noun="a model's id"),
    meaning="The server's id of the model. Its price is in `[[prices]]`; without one its calls are recorded as "
    "unpriced, and refused under a hard budget.",
    example='"gpt-5-mini"',
    absent=REQUIRED,
)
OPENAI_EFFORT: Final[Key[Effort | Literal["keep"]]] = Key(
    name="effort",
    kind=Word((*OPENAI_EFFORTS, "keep")),
    meaning="How hard the model reasons: `reasoning_effort` of Chat Completions, `reasoning.effort` of Responses. It "
    "replaces the caller's.",
    example='"low"',
    absent="the caller's",
)
OPENAI_CAP: Final[Key[int]] = Key(
    name="max_tokens",
    kind=Whole(),
    meaning="Cap of a call that brings none, under a contract that has none: without any, a hard budget refuses the "
    "call, for nothing bounds its cost.",
    example="16384",
    absent="none",
)
OPENAI_FLOOR: Final[Key[int]] = Key(
    name="thinking_floor",
    kind=Whole(),
    meaning="Smallest cap that leaves this tier room to reason and to answer: a contract's lower one is raised to it.",
    example="2048",
    absent="none",
)

TRANSLATE: Final = ("translate", f"it is not supported. {NO_TRANSLATION}")
"""What is said to a policy that asks for translation."""

OPENAI_TIERS: Final = Table(
    name="openai.tiers",
    shape="named",
    meaning="What a tier of `[tiers]` is for OpenAI's clients: their calls of a task type go to the table here with "
    "the name of the contract's tier. A call whose tier has no table here is refused: nothing is translated.",
    keys=(OPENAI_MODEL, OPENAI_EFFORT, OPENAI_CAP, OPENAI_FLOOR),
    example='[openai]\nbase_url = "https://api.openai.com/v1"\n\n'
    '[openai.tiers.fast]\nmodel = "gpt-5-mini"\neffort = "low"\n',
    elsewhere=(TRANSLATE,),
)
