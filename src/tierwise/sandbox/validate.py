"""What the provider refuses with a 400 before a model sees the request, worded the provider's way.

Shapes come first, then what the API version rules out, then what the model does not take (`matrix`). Fields
the sandbox does not know are let through, as an open list: what a newer client sends must not break a test.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from tierwise.sandbox.errors import invalid
from tierwise.sandbox.matrix import COLUMNS, COMPUTER_TOOLS, EFFORTS
from tierwise.sandbox.models import Model
from tierwise.sandbox.shapes import Object, is_list, is_object, is_whole, part_of, parts_of

Body = Object
Rules = Mapping[str, str]
"""A model's column of the matrix."""
Thinking = Literal["off", "adaptive", "enabled", "between_tools"]

VERSIONS: Final = ("2023-06-01", "2026-10-21")
MAX_MESSAGES: Final = 100_000
DISPLAY_UPDATES_BETA: Final = "thinking-display-updates-2026-08-18"
FAST_MODE_BETA: Final = "fast-mode-2026-02-01"


def check_shape(body: Body, *, counting: bool = False) -> None:
    """Refuse a body whose fields are missing or of the wrong type; `counting` asks for no max_tokens."""
    if counting and body.get("thread") is not None:
        raise invalid("thread: not supported for token counting")
    if not counting:
        _require_whole_number(body, "max_tokens", at_least=0)
    _check_messages(body)
    for field, kind, name in _FIELD_TYPES:
        value = body.get(field)
        if value is not None and not isinstance(value, kind):
            raise invalid(f"{field}: Input should be {name}")
    _check_system(body.get("system"))
    _check_tools(body)


def check_version(body: Body, version: str) -> None:
    """Refuse what version 2026-10-21 no longer takes, on every model."""
    if version != VERSIONS[1]:
        return
    for field in _SAMPLING:
        if body.get(field) is not None:
            raise invalid(f"{field}: Extra inputs are not permitted with anthropic-version {version}")
    for place, message in enumerate(body["messages"]):
        _check_parts_of_version(
            parts_of(message["content"]), str(message["role"]), f"messages.{place}.content"
        )


def check_model(body: Body, model: Model, *, betas: str = "", counting: bool = False) -> None:
    """Refuse what this model does not take. `betas` is the header anthropic-beta."""
    rules = COLUMNS[model.column]
    if not counting:
        _check_max_tokens(body, model)
    _check_thinking(body, rules, betas, counting=counting)
    _check_output_config(body, rules)
    _check_sampling(body, rules)
    _check_roles(body, rules)
    _check_tool_use(body, rules, counting=counting)
    _check_extras(body, rules, betas)


def thinking_of(body: Body, model: Model) -> Thinking:
    """How the model thinks on this (valid) request."""
    asked = part_of(body, "thinking").get("type")
    if asked is None:
        asked = "adaptive" if COLUMNS[model.column]["thinking_omitted"] == "on" else "disabled"
    match asked:
        case "adaptive" if model.column == "H55" and _is_forced(body):
            return "off"
        case "adaptive" | "enabled" | "between_tools":
            return asked
        case _:
            return "off"


def effort_of(body: Body, model: Model) -> str:
    """The effort of this (valid) request, asked or by default."""
    asked: str | None = part_of(body, "output_config").get("effort")
    if asked is not None:
        return asked
    return "medium" if COLUMNS[model.column]["effort_default"] == "med" else "high"


def runs_fast(body: Body, model: Model) -> bool:
    """Whether this (valid) request runs, and is billed, in fast mode."""
    return body.get("speed") == "fast" and COLUMNS[model.column]["speed"] != "std"


