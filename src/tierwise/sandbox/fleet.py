"""A fleet of agents as data: which tasks it does, how often, how long, and which tier each truly needs.

A fleet file (`fleet.toml` ships with the package) has a table `[types.NAME]` for each task type. `plan` turns
it into the calls of a day; the sandbox draws the replies to them. All draws are hashes of (seed, type, task,
call), so the same task gets the same prompt, reply and bill, in whatever order and however many at a time.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from itertools import pairwise
from math import exp
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final, Literal

import msgspec

Tier = Literal["frontier", "fast"]


class TaskType(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of task. Lengths are medians in tokens of the new tokenizer, spreads are lognormal sigmas."""

    share: float
    """Its part of the fleet's tasks."""
    asked_model: str
    """What its callers asked for before any routing."""
    asked_max_tokens: int
    tagged_tier: Tier
    """The tier its team chose for it."""
    needs: Tier
    """The tier it truly needs."""
    success_frontier: float
    """The probability that a frontier model's answer is right."""
    success_fast: float
    prompt_tokens: int
    prompt_sigma: float = 0.6
    output_tokens: int
    output_sigma: float = 0.5
    thinking_tokens: int = 0
    """Where the model thinks, at effort high."""
    runaway_share: float = 0.0
    """How often a reply does not find its end, and runs for `runaway_tokens`."""
    runaway_tokens: int = 24_000
    calls: tuple[float, ...] = (1.0,)
    """The weights of tasks that take one call, two calls, and so on."""
    stream_share: float = 0.0
    tools: bool = False
    """Whether all calls of a task but its last answer with a tool use."""
    system_tokens: int = 0
    """The length of the system prompt that all its calls share, marked for the cache; 0 for none."""
    agents: tuple[str, ...]


class Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fleet file."""

    agreement: float
    """How often both tiers stand or fall with the same draw; otherwise they are right independently."""
    tasks_per_run: int
    types: dict[str, TaskType]


class FleetError(ValueError):
    """A fleet file cannot be used: `problem`, in `source`."""

    def __init__(self, source: str, problem: str) -> None:
        """Name the file and what is wrong in it."""
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


def load(path: Path | None = None) -> Fleet:
    """Read a fleet file; None reads the one in the package. Raises FleetError."""
    source = str(path) if path else "the fleet of the package"
    try:
        text = path.read_text() if path else files("tierwise.sandbox").joinpath("fleet.toml").read_text()
        fleet = msgspec.convert(tomllib.loads(text), Fleet)
    except OSError as error:
        raise FleetError(source, f"cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise FleetError(source, str(error)) from error
    problem = next(_problems(fleet), None)
    if problem:
        raise FleetError(source, problem)
    return fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """One call of a task, as its agent makes it before any routing."""

    seq: int
    prompt: str
    """The user's turn, with its directive; a tool result goes before it where the last reply asked for one."""
    model: str
    max_tokens: int
    stream: bool
    tools: bool
    """Whether to offer `TOOLS`."""
    system: str | None
    """To be sent as one text block marked for the cache; None for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """One task; its calls are made one after the other, each on the conversation so far."""

    type: str
    task: str
    """Unique in a plan."""
    run: str
    agent: str
    calls: tuple[PlannedCall, ...]


TOOLS: Final[Sequence[Mapping[str, Any]]] = (
    {
        "name": "look_up",
        "description": "Look up a record by its key.",
        "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    },
)
"""The tools a planned call offers."""


def plan(fleet: Fleet, tasks: int, seed: int, *, full_prompts: bool = False) -> list[PlannedTask]:
    """The tasks of a day in the order they come, types interleaved by their shares.

    A prompt is short and stands for its length by a directive, which a caller that bounds the length of a
    prompt by its bytes will underestimate; `full_prompts` sends the text in full length instead.
    """
    order = _interleave({name: task_type.share for name, task_type in fleet.types.items()}, tasks, seed)
    return [
        _planned(fleet, name, place, seed=seed, full_prompts=full_prompts) for place, name in enumerate(order)
    ]


def request_of(call: PlannedCall, conversation: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The arguments of `messages.create` for a planned call.

    `conversation` is the messages so far as JSON values, the last reply included; where that used tools, the
    results go before the prompt.
    """
    content: list[Mapping[str, Any]] = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "found"}
        for block in (conversation[-1]["content"] if conversation else ())
        if block["type"] == "tool_use"
    ]
    content.append({"type": "text", "text": call.prompt})
    arguments: dict[str, Any] = {
        "model": call.model,
        "max_tokens": call.max_tokens,
        "messages": [*conversation, {"role": "user", "content": content}],
    }
    if call.stream:
        arguments["stream"] = True
    if call.tools:
        arguments["tools"] = list(TOOLS)
    if call.system is not None:
        arguments["system"] = [{"type": "text", "text": call.system, "cache_control": {"type": "ephemeral"}}]
    return arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long one reply would be without a cap, in tokens of the new tokenizer."""

    thinking: int
    """At effort high."""
    output: int
    runaway: bool


def draw_lengths(task_type: TaskType, name: str, task: str, seq: int, seed: int) -> Lengths:
    """The lengths of one call's reply, whichever model answers."""
    draws = _draws(seed, "reply", name, task, seq)
    runaway = draws[0] < task_type.runaway_share
    median = task_type.runaway_tokens if runaway else task_type.output_tokens
    return Lengths(
        thinking=_lognormal(task_type.thinking_tokens, 0.5, draws[2]),
        output=_lognormal(median, 0.3 if runaway else task_type.output_sigma, draws[1]),
        runaway=runaway,
    )


