"""What the sandbox's OpenAI side refuses of a body, by the model that it is for: a 400 in OpenAI's words.

Written from what the API documents and answers; it shares nothing with what it checks.
"""

from typing import Any, Final

from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.openai_models import Model
from tierwise.sandbox.shapes import Object, is_object, is_whole, parts_of


def check(body: Object, kind: str, model: Model) -> None:
    """Refuse what the model does not take. Raises ApiError (400)."""
    _check_cap(body, kind, model)
    effort = _effort(body, kind, model)
    if kind == "chat":
        _check_functions(body, model, effort)
    if model.plain == "no" or (model.plain == "rest" and effort != "none"):
        _check_sampling(body, kind)
    if kind == "chat" and not model.stop and body.get("stop") is not None:
        raise _unsupported("stop")


def cap_of(body: Object, kind: str) -> int | None:
    """The cap of a body, however it is spelled; None where it has none. Raises ApiError (400)."""
    if kind == "responses":
        return _whole(body, "max_output_tokens")
    caps = [_whole(body, name) for name in ("max_completion_tokens", "max_tokens")]
    if None not in caps:
        raise invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            code="invalid_parameter_combination",
        )
    return next((cap for cap in caps if cap is not None), None)


def _whole(body: Object, name: str) -> int | None:
    value: Any = body.get(name)
    if value is not None and (not is_whole(value) or value < 1):
        raise invalid(
            f"Invalid value for '{name}': {value!r}. Expected a positive integer.", code="invalid_value"
        )
    return value


def _check_cap(body: Object, kind: str, model: Model) -> None:
    cap = cap_of(body, kind)
    if kind == "chat" and body.get("max_tokens") is not None and not model.older_cap:
        raise _unsupported("max_tokens", " Use 'max_completion_tokens' instead.")
    if cap is not None and model.most_tokens is not None and cap > model.most_tokens:
        raise invalid(
            f"max_tokens is too large: {cap}. This model supports at most {model.most_tokens} completion tokens, "
            f"whereas you provided {cap}.",
            code="invalid_value",
        )


def _effort(body: Object, kind: str, model: Model) -> str | None:
    """The effort at which the model works; None for one that does not reason."""
    if model.efforts == ("any",):
        return "none"
    if kind == "chat":
        asked, name = body.get("reasoning_effort"), "reasoning_effort"
    else:
        reasoning: Any = body.get("reasoning")
        asked, name = reasoning.get("effort") if is_object(reasoning) else None, "reasoning.effort"
        if reasoning is not None and not model.efforts:
            raise _unsupported(name if asked is not None else "reasoning")
    if asked is None:
        return model.efforts[0] if model.efforts else None
    if not model.efforts:
        raise ApiError(status=400, message=f"Unrecognized request argument supplied: {name}")
    if asked not in model.efforts:
        known = ", ".join(f"'{effort}'" for effort in model.efforts)
        message = f"Unsupported value: '{name}' does not support {asked!r} with this model."
        raise invalid(f"{message} Supported values are: {known}.", code="unsupported_value")
    return asked


def _check_functions(body: Object, model: Model, effort: str | None) -> None:
    if not any(tool.get("type") == "function" for tool in parts_of(body.get("tools"))):
        return
    if model.functions == "no" or (model.functions == "rest" and effort != "none"):
        raise invalid(
            f"Function tools with reasoning_effort are not supported for {model.id} in /v1/chat/completions. To use "
            "function tools, use /v1/responses or set reasoning_effort to 'none'."
        )


_NEUTRAL: Final = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
}


def _check_sampling(body: Object, kind: str) -> None:
    """Responses refuses the fields as such; Chat Completions takes what changes nothing."""
    if kind == "responses":
        for name in ("temperature", "top_p", "top_logprobs"):
            if body.get(name) is not None:
                raise _unsupported(name)
        return
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] != neutral:
            message = (
                f"Unsupported value: '{name}' does not support {body[name]!r} with this model. Only the default "
                f"({neutral}) value is supported."
            )
            raise invalid(message, code="unsupported_value")
    for name in ("logit_bias", "top_logprobs"):
        if body.get(name) is not None:
            raise _unsupported(name)


def _unsupported(name: str, more: str = "") -> ApiError:
    message = f"Unsupported parameter: '{name}' is not supported with this model.{more}"
    return invalid(message, code="unsupported_parameter")
