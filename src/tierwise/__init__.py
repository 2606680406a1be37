"""Tierwise decides which model tier handles each call of a fleet of agents, and what it may cost.

    import tierwise

    router = tierwise.Router.from_file("tierwise.toml")
    decision = router.route("extraction")

    client = anthropic.Anthropic(middleware=[tierwise.middleware(router)])
    with tierwise.task("extraction", run="run-7", agent="reader"):
        client.messages.create(...)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tierwise.client.middleware import middleware
    from tierwise.client.outcomes import outcome
    from tierwise.client.session import Session
    from tierwise.client.tasks import in_task, task
    from tierwise.client.transport import AsyncTransport, Transport
    from tierwise.core.checks import Reply
    from tierwise.core.decision import Decision
    from tierwise.engine.router import Router
    from tierwise.errors import PolicyError, TierwiseError, UnknownTaskType

    __version__: str

__all__ = [
    "AsyncTransport",
    "Decision",
    "PolicyError",
    "Reply",
    "Router",
    "Session",
    "TierwiseError",
    "Transport",
    "UnknownTaskType",
    "__version__",
    "in_task",
    "middleware",
    "outcome",
    "task",
]

_HOMES: Final = {
    "AsyncTransport": "tierwise.client.transport",
    "Decision": "tierwise.core.decision",
    "PolicyError": "tierwise.errors",
    "Reply": "tierwise.core.checks",
    "Router": "tierwise.engine.router",
    "Session": "tierwise.client.session",
    "TierwiseError": "tierwise.errors",
    "Transport": "tierwise.client.transport",
    "UnknownTaskType": "tierwise.errors",
    "in_task": "tierwise.client.tasks",
    "middleware": "tierwise.client.middleware",
    "outcome": "tierwise.client.outcomes",
    "task": "tierwise.client.tasks",
}


if not TYPE_CHECKING:  # a type checker knows the names above, and no others

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415 — takes longer than the rest together

            value = version("tierwise")
        elif name in _HOMES:
            value = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
