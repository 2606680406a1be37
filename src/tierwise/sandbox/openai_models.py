"""The models that the sandbox serves OpenAI's clients, and how `GET /v1/models` tells them."""

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
    searches: int = 0
    """Web searches that it makes for every reply, unasked."""


SERVED: Final[tuple[Model, ...]] = (
    Model(id="gpt-5", snapshot="gpt-5-2025-08-07"),
    Model(id="gpt-5-mini", snapshot="gpt-5-mini-2025-08-07"),
    Model(
        id="gpt-4o-mini-search-preview",
        snapshot="gpt-4o-mini-search-preview-2025-03-11",
        searches=1,
    ),
    Model(id="sandbox-large", snapshot="sandbox-large"),
    Model(id="sandbox-small", snapshot="sandbox-small"),
)

_BY_ID: Final[Mapping[str, Model]] = {model.id: model for model in SERVED}


def find(name: str) -> Model:
    """The model of a name. Raises ApiError (404)."""
    model = _BY_ID.get(name)
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
