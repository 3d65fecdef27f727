"""What a person sees: results on stdout, messages and progress on stderr, figures in words.

With ``--json`` stdout holds one JSON document and nothing else. Text of models and files is printed as it is: Rich's
markup is off, since tensor names have brackets in them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

__all__ = [
    "Report",
    "change",
    "count",
    "emit_json",
    "megabytes",
    "milliseconds",
    "plain",
    "progress",
    "say",
    "show",
    "table",
    "warn",
]

WIDE = 200  # columns where the output is not a terminal: a table in a file must not be cut at 80
SECOND = 1000.0  # milliseconds

# Called with a stage in words, how much of it is done, and out of how many (0: unknown).
Report = Callable[[str, int, int], None]


def _console(*, stderr: bool) -> Console:
    """Made anew each time, so that it writes to what sys.stdout and sys.stderr are now."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if terminal else WIDE)


def show(*parts: Any, style: str | None = None) -> None:
    """Print results to stdout."""
    _console(stderr=False).print(*parts, style=style, soft_wrap=all(isinstance(p, str) for p in parts))


def say(text: str, style: str | None = None) -> None:
    """Print a message to stderr."""
    _console(stderr=True).print(text, style=style, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning to stderr."""
    say(f"Warning: {text}", "yellow")


def emit_json(value: Mapping[str, Any]) -> None:
    """Print one JSON document to stdout; what is not a finite number becomes null."""
    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """The same in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int) else str(value)


@contextmanager
def progress(title: str, *, remaining: bool = False) -> Iterator[Report]:
    """A progress bar on stderr while the block runs; nothing where stderr is not a terminal.

    ``remaining``: also estimate how long it will take.
    """
    console = _console(stderr=True)
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
    ]
    if remaining:
        columns += [MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def report(stage: str, done: int = 0, total: int = 0) -> None:
            bar.update(task, description=stage, completed=done, total=total or None)

        yield report


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Sequence[int] = ()) -> Table:
    """A table; the columns of the numbers in ``right`` are aligned to the right."""
    result = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        result.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        result.add_row(*row)
    return result


def count(value: float) -> str:
    """A number of things: ``1,234`` up to six digits, then ``25.6 M``."""
    for limit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {name}"
    return f"{value:,.0f}"


def megabytes(value: float) -> str:
    """A number of bytes."""
    for limit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{value / limit:.4g} {name}"
    return f"{value:.0f} B"


def milliseconds(value: float) -> str:
    """A time."""
    return f"{value:.3g} ms" if value < SECOND else f"{value / SECOND:.3g} s"


def change(before: float, after: float) -> str:
    """What is left, as a share: ``48.3%``."""
    return f"{after / before:.1%}" if before else "-"
