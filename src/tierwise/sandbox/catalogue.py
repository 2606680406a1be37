"""`GET /v1/models`: what the provider tells about its models. It tells no prices."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.matrix import COLUMNS, EFFORTS
from tierwise.sandbox.models import CATALOGUE, Model, find

Query = Mapping[str, Sequence[str]]

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1000


def answer(path: str, query: Query) -> dict[str, Any]:
    """The list, or the one model that the path names. Raises ApiError (400, 404)."""
    name = path.removeprefix("/v1/models").strip("/")
    if not name:
        return _page(query)
    model = find(name) or next((model for model in CATALOGUE if model.id == name), None)
    if model is None:
        raise ApiError(status=404, message=f"model: {name}")
    return describe(model)


def describe(model: Model) -> dict[str, Any]:
    """One model as the provider describes it."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name,
        "created_at": model.created_at,
        "lifecycle": model.lifecycle,
        "deprecated_at": model.deprecated_at,
        "retires_at": model.retires_at,
        "line": model.line,
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.max_output_tokens,
        "capabilities": _capabilities(COLUMNS[model.column]) if model.column else None,
    }


def _page(query: Query) -> dict[str, Any]:
    lifecycles = query.get("lifecycle[]") or query.get("lifecycle")
    models = [model for model in CATALOGUE if not lifecycles or model.lifecycle in lifecycles]
    limit = _limit(query)
    if "before_id" in query:
        end = _place(models, query["before_id"][0], "before_id")
        start = max(0, end - limit)
        shown, more = models[start:end], start > 0
    else:
        start = _place(models, query["after_id"][0], "after_id") + 1 if "after_id" in query else 0
        shown, more = models[start : start + limit], start + limit < len(models)
    return {
        "data": [describe(model) for model in shown],
        "has_more": more,
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
    }


def _limit(query: Query) -> int:
    text = query.get("limit", [str(DEFAULT_LIMIT)])[0]
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise invalid(f"limit: Input should be between 1 and {MAX_LIMIT}")
    return int(text)


def _place(models: list[Model], model_id: str, field: str) -> int:
    place = next((place for place, model in enumerate(models) if model.id == model_id), None)
    if place is None:
        raise invalid(f"{field}: no model {model_id!r}")
    return place


def _capabilities(rules: Mapping[str, str]) -> dict[str, Any]:
    takes_compaction = rules["compaction"] == "ok"
    return {
        "batch": _supported(yes=True),
        "citations": _supported(yes=True),
        "code_execution": _supported(yes=True),
        "context_management": {
            "supported": True,
            "clear_thinking_20251015": _supported(yes=True),
            "clear_tool_uses_20250919": _supported(yes=True),
            "compact_20260112": _supported(yes=takes_compaction),
        },
        "effort": {
            "supported": rules["effort"] != "no",
            **{
                level: _supported(yes=rules["effort"] != "no" and letter in rules["effort"])
                for level, letter in EFFORTS.items()
            },
        },
        "image_input": _supported(yes=True),
        "pdf_input": _supported(yes=True),
        "server_tools": {
            "supported": True,
            "web_search": _supported(yes=True),
            "code_execution": _supported(yes=True),
        },
        "structured_outputs": _supported(yes=True),
        "thinking": {
            "supported": True,
            "types": {
                "adaptive": _supported(yes=rules["thinking_adaptive"] != "no"),
                "between_tools": _supported(yes=rules["thinking_between"] != "no"),
                "disabled": _supported(yes=rules["thinking_disabled"] != "no"),
                "enabled": _supported(yes=rules["thinking_enabled"] != "no"),
            },
        },
        "compaction": {"supported": takes_compaction, "summarize": _supported(yes=takes_compaction)},
    }


def _supported(*, yes: bool) -> dict[str, bool]:
    return {"supported": yes}