_SAMPLING: Final = ("temperature", "top_p", "top_k")
_SAMPLING_DEFAULTS: Final[Mapping[str, float]] = {"temperature": 1, "top_p": 1}
_FIELD_TYPES: Final[Sequence[tuple[str, type | tuple[type, ...], str]]] = (
    ("stream", bool, "a valid boolean"),
    ("system", (str, list), "a valid string or list"),
    ("tools", list, "a valid list"),
    ("tool_choice", dict, "a valid dictionary"),
    ("thinking", dict, "a valid dictionary"),
    ("output_config", dict, "a valid dictionary"),
    ("metadata", dict, "a valid dictionary"),
    ("stop_sequences", list, "a valid list"),
    ("cache_control", dict, "a valid dictionary"),
    ("context_management", dict, "a valid dictionary"),
    ("temperature", (int, float), "a valid number"),
    ("top_p", (int, float), "a valid number"),
    ("top_k", int, "a valid integer"),
    ("inference_geo", str, "a valid string"),
    ("speed", str, "a valid string"),
    ("service_tier", str, "a valid string"),
)


def _require_whole_number(body: Body, field: str, *, at_least: int) -> None:
    value: Any = body.get(field)
    if value is None:
        raise invalid(f"{field}: Field required")
    if not is_whole(value):
        raise invalid(f"{field}: Input should be a valid integer")
    if value < at_least:
        raise invalid(f"{field}: Input should be greater than or equal to {at_least}")


def _check_messages(body: Body) -> None:
    messages: Any = body.get("messages")
    if messages is None:
        raise invalid("messages: Field required")
    if not is_list(messages):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    if len(messages) > MAX_MESSAGES:
        raise invalid(f"messages: at most {MAX_MESSAGES} messages are allowed")
    for place, message in enumerate(messages):
        _check_message(message, f"messages.{place}", last=place == len(messages) - 1)
    if messages[0]["role"] != "user":
        raise invalid('messages: first message must use the "user" role')
    _check_tool_pairs(messages)


def _check_message(message: Any, where: str, *, last: bool) -> None:
    if not is_object(message):
        raise invalid(f"{where}: Input should be a valid dictionary")
    for field in ("role", "content"):
        if field not in message:
            raise invalid(f"{where}.{field}: Field required")
    role, content = message["role"], message["content"]
    if role not in ("user", "assistant", "system"):
        raise invalid(f"{where}.role: Input should be 'user', 'assistant' or 'system'")
    if not isinstance(content, str) and not is_list(content):
        raise invalid(f"{where}.content: Input should be a valid string or list")
    if not content and not (last and role == "assistant"):
        raise invalid(
            f"{where}: all messages must have non-empty content except for the optional final assistant "
            "message"
        )
    for index, part in enumerate(parts_of(content)):
        _check_part(part, f"{where}.content.{index}")


def _check_part(part: Any, where: str) -> None:
    if not is_object(part):
        raise invalid(f"{where}: Input should be a valid dictionary")
    kind = part.get("type")
    if not isinstance(kind, str):
        raise invalid(f"{where}.type: Field required")
    for field in _PART_FIELDS.get(kind, ()):
        if field not in part:
            raise invalid(f"{where}.{kind}.{field}: Field required")
    if kind == "text":
        _check_text(part, where)
    control = part.get("cache_control")
    if control is not None and (not is_object(control) or control.get("type") != "ephemeral"):
        raise invalid(f"{where}.cache_control: Input tag should be 'ephemeral'")


_PART_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text",),
    "image": ("source",),
    "document": ("source",),
    "tool_use": ("id", "name", "input"),
    "tool_result": ("tool_use_id",),
    "thinking": ("thinking", "signature"),
}


def _check_text(part: dict[str, Any], where: str) -> None:
    if not isinstance(part["text"], str):
        raise invalid(f"{where}.text.text: Input should be a valid string")
    if not part["text"]:
        raise invalid(f"{where}: text content blocks must be non-empty")


