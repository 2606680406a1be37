"""Groups of commands: how a command line is built, for `tierwise` itself and for commands that have commands."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup


def new_typer(*, add_completion: bool, **settings: Any) -> typer.Typer:
    """Begin a plain one: help is text that any pipe and any terminal takes, and a traceback shows no values."""
    return typer.Typer(
        add_completion=add_completion, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
    )


def new_group(about: str, commands: Mapping[str, Callable[..., None]], *, lists: bool = False) -> typer.Typer:
    """Build a command of commands.

    Args:
        about: its help; the first sentence stands in the list of all commands.
        commands: by name, in the order of the help.
        lists: whether it is `list` that is meant where no command is named.
    """
    group = new_typer(add_completion=False, help=about, no_args_is_help=not lists, cls=_CLASSES[lists])
    for name, function in commands.items():
        group.command(name)(function)
    return group


class _Lists(TyperGroup):
    """A group whose command `list` is meant where none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name where it is left out."""
        named = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named or ctx.resilient_parsing else [_LIST, *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the names of commands, and the options of `list`."""
        default = self.commands[_LIST]
        inner = default.make_context(_LIST, [], parent=ctx, resilient_parsing=True)
        return [*super().shell_complete(ctx, incomplete), *default.shell_complete(inner, incomplete)]


_LIST: Final = "list"
_CLASSES: Final = {False: TyperGroup, True: _Lists}
