"""A drawing as a web page that stands alone: the picture, and the layers as a table below it."""

from __future__ import annotations

from html import escape

from onnxprune.drawing.svg import Marks, share_gone, svg
from onnxprune.drawing.values import Drawing

__all__ = ["page"]

STYLE = """
body { margin: 24px auto; max-width: 1400px; padding: 0 16px; color: #1c2733; background: #fff;
  font: 14px/1.5 Inter, "Segoe UI", Helvetica, Arial, "DejaVu Sans", sans-serif; }
svg { max-width: 100%; height: auto; }
.box:hover rect, .box:hover circle { stroke: #1c2733; stroke-width: 1.6; }
table { border-collapse: collapse; margin-top: 24px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid #e3e8ed; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
th { color: #5d6b79; font-weight: 600; }
"""
COLUMNS = ("layer", "type", "units", "output", "parameters", "MACs", "to be removed")


def page(drawing: Drawing, marks: Marks | None = None, *, title: str = "Architecture") -> str:
    """The text of an HTML file, without scripts and without anything from elsewhere."""
    marks = marks or Marks()
    rows = []
    for box in drawing.sketch.boxes:
        share = share_gone([box], marks.gone)
        cells = (
            box.name, box.word, f"{box.units:,} {box.unit_word}" if box.units is not None else "",
            "×".join(map(str, box.shape or ())), f"{box.parameters:,}" if box.parameters else "",
            f"{box.macs:,}" if box.macs else "", f"{share:.1%}" if share else "",
        )  # fmt: skip
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th scope=col>{escape(column)}</th>" for column in COLUMNS)
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>\n"
        f"<h1>{escape(title)}</h1>\n{svg(drawing, marks)}<table><thead><tr>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></html>\n"
    )
