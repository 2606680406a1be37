"""From bytes to a request that is known to be good: credentials, version, model and body are checked in turn."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tierwise.sandbox import binding, directive, tokens, validate
from tierwise.sandbox.directive import Directive
from tierwise.sandbox.errors import ApiError, invalid
from tierwise.sandbox.models import Model, find
from tierwise.sandbox.shapes import Object, is_object, parts_of

Headers = Mapping[bytes, bytes]


def check_credentials(headers: Headers) -> None:
    """Refuse a request without a key (401) or a known API version (400), whatever the key is."""
    bearer = headers.get(b"authorization", b"")
    if not headers.get(b"x-api-key") and not (bearer[:7].lower() == b"bearer " and bearer[7:].strip()):
        raise ApiError(status=401, message="x-api-key header is required")
    version = headers.get(b"anthropic-version")
    if version is None:
        raise invalid("anthropic-version: header is required")
    if version.decode("latin-1") not in validate.VERSIONS:
        raise invalid(f'anthropic-version: "{version.decode("latin-1")}" is not a valid version')


def read_body(raw: bytes) -> Object:
    """The body, decoded. Raises ApiError (400) for anything but a JSON object."""
    try:
        decoded: Any = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise invalid("The request body is not valid JSON.") from error
    if not is_object(decoded):
        raise invalid("The request body is not a JSON object.")
    return decoded


def check_body(headers: Headers, body: Object, *, counting: bool = False) -> Model:
    """The body's model. Raises ApiError (400, 404) when something is wrong with either."""
    if "model" not in body:
        raise invalid("model: Field required")
    if not isinstance(body["model"], str):
        raise invalid("model: Input should be a valid string")
    model = find(body["model"])
    if model is None:
        raise ApiError(status=404, message=f"model: {body['model']}")
    validate.check_shape(body, counting=counting)
    validate.check_version(body, headers[b"anthropic-version"].decode())
    validate.check_model(
        body, model, betas=headers.get(b"anthropic-beta", b"").decode("latin-1"), counting=counting
    )
    binding.check(body, model)
    return model


def last_text(body: Object) -> str:
    """The text of the last user turn."""
    message = next((message for message in reversed(body["messages"]) if message["role"] == "user"), None)
    content: Any = "" if message is None else message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in parts_of(content) if part["type"] == "text")


def measure(body: Object, model: Model, asked: Directive, text: str) -> tuple[list[tokens.Block], int]:
    """The prompt piece by piece, and its length in tokens; `text` is the last user turn's."""
    prompt = tokens.blocks(body, model, stands_for=directive.told_apart(asked, text))
    return prompt, tokens.prompt_tokens(prompt, model)
