"""The models that the sandbox serves OpenAI's clients, what each takes, and how `GET /v1/models` tells them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tierwise.sandbox.errors import ApiError

PATH: Final = "/v1/models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model."""

    id: str
    snapshot: str
    """Who answers: what replies and the bill name."""
    efforts: tuple[str, ...]
    """Efforts that it takes, its own first; empty where it does not reason, `any` where it takes whatever comes."""
    plain: str
    """Whether it takes sampling parameters: `yes`, `no`, or `rest` for where it does not reason."""
    stop: bool
    older_cap: bool
    """Whether it takes `max_tokens` in Chat Completions."""
    functions: str
    """Whether it takes functions in Chat Completions, in the words of `plain`."""
    most_tokens: int | None
    searches: int
    """Web searches that it makes for every reply, unasked."""


_SERVED: Final = """
id                          date        efforts                     plain  stop  older  functions  most    searches
gpt-4o-mini                 2024-07-18  -                           yes    yes   yes    yes        16384   0
gpt-4.1                     2025-04-14  -                           yes    yes   yes    yes        32768   0
gpt-4o-mini-search-preview  2025-03-11  -                           yes    yes   yes    yes        16384   1
o3-mini                     2025-01-31  medium,low,high             no     yes   no     yes        100000  0
o4-mini                     2025-04-16  medium,low,high             no     no    no     yes        100000  0
gpt-5                       2025-08-07  medium,minimal,low,high     no     no    no     yes        128000  0
gpt-5-mini                  2025-08-07  medium,minimal,low,high     no     no    no     yes        128000  0
gpt-5.1                     2025-11-13  none,low,medium,high        rest   no    no     yes        128000  0
gpt-5.2                     2025-12-11  none,low,medium,high,xhigh  rest   no    no     yes        128000  0
gpt-5.5                     2026-04-23  medium,none,low,high,xhigh  rest   no    no     yes        128000  0
gpt-5.6-terra               -           medium,none,low,high,xhigh  rest   no    no     rest       128000  0
gpt-6-sol                   -           medium,low,high,xhigh,max   no     no    no     no         -       0
sandbox-large               -           any                         yes    yes   yes    yes        -       0
sandbox-small               -           any                         yes    yes   yes    yes        -       0
"""


def find(name: str) -> Model:
    """The model of a name. Raises ApiError (404)."""
    model = _BY_NAME.get(name)
    if model is None:
        message = f"The model `{name}` does not exist or you do not have access to it."
        raise ApiError(status=404, message=message, code="model_not_found")
    return model


def answer(path: str) -> dict[str, Any]:
    """The list, or the one model that the path names. Raises ApiError (404)."""
    name = path.removeprefix(PATH).strip("/")
    if name:
        return _described(find(name))
    return {"object": "list", "data": [_described(model) for model in SERVED]}


def _described(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": 1_754_500_000, "owned_by": "openai"}


def _served(row: str) -> Model:
    name, date, efforts, plain, stop, older, functions, most, searches = row.split()
    return Model(
        id=name,
        snapshot=name if date == "-" else f"{name}-{date}",
        efforts=() if efforts == "-" else tuple(efforts.split(",")),
        plain=plain,
        stop=stop == "yes",
        older_cap=older == "yes",
        functions=functions,
        most_tokens=None if most == "-" else int(most),
        searches=int(searches),
    )


SERVED: Final[tuple[Model, ...]] = tuple(_served(row) for row in _SERVED.strip().splitlines()[1:])
_BY_NAME: Final[Mapping[str, Model]] = {
    name: model for model in SERVED for name in (model.id, model.snapshot)
}