def answer(fleet: Fleet, name: str, task: str, tier: Tier, seed: int) -> str:
    """The eight hex digits that a model of `tier` answers a task with; see `is_right`."""
    task_type = fleet.types[name]
    draws = _draws(seed, "answer", name, task, 0)
    alone = 1 if tier == "frontier" else 2
    draw = draws[3] if draws[0] < fleet.agreement else draws[alone]
    success = task_type.success_frontier if tier == "frontier" else task_type.success_fast
    right = right_answer(seed, name, task)
    return right if draw < success else f"{int(right, 16) ^ 0xFFFFFFFF:08x}"


def right_answer(seed: int, name: str, task: str) -> str:
    """The eight hex digits that are the right answer to a task.

    The first is one of 0 to 7, and that of a wrong answer is not: a check that knows no task can tell.
    """
    digest = blake2b(f"{seed}|right|{name}|{task}".encode(), digest_size=4).hexdigest()
    return f"{int(digest, 16) & 0x7FFFFFFF:08x}"


def is_right(text: str, seed: int, name: str, task: str) -> bool:
    """Whether a reply's text gives the right answer; a reply that was cut before its answer does not."""
    right = right_answer(seed, name, task)
    return text.startswith((f"answer: {right}", f'{{"answer":"{right}"'))


