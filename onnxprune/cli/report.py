"""A readable report: sections of tables and text, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnxprune._atomic import replacing
from onnxprune.errors import ModelSaveError

__all__ = ["Section", "markdown", "write_report"]


@dataclass(frozen=True)
class Section:
    """A heading, a table (columns in ``right`` aligned to the right) and lines of text under it."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    right: Sequence[int] = ()
    text: Sequence[str] = ()


def markdown(title: str, sections: Sequence[Section]) -> str:
    """The sections as one Markdown document."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        if section.rows:
            parts.append(_table(section))
        parts += [_escape(line) for line in section.text]
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> str:
    rule = ["---:" if number in section.right else "---" for number in range(len(section.columns))]
    rows = (section.columns, rule, *section.rows)
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in row)} |" for row in rows)


def _escape(text: str) -> str:
    """Text of a model may hold what Markdown takes for a column or a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the report. Raises ModelSaveError, which names the file."""
    try:
        with replacing(path) as file:
            file.write(markdown(title, sections).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ModelSaveError(
            f"{path} cannot be written: {error.strerror or error}", "Check the free space and the permissions."
        ) from error
