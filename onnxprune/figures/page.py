r"""One HTML page that holds its charts and all that draws them, and asks nothing of the network.

The figures lie in the page as JSON, so that the numbers can be read back; ``<`` is written as ``\u003c`` there, so
that no name can end the block. The page's content policy forbids every request.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from onnxprune.figures.chart import Figure
from onnxprune.figures.interactive import CONFIG, FONT, to_plotly

__all__ = ["page"]

# The upload that the settings switch off is taken out of the library's text as well: its address and its button's name.
_CLOUD = ("https://cloud.plotly.com/newchart", "Share chart...", "Share chart")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ margin: 0; background: #f4f6f8; font-family: {font}; }}
main {{ display: grid; gap: 16px; padding: 16px; grid-template-columns: repeat({columns}, minmax(0, 1fr)); \
max-width: {width}px; margin: 0 auto; align-items: start; }}
figure {{ margin: 0; padding: 4px 12px; background: #fff; border: 1px solid #e2e7eb; border-radius: 6px; \
overflow-x: auto; }}
figure text {{ font-variant-numeric: tabular-nums; }}
@media (max-width: 1000px) {{ main {{ grid-template-columns: minmax(0, 1fr); }} }}
</style>
<script>window.PlotlyConfig = {{MathJaxConfig: "local"}};</script>
<script>{library}</script>
</head>
<body>
<main>
{figures}
</main>
<script type="application/json" id="charts">{charts}</script>
<script>
const charts = JSON.parse(document.getElementById("charts").textContent);
const config = {config};
charts.forEach((chart, i) => Plotly.newPlot("chart-" + i, chart.data, chart.layout, config));
</script>
</body>
</html>
"""


def page(figures: Sequence[Figure]) -> str:
    """The page of some charts: one or two in a column, more in two."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - half a second, for this page only

    library: str = get_plotlyjs()
    for text in _CLOUD:
        library = library.replace(text, "")
    columns = 1 if len(figures) <= 2 else 2
    return _PAGE.format(
        title=html.escape(figures[0].title),
        font=FONT,
        columns=columns,
        width=1080 if columns == 1 else 1800,
        library=library,
        figures="\n".join(f'<figure><div id="chart-{i}"></div></figure>' for i in range(len(figures))),
        charts=_json([to_plotly(figure) for figure in figures]),
        config=_json(dict(CONFIG)),
    )


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