def _check_tool_pairs(messages: list[dict[str, Any]]) -> None:
    """Every result answers a use in the message before it, and every use is answered in the next."""
    asked: set[str] = set()
    for place, message in enumerate(messages):
        parts = parts_of(message["content"])
        answered = {part["tool_use_id"] for part in parts if part["type"] == "tool_result"}
        stray = next((use for use in answered if use not in asked), None)
        if stray is not None:
            raise invalid(
                f"messages.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {stray}. Each "
                "`tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        if asked - answered:
            raise invalid(
                f"messages.{place - 1}: `tool_use` ids were found without `tool_result` blocks immediately "
                f"after: {', '.join(sorted(asked - answered))}."
            )
        asked = {part["id"] for part in parts if part["type"] == "tool_use"}


def _check_system(system: Any) -> None:
    for index, part in enumerate(parts_of(system)):
        _check_part(part, f"system.{index}")
        if part["type"] != "text":
            raise invalid(f"system.{index}.type: Input should be 'text'")


def _check_tools(body: Body) -> None:
    tools = parts_of(body.get("tools"))
    for index, tool in enumerate(tools):
        if not is_object(tool):
            raise invalid(f"tools.{index}: Input should be a valid dictionary")
        if tool.get("type", "custom") == "custom":
            _check_custom_tool(tool, index)
    names = [str(tool["name"]) for tool in tools if "name" in tool]
    if len(set(names)) < len(names):
        raise invalid("tools: Tool names must be unique.")
    choice: Body | None = body.get("tool_choice")
    if choice is not None:
        _check_tool_choice(choice, names, given=bool(tools))


def _check_custom_tool(tool: dict[str, Any], index: int) -> None:
    for field in ("name", "input_schema"):
        if field not in tool:
            raise invalid(f"tools.{index}.custom.{field}: Field required")
    if not is_object(tool["input_schema"]):
        raise invalid(f"tools.{index}.custom.input_schema: Input should be a valid dictionary")


def _check_tool_choice(choice: Body, names: list[str], *, given: bool) -> None:
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        raise invalid(f"tool_choice: Input tag {kind!r} does not match any of 'auto', 'any', 'tool', 'none'")
    if not given:
        raise invalid("tool_choice: may only be specified while providing tools")
    if kind == "tool" and choice.get("name") not in names:
        raise invalid(f"tool_choice: Tool {choice.get('name')!r} not found in provided tools")


def _check_parts_of_version(parts: list[dict[str, Any]], role: str, where: str) -> None:
    for index, part in enumerate(parts):
        if role == "assistant" and part["type"] == "document":
            raise invalid(f"{where}.{index}: `document` blocks are not permitted in an assistant message")
        if role == "user" and part["type"] == "text" and part.get("citations"):
            raise invalid(f"{where}.{index}.text.citations: Extra inputs are not permitted in a user message")


def _check_max_tokens(body: Body, model: Model) -> None:
    asked: int = body["max_tokens"]
    if asked > model.max_output_tokens:
        raise invalid(
            f"max_tokens: {asked} > {model.max_output_tokens}, which is the maximum allowed number of output "
            f"tokens for {model.id}"
        )


def _check_thinking(body: Body, rules: Rules, betas: str, *, counting: bool) -> None:
    config: Body | None = body.get("thinking")
    if config is None:
        return
    kind = config.get("type")
    row = _THINKING_ROWS.get(kind) if isinstance(kind, str) else None
    if row is None:
        raise invalid(
            f"thinking: Input tag {kind!r} does not match any of {', '.join(map(repr, _THINKING_ROWS))}"
        )
    cell = rules[row]
    if cell == "no":
        raise invalid(f"thinking: type {kind!r} is not supported on this model")
    if cell == "high" and _effort(body) in ("xhigh", "max"):
        raise invalid(f"thinking: type {kind!r} is not supported with effort {_effort(body)!r} on this model")
    extra = config.keys() - _THINKING_FIELDS[str(kind)]
    if extra:
        raise invalid(f"thinking.{kind}.{min(extra)}: Extra inputs are not permitted")
    displays = (None, "summarized", "omitted", *(["updates"] if DISPLAY_UPDATES_BETA in betas else []))
    if config.get("display") not in displays:
        raise invalid(f"thinking.{kind}.display: Input should be 'summarized' or 'omitted'")
    if kind == "enabled":
        _check_budget(config, body, counting=counting)


_THINKING_ROWS: Final[Mapping[str, str]] = {
    "adaptive": "thinking_adaptive",
    "enabled": "thinking_enabled",
    "disabled": "thinking_disabled",
    "between_tools": "thinking_between",
}
_THINKING_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "adaptive": frozenset({"type", "display"}),
    "enabled": frozenset({"type", "display", "budget_tokens"}),
    "disabled": frozenset({"type"}),
    "between_tools": frozenset({"type"}),
}


