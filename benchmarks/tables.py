"""One table, three ways to write it: Rich on the terminal, Markdown for the docs, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["emit", "markdown", "percent", "save_json"]

PLAIN_WIDTH = 200  # columns, where the output is no terminal


def percent(share: float | None) -> str:
    """A share as a percentage; a dash for none."""
    return "-" if share is None else f"{100 * share:.1f}%"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are right-aligned."""
    lines = [list(columns), ["---", *("---:" for _ in columns[1:])], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def emit(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, as_markdown: bool) -> None:
    """Print a table."""
    if as_markdown:
        print(f"### {title}\n\n{markdown(columns, rows)}\n")
        return
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def save_json(path: Path | None, value: Any) -> None:
    """Write a value as JSON, if there is a path."""
    if path is not None:
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
