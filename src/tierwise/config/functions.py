"""Functions that the policy names: a module is imported once, from the Python path or from the policy's folder.

What it does when it is imported happens in every process that reads the policy, with all that the process may do: a
policy that names functions is trusted as code is.
"""

import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tierwise.config.kinds import Misfit
from tierwise.config.values import shown
from tierwise.names import nearest


def find_function(module: str, name: str, folder: Path) -> Callable[[Any], Any] | Misfit:
    """Return the function of a module.

    Args:
        module: its dotted name.
        name: the function's, in it.
        folder: where modules are looked for after the Python path. It stays on it, for what the function imports.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        home = import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 — a module may raise whatever it likes, and exit too
        return Misfit(f"cannot import {shown(module)}: {_told(error)}")
    found: Any = getattr(home, name, None)
    if found is None:
        close = nearest(name, vars(home))
        return Misfit(
            f"finds no function {shown(name)} in {module}", f"did you mean {close}?" if close else None
        )
    if not callable(found):
        return Misfit(f"names no function: {shown(name)} of {module} cannot be called")
    if inspect.iscoroutinefunction(found):
        return Misfit(
            f"names a coroutine function: {shown(name)} of {module}", "write a plain one: it has a thread"
        )
    return found


@cache
def source_of(module: str, name: str) -> str | None:
    """The source of a function that was found, as it was when it was first asked for; None where nobody has it."""
    try:
        return inspect.getsource(getattr(sys.modules[module], name))
    except (OSError, TypeError):
        return None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {shown(str(error))}"
