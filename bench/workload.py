"""What gateways are measured with: a policy with everything on, and a call."""

import json
from typing import Final

from rig import Request

_TYPES: Final = (
    "synthesis", "architecture-coding", "edge-case", "evaluation", "summarization", "extraction", "classification",
    "formatting", "template-filling", "reranking", "translation", "default",
)  # fmt: skip

POLICY: Final = "\n".join(
    (
        "[tiers.frontier]",
        'model = "claude-opus-4-8"',
        "[tiers.fast]",
        'model = "claude-haiku-4-5"',
        'thinking = "off"',
        *(
            f'[task_types.{name}]\ntier = "{"frontier" if place < 4 else "fast"}"\nmax_tokens = 2048'
            for place, name in enumerate(_TYPES)
        ),
        '[[budgets]]\nscope = "all"\nlimit_usd = "100000"\nwindow = "month"',
        '[[budgets]]\nscope = "run"\nlimit_usd = "100000"',
    )
)

_SENTENCE: Final = "Summarise the following incident log and propose the next actions. "


def request(*, stream: bool, paced: bool = False, kib: int = 0) -> Request:
    """A call of 1.8 KB, and `kib` more, that names its type, run and agent."""
    text = ("~~GAP~~ " if paced else "") + (8 + kib * 1024 // len(_SENTENCE)) * _SENTENCE
    body = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 1024,
        "system": [{"type": "text", "text": 8 * "You are a careful assistant. "}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": text}]},
            {
                "role": "assistant",
                "content": [{"type": "text", "text": 6 * "Here is the first part of it. "}],
            },
            {"role": "user", "content": [{"type": "text", "text": 8 * _SENTENCE}]},
        ],
        "metadata": {"user_id": "user_123"},
        "temperature": 0.7,
        **({"stream": True} if stream else {}),
    }
    headers = (
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("user-agent", "tierwise-bench"),
        ("x-api-key", "sk-bench-1234"),
        ("anthropic-version", "2023-06-01"),
        ("x-tierwise-task-type", "extraction"),
        ("x-tierwise-run-id", "run-7"),
        ("x-tierwise-agent", "reader"),
    )
    return Request(headers=headers, body=json.dumps(body).encode())
