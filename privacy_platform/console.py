"""What commands have in common: where they print, how they fail, and how they are registered."""

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from privacy_platform.errors import PrivacyPlatformError

__all__ = ["Json", "command", "err", "out", "show_json", "show_table"]

# Output that is not to a terminal is read by programs or kept in logs: never fold it to 80 columns.
out = Console() if sys.stdout.isatty() else Console(width=160)
err = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=160)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
P = ParamSpec("P")
R = TypeVar("R")


def command(group: typer.Typer, name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command whose platform errors end in a line on stderr and exit code 1, never in a traceback."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        @group.command(name)
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except PrivacyPlatformError as error:
                message = str(error)
            except OSError as error:
                message = f"{error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}"
            err.print(f"[bold red]Error:[/] {escape(message)}", highlight=False, soft_wrap=True)
            raise typer.Exit(1)

        return guarded

    return register


def show_json(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns that start with `#` are right-aligned."""
    table = RichTable(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)