def _check_budget(config: Body, body: Body, *, counting: bool) -> None:
    budget: Any = config.get("budget_tokens")
    if budget is None:
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if not is_whole(budget):
        raise invalid("thinking.enabled.budget_tokens: Input should be a valid integer")
    if budget < 1024:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if not counting and budget >= body["max_tokens"]:
        raise invalid("max_tokens: must be greater than `thinking.budget_tokens`")


def _check_output_config(body: Body, rules: Rules) -> None:
    config: Body | None = body.get("output_config")
    if config is None:
        return
    effort = config.get("effort")
    if effort is not None:
        _check_effort(effort, rules["effort"])
    form: Any = config.get("format")
    if form is not None and not (
        is_object(form) and form.get("type") == "json_schema" and is_object(form.get("schema"))
    ):
        raise invalid("output_config.format: Input should be of type 'json_schema' with a schema")
    if config.get("task_budget") is not None:
        _check_task_budget(config["task_budget"], rules)


def _check_effort(effort: Any, levels: str) -> None:
    if effort not in EFFORTS:
        raise invalid(f"output_config.effort: Input should be {', '.join(map(repr, EFFORTS))}")
    if levels == "no":
        raise invalid("output_config.effort: This model does not support the effort parameter.")
    if EFFORTS[effort] not in levels:
        raise invalid(f"output_config.effort: level {effort!r} is not supported on this model")


def _check_task_budget(budget: Any, rules: Rules) -> None:
    if rules["task_budget"] == "no":
        raise invalid("output_config.task_budget: not supported on this model")
    total: Any = budget.get("total") if is_object(budget) else None
    if not is_whole(total) or total < 20_000:
        raise invalid("output_config.task_budget.total: Input should be greater than or equal to 20000")


def _check_sampling(body: Body, rules: Rules) -> None:
    given = [field for field in _SAMPLING if body.get(field) is not None]
    if not given:
        return
    _check_ranges(body)
    match rules["sampling"]:
        case "no":
            raise invalid(f"{given[0]}: not supported on this model")
        case "deflt":
            changed = [field for field in given if body[field] != _SAMPLING_DEFAULTS.get(field)]
            if changed:
                raise invalid(f"{changed[0]}: only the default value is supported on this model")
        case "one":
            if "temperature" in given and "top_p" in given:
                raise invalid(
                    "temperature: `temperature` and `top_p` cannot both be specified for this model."
                )
        case _:
            pass
    if _asks_to_think(body):
        _check_sampling_beside_thinking(body)


def _check_ranges(body: Body) -> None:
    for field in ("temperature", "top_p"):
        value = body.get(field)
        if value is not None and not 0 <= value <= 1:
            raise invalid(f"{field}: range: 0..1")


def _check_sampling_beside_thinking(body: Body) -> None:
    if body.get("temperature") not in (None, 1):
        raise invalid("temperature: may only be set to 1 when thinking is enabled or in adaptive mode")
    if body.get("top_k") is not None:
        raise invalid("top_k: must be unset when thinking is enabled or in adaptive mode")
    if body.get("top_p") is not None and body["top_p"] < 0.95:
        raise invalid("top_p: must be at least 0.95 when thinking is enabled or in adaptive mode")


def _check_roles(body: Body, rules: Rules) -> None:
    messages: list[dict[str, Any]] = body["messages"]
    if rules["system_role"] == "no":
        place = next((place for place, message in enumerate(messages) if message["role"] == "system"), None)
        if place is not None:
            raise invalid(f"messages.{place}.role: role 'system' is not supported on this model")
    last = messages[-1]
    if last["role"] == "assistant" and not _resumes_server_tool(last):
        _check_prefill(last, body, rules)


def _check_prefill(last: dict[str, Any], body: Body, rules: Rules) -> None:
    if rules["prefill"] == "no":
        raise invalid(
            "messages: This model does not support assistant message prefill. The conversation must end with "
            "a user message."
        )
    if _asks_to_think(body):
        raise invalid("messages: an assistant message cannot be prefilled when thinking is enabled")
    if isinstance(last["content"], str) and last["content"] != last["content"].rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")