def filler(size: int, offset: int) -> str:
    """Plain text of exactly `size` ASCII characters."""
    start = offset % len(_FILLER)
    return (_FILLER[start:] + _FILLER * (size // len(_FILLER) + 1))[:size]


_FILLER: Final = (
    "The reader compares what the first source says with what the second one leaves out and notes where they "
    "differ. A figure that appears twice is taken once. Dates are written in full and names as given. What "
    "cannot be settled from the text is marked as open and handed on with the place where it was found. "
) * 8

_BYTES_PER_TOKEN: Final = (18, 5)  # of the new tokenizer; `tokens` documents it


def _problems(fleet: Fleet) -> Iterator[str]:
    total = sum(task_type.share for task_type in fleet.types.values())
    if abs(total - 1) > 1e-9:
        yield f"the shares of the types add up to {total:.6f}, not 1"
    if not 0 <= fleet.agreement <= 1:
        yield "agreement is a probability"
    if fleet.tasks_per_run < 1:
        yield "tasks_per_run is at least 1"
    for name, task_type in fleet.types.items():
        for field in ("share", "success_frontier", "success_fast", "runaway_share", "stream_share"):
            if not 0 <= getattr(task_type, field) <= 1:
                yield f"types.{name}.{field} is between 0 and 1"
        for field in ("prompt_tokens", "output_tokens", "asked_max_tokens", "runaway_tokens"):
            if getattr(task_type, field) < 1:
                yield f"types.{name}.{field} is at least 1"
        if not task_type.calls or min(task_type.calls) < 0 or sum(task_type.calls) <= 0:
            yield f"types.{name}.calls holds weights, not all of them 0"
        if not task_type.agents:
            yield f"types.{name}.agents names at least one agent"


def _interleave(shares: Mapping[str, float], tasks: int, seed: int) -> list[str]:
    places = [
        ((index + _draws(seed, "place", name, str(index), 0)[0]) / count, name)
        for name, count in _quotas(shares, tasks).items()
        for index in range(count)
    ]
    return [name for _, name in sorted(places)]


def _quotas(shares: Mapping[str, float], tasks: int) -> dict[str, int]:
    """Whole numbers in proportion to the shares that add up to `tasks`: the cumulative share, rounded."""
    bounds = [0]
    total = 0.0
    for share in shares.values():
        total += share
        bounds.append(round(total * tasks))
    return {name: high - low for name, (low, high) in zip(shares, pairwise(bounds), strict=True)}


def _planned(fleet: Fleet, name: str, place: int, *, seed: int, full_prompts: bool) -> PlannedTask:
    task_type = fleet.types[name]
    run = f"run-{place // fleet.tasks_per_run}"
    task = f"{run}/t{place % fleet.tasks_per_run}"
    draws = _draws(seed, "task", name, task, 0)
    count = 1 + _pick(task_type.calls, draws[0])
    stream = draws[1] < task_type.stream_share
    return PlannedTask(
        type=name,
        task=task,
        run=run,
        agent=task_type.agents[int(draws[2] * len(task_type.agents))],
        calls=tuple(
            PlannedCall(
                seq=seq,
                prompt=_prompt(
                    task_type, name, task, seq, seed=seed, full=full_prompts, last=seq == count - 1
                ),
                model=task_type.asked_model,
                max_tokens=task_type.asked_max_tokens,
                stream=stream,
                tools=task_type.tools,
                system=_system(name, task_type.system_tokens),
            )
            for seq in range(count)
        ),
    )


def _prompt(task_type: TaskType, name: str, task: str, seq: int, *, seed: int, full: bool, last: bool) -> str:
    draw = _draws(seed, "prompt", name, task, seq)[0]
    median = task_type.prompt_tokens if seq == 0 else task_type.prompt_tokens // 4
    tokens = max(_LEAST_PROMPT_TOKENS, _lognormal(median, task_type.prompt_sigma, draw))
    words = [f"type={name}", f"task={task}", f"seq={seq}"]
    if task_type.tools:
        words.append("reply=text" if last else "reply=tool_use")
    if not full:
        words.append(f"prompt_tokens={tokens}")
        return f"Do this {name} task. [[sandbox {' '.join(words)}]]"
    opening = f"Do this {name} task. [[sandbox {' '.join(words)}]]\n"
    over, under = _BYTES_PER_TOKEN
    return opening + filler(max(0, tokens * over // under - len(opening)), int(draw * 1000))


_LEAST_PROMPT_TOKENS: Final = 40


@lru_cache(maxsize=256)
def _system(name: str, tokens: int) -> str | None:
    if not tokens:
        return None
    over, under = _BYTES_PER_TOKEN
    opening = f"You do {name} tasks for a fleet of agents. Begin with the answer.\n"
    return opening + filler(max(0, tokens * over // under - len(opening)), len(name))


def _pick(weights: Sequence[float], draw: float) -> int:
    left = draw * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return place
    return len(weights) - 1


def _lognormal(median: int, sigma: float, draw: float) -> int:
    if median == 0:
        return 0
    return max(1, round(median * exp(sigma * _NORMAL.inv_cdf(draw))))


_NORMAL: Final = NormalDist()
_WORDS: Final = 4


def _draws(seed: int, what: str, name: str, task: str, seq: int) -> tuple[float, ...]:
    """Four independent uniform draws, strictly between 0 and 1."""
    digest = blake2b(f"{seed}|{what}|{name}|{task}|{seq}".encode(), digest_size=8 * _WORDS).digest()
    return tuple(
        (int.from_bytes(digest[8 * word : 8 * word + 8], "big") + 0.5) / 2**64 for word in range(_WORDS)
    )
