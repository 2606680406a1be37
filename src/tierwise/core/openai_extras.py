"""What OpenAI-compatible servers bill beside the tokens, and tell in no usage: the cost of such a call is not known.

Tools that the server runs are billed by the call, the hour or the picture; models that search the web do so unasked and
bill each search. https://platform.openai.com/docs/pricing
"""

import re
from typing import Final


def is_billed_apart(kind: str) -> bool:
    """Whether a tool of a type (`web_search`), or an item that it leaves (`web_search_call`), is billed apart."""
    return kind.startswith(_TOOLS)


def searches_unasked(model: str) -> bool:
    """Whether a model bills searches that no tool in the body asks for, by its name."""
    return _SEARCHERS.search(model) is not None


_TOOLS: Final = ("web_search", "file_search", "code_interpreter", "image_generation", "shell")
"""Their names may have a date."""

_SEARCHERS: Final = re.compile(r"-(?:search-preview|search-api|deep-research)(?:-|$)")