def _resumes_server_tool(message: dict[str, Any]) -> bool:
    return any(part["type"] == "server_tool_use" for part in parts_of(message["content"]))


def _check_tool_use(body: Body, rules: Rules, *, counting: bool) -> None:
    if _is_forced(body):
        if rules["forced_tools"] == "no":
            raise invalid("tool_choice: types 'any' and 'tool' are not supported on this model")
        if rules["forced_tools"] == "plain" and part_of(body, "thinking").get("type") == "enabled":
            raise invalid("tool_choice: Thinking may not be enabled when tool_choice forces tool use.")
    for index, tool in enumerate(parts_of(body.get("tools"))):
        kind = str(tool.get("type", "custom"))
        if kind.startswith("computer_") and rules["computer"] not in COMPUTER_TOOLS.get(kind, ()):
            raise invalid(f"tools.{index}: tool type {kind!r} is not supported on this model")
        if counting and kind.startswith(("web_search_", "web_fetch_", "code_execution_")):
            raise invalid(f"tools.{index}: server tools are not supported for token counting")


def _check_extras(body: Body, rules: Rules, betas: str) -> None:
    for field, check in _EXTRAS:
        if body.get(field) is not None:
            check(body[field], rules, betas)


def _check_geo(geo: Any, rules: Rules, _betas: str) -> None:
    if rules["inference_geo"] == "no":
        raise invalid("inference_geo: not supported on this model")
    if geo not in ("us", "global"):
        raise invalid("inference_geo: Input should be 'us' or 'global'")


def _check_speed(speed: Any, rules: Rules, betas: str) -> None:
    if speed not in ("standard", "fast"):
        raise invalid("speed: Input should be 'standard' or 'fast'")
    if rules["speed"] == "beta" and FAST_MODE_BETA not in betas:
        raise invalid("speed: Extra inputs are not permitted")
    if rules["speed"] == "no" and speed == "fast":
        raise invalid("speed: 'fast' is not supported on this model")


def _check_service_tier(tier: Any, _rules: Rules, _betas: str) -> None:
    if tier not in ("auto", "standard_only"):
        raise invalid("service_tier: Input should be 'auto' or 'standard_only'")


def _check_context_management(config: Any, rules: Rules, _betas: str) -> None:
    edits: list[Any] = config.get("edits") or []
    if rules["compaction"] == "no" and any(edit.get("type") == "compact_20260112" for edit in edits):
        raise invalid("context_management.edits: compact_20260112 is not supported on this model")


def _check_compaction(_config: Any, rules: Rules, _betas: str) -> None:
    if rules["compaction"] == "no":
        raise invalid("compaction: not supported on this model")


def _check_fallbacks(fallbacks: Any, rules: Rules, _betas: str) -> None:
    cell = rules["fallbacks"]
    if cell == "no":
        raise invalid("fallbacks: not supported on this model")
    if fallbacks == "default":
        return
    if not is_list(fallbacks):
        raise invalid("fallbacks: Input should be a valid list or 'default'")
    models = {entry.get("model") if is_object(entry) else None for entry in fallbacks}
    if cell == "dflt" or (cell == "son5" and models != {"claude-sonnet-5"}):
        raise invalid("fallbacks: these fallback models are not supported on this model")


def _check_stop_sequences(sequences: Any, _rules: Rules, _betas: str) -> None:
    if not all(isinstance(sequence, str) and sequence.strip() for sequence in sequences):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


_EXTRAS: Final[Sequence[tuple[str, Callable[[Any, Rules, str], None]]]] = (
    ("inference_geo", _check_geo),
    ("speed", _check_speed),
    ("service_tier", _check_service_tier),
    ("context_management", _check_context_management),
    ("compaction", _check_compaction),
    ("fallbacks", _check_fallbacks),
    ("stop_sequences", _check_stop_sequences),
)


def _effort(body: Body) -> Any:
    return part_of(body, "output_config").get("effort")


def _is_forced(body: Body) -> bool:
    return part_of(body, "tool_choice").get("type") in ("any", "tool")


def _asks_to_think(body: Body) -> bool:
    return part_of(body, "thinking").get("type") in ("enabled", "adaptive")
