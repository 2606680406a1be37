"""The caller's functions in the sandbox: which of them a reply calls, and what is refused about them.

A reply calls every function that may be called, once, where the conversation ends with the user's turn; where it ends
with what the functions returned, it is text again. `tool_choice` and the directive's `reply` say otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from tierwise.sandbox.directive import Directive
from tierwise.sandbox.errors import invalid
from tierwise.sandbox.shapes import Object, is_list, is_object, part_of, parts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One call of a function."""

    id: str
    name: str
    pieces: tuple[str, ...]
    """The JSON of its arguments, token by token."""

    @property
    def arguments(self) -> str:
        """The JSON of its arguments."""
        return "".join(self.pieces)


def calls(body: Object, *, kind: str, asked: Directive, request_id: str) -> list[Called]:
    """The calls that a reply makes. Raises ApiError (400)."""
    functions = dict(_declared(body, kind))
    names = _callable(body, kind, list(functions))
    wish, forced = asked.get("reply"), _is_forced(body)
    if wish not in (None, "text", "tool_use"):
        raise invalid(f"sandbox: reply is 'text' or 'tool_use', not {wish!r}")
    if not forced and (wish == "text" or (wish is None and _is_answered(body, kind))):
        return []
    if body.get("parallel_tool_calls") is False:
        names = names[:1]
    return [
        Called(id=f"call_{request_id}_{place}", name=name, pieces=tuple(_pieces(functions[name])))
        for place, name in enumerate(names)
    ]


def cut(made: list[Called], room: int) -> list[Called]:
    """The calls that a cap leaves: what is behind it is not there, not even the name of a function."""
    kept: list[Called] = []
    for call in made:
        if room <= 0:
            break
        kept.append(replace(call, pieces=call.pieces[:room]))
        room -= len(call.pieces)
    return kept


def check_results(body: Object, kind: str) -> None:
    """Refuse what a function returned where none was called, and a call without it. Raises ApiError (400)."""
    if kind == "chat":
        return _check_messages(parts_of(body.get("messages")))
    return _check_items(body)


def example(schema: Mapping[str, Any]) -> Any:
    """A value of a JSON schema."""
    match schema.get("type"):
        case "object":
            return {name: example(each) for name, each in schema.get("properties", {}).items()}
        case "array":
            return []
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return "Acme"


def _declared(body: Object, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Functions by name, with the schemas of their arguments."""
    for tool in parts_of(body.get("tools")):
        if tool.get("type") == "function":
            told = part_of(tool, "function") if kind == "chat" else tool
            if not isinstance(told.get("name"), str):
                raise invalid("Missing required parameter: 'tools[0].function.name'.")
            yield told["name"], part_of(told, "parameters")


def _is_forced(body: Object) -> bool:
    choice: Any = body.get("tool_choice")
    if is_object(choice) and choice.get("type") == "allowed_tools":
        return (part_of(choice, "allowed_tools") or choice).get("mode") == "required"
    return choice == "required" or is_object(choice)


def _callable(body: Object, kind: str, names: list[str]) -> list[str]:
    """Which functions `tool_choice` leaves."""
    choice: Any = body.get("tool_choice")
    if choice is None or choice in ("auto", "required", "none"):
        if choice is not None and not body.get("tools") and kind == "chat":
            raise invalid(
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified."
            )
        return [] if choice == "none" else names
    if not is_object(choice):
        raise invalid(f"Invalid value: {choice!r}. Supported values are: 'none', 'auto', and 'required'.")
    if choice.get("type") == "allowed_tools":
        allowed = parts_of((part_of(choice, "allowed_tools") or choice).get("tools"))
    else:
        allowed = [choice]
    wanted = [_name(each, kind) for each in allowed]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise invalid(f"Tool choice {unknown[0]!r} not found in 'tools' parameter.")
    return [name for name in names if name in wanted]


def _name(choice: Object, kind: str) -> Any:
    return (part_of(choice, "function") if kind == "chat" else choice).get("name")


def _is_answered(body: Object, kind: str) -> bool:
    """Whether the conversation ends with what a function returned."""
    turns = parts_of(body.get("messages" if kind == "chat" else "input"))
    last = turns[-1] if turns else {}
    return last.get("role") == "tool" or last.get("type") == "function_call_output"


_TOKEN_LENGTH: Final = 4


def _pieces(schema: Mapping[str, Any]) -> list[str]:
    text = msgspec.json.encode(example({"type": "object", **schema})).decode()
    return [text[start : start + _TOKEN_LENGTH] for start in range(0, len(text), _TOKEN_LENGTH)]


def _check_messages(messages: list[dict[str, Any]]) -> None:
    open_ids: set[Any] = set()
    for message in messages:
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in open_ids:
                raise invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
                    "with 'tool_calls'."
                )
            open_ids.discard(message.get("tool_call_id"))
            continue
        _check_answered(open_ids)
        open_ids = {call.get("id") for call in parts_of(message.get("tool_calls"))}
    _check_answered(open_ids)


def _check_answered(open_ids: set[Any]) -> None:
    if open_ids:
        raise invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
            f"'tool_call_id'. No response for: {', '.join(sorted(map(str, open_ids)))}"
        )


def _check_items(body: Object) -> None:
    items: Any = body.get("input")
    if not is_list(items) or body.get("previous_response_id") or body.get("conversation"):
        return  # what the provider holds may have the other half
    called = {item.get("call_id") for item in parts_of(items) if item.get("type") == "function_call"}
    told = {item.get("call_id") for item in parts_of(items) if item.get("type") == "function_call_output"}
    for call_id in told - called:
        raise invalid(f"No tool call found for function call output with call_id {call_id}.")
    for call_id in called - told:
        raise invalid(f"No tool output found for function call {call_id}.")
