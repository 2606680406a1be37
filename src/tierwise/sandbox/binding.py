"""Thinking belongs to the conversation it was made in: signatures of thinking blocks, and their check.

A signature names the model that thought and a digest of the tools, the system prompt and the turns before.
Models that check (`matrix`, row `binding`) refuse a block that is replayed in another conversation; a block
of a model that the answering one cannot read is dropped without a word, as the provider does.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

from tierwise.sandbox.errors import invalid
from tierwise.sandbox.matrix import COLUMNS
from tierwise.sandbox.models import Model
from tierwise.sandbox.shapes import Object, is_list, is_object, parts_of

READS: Final[Mapping[str, frozenset[str]]] = {
    "H55": frozenset({"H55"}),
    "S55": frozenset({"H55", "S55"}),
    "O55": frozenset({"H55", "S55", "O55"}),
    "F51": frozenset({"O55", "F51"}),
    "F52": frozenset({"H55", "S55", "O55", "F52"}),
}
"""Of the models that check: whose thinking each of them reads, by column."""


def sign(body: Object, model: Model, thinking: str) -> str:
    """The signature of a thinking block that answers this request."""
    digest = _digest(body, body["messages"], thinking)
    return b64encode(f"{_MARK}|{model.column}|{digest}".encode()).decode()


def check(body: Object, model: Model) -> None:
    """Refuse replayed thinking that belongs elsewhere. Raises ApiError (400)."""
    if COLUMNS[model.column]["binding"] == "no":
        return
    messages: list[dict[str, Any]] = body["messages"]
    for place, index, block in _thinking_blocks(messages):
        where = f"messages.{place}.content.{index}"
        column, digest = _read(str(block["signature"]), where)
        if column not in READS[model.column]:
            continue
        if digest != _digest(body, messages[:place], str(block["thinking"])):
            raise invalid(
                f"{where}: Invalid signature in thinking block: it is bound to a different conversation"
            )


_MARK: Final = "sandbox-1"


def _thinking_blocks(messages: list[dict[str, Any]]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    for place, message in enumerate(messages):
        for index, part in enumerate(parts_of(message["content"])):
            if message["role"] == "assistant" and part["type"] == "thinking":
                yield place, index, part


def _read(signature: str, where: str) -> tuple[str, str]:
    try:
        mark, column, digest = b64decode(signature, validate=True).decode().split("|")
    except (Base64Error, UnicodeDecodeError, ValueError) as error:
        raise invalid(f"{where}: Invalid `signature` in `thinking` block") from error
    if mark != _MARK:
        raise invalid(f"{where}: Invalid `signature` in `thinking` block")
    return column, digest


def _digest(body: Object, messages: Iterable[Object], thinking: str) -> str:
    hashed = blake2b(digest_size=16)
    for piece in (body.get("tools"), body.get("system"), list(messages), thinking):
        hashed.update(repr(_bare(piece)).encode())
    return hashed.hexdigest()


def _bare(value: Any) -> Any:
    """The value without cache marks and thinking, which may change; a plain text as the block it stands for."""
    if is_object(value):
        return {key: _bare(_as_blocks(key, item)) for key, item in value.items() if key != "cache_control"}
    if is_list(value):
        return [_bare(item) for item in value if not (is_object(item) and item.get("type") == "thinking")]
    return value


def _as_blocks(key: str, value: Any) -> Any:
    return [{"type": "text", "text": value}] if key == "content" and isinstance(value, str) else value
