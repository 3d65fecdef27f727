"""Files: a page that asks nothing of the network, pictures that show something, errors that say what to do."""

from __future__ import annotations

import importlib.util
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from onnxprune.errors import OptionError
from onnxprune.figures import (
    CONFIG,
    EXTENSIONS,
    AxisSpec,
    Chart,
    Figure,
    Heatmap,
    Line,
    Series,
    check_path,
    to_plotly,
    write,
)

ACCURACY = AxisSpec("accuracy", ".2%")
RATIO = AxisSpec("removed", ".0%")
NAMES = [f"/model/encoder/layers.{i}/attention/MatMul_output_0" for i in range(300)]
HOSTILE = "</script><script>alert(1)</script> $x_1$ _<b>"


def lines(count: int = 3, **more: Any) -> Chart:
    x = np.linspace(0, 0.9, 7)
    series = tuple(Series(f"criterion {i}", x, 0.98 - x**2 * (i + 1) / count, **more) for i in range(count))
    return Chart("Accuracy by ratio", RATIO, ACCURACY, series, lines=(Line(0.98, "original"),), note="360 samples")


def bars() -> Chart:
    random = np.random.default_rng(0).random(300)
    return Chart("Instability", AxisSpec("instability"), AxisSpec("group"), (Series("all", random, NAMES),), "bars")


def matrix(classes: int) -> Heatmap:
    names = [f"class number {i}, with a long name" for i in range(classes)]
    values = np.random.default_rng(0).integers(0, 9, (classes, classes))
    axes = AxisSpec("true", categories=names), AxisSpec("predicted", categories=names)
    return Heatmap("Confusion", *axes, values, AxisSpec("samples", ",.0f"))


def bubbles() -> Chart:
    series = Series("conv", [1, 10], [0.1, 0.2], "points", labels=["a", "b"], sizes=[1, 2], low=[0, 0.1], high=[1, 1])
    return Chart("Bubbles", AxisSpec("x", log=True), ACCURACY, (series,), lines=(Line(3, "threshold", "x"),))


def grouped() -> Chart:
    after = Series("after", ["a", "b"], [0.5, np.nan], low=[0.4, 0.1], high=[0.6, 0.2])
    return Chart("Two", AxisSpec("group"), ACCURACY, (Series("before", ["a", "b"], [1, 2]), after), "bars")


FIGURES: dict[str, Figure] = {
    "lines": lines(),
    "band": lines(2, low=[0.1] * 7, high=[0.9] * 7),
    "15 lines": lines(15),
    "100 lines": lines(100),
    "300 bars": bars(),
    "grouped bars": grouped(),
    "300 groups across": Chart("Groups", AxisSpec("group"), ACCURACY, (Series("s", NAMES, [0.5] * 300),)),
    "bubbles": bubbles(),
    "area": Chart("Area", RATIO, ACCURACY, (Series("s", [0, 1, 2], [1, np.nan, 3]),), "area"),
    "bars on numbers": Chart("Histogram", RATIO, ACCURACY, (Series("s", [0, 0.5, 1], [1, 2, 3]),), "bars"),
    "40 point series": Chart("P", RATIO, ACCURACY, tuple(Series(f"s{i}", [i], [i], "points") for i in range(40))),
    "nothing": Chart("Nothing", RATIO, ACCURACY),
    "hostile": Chart(
        HOSTILE, AxisSpec(HOSTILE), AxisSpec(HOSTILE), (Series(HOSTILE, [HOSTILE], [1]),) * 2, note=HOSTILE
    ),
    "matrix": matrix(10),
    "differences": Heatmap("D", AxisSpec(categories="ab"), AxisSpec(categories="cd"), [[-1, 0.5], [np.nan, 0]]),
}


class Page(HTMLParser):
    """What a page would load, and the charts in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.charts: list[dict[str, Any]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [f"{tag} {name}={value}" for name, value in attrs if name in {"src", "href", "action"}]
        self._inside = ("id", "charts") in attrs

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.charts = json.loads(data)
            self._inside = False


@pytest.mark.parametrize("name", FIGURES)
def test_plotly_knows_every_property(name: str) -> None:
    figure = to_plotly(FIGURES[name])
    assert go.Figure(figure).to_plotly_json()["layout"]["title"]["text"].startswith("<b>")
    json.dumps(figure, allow_nan=False)


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_shows_something(name: str, tmp_path: Path) -> None:
    write(FIGURES[name], tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
        width = picture.width
    assert width >= 1000
    assert len(colours) > 20
    assert max(colours)[1] == (255, 255, 255)


def test_a_page_holds_its_charts_and_loads_nothing(tmp_path: Path) -> None:
    chart = lines()
    write([chart, matrix(3)], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == []
    assert "link" not in page.tags
    assert page.charts == [to_plotly(chart), to_plotly(matrix(3))]
    assert page.charts[0]["data"][1]["y"] == list(chart.series[1].y)
    assert "default-src 'none'" in text


def test_a_page_cannot_send_its_charts_anywhere(tmp_path: Path) -> None:
    write(lines(), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Share chart" not in text
    assert "cloud.plotly.com" not in text
    assert '"showSendToCloud":false' in text
    assert '"displaylogo":false' in text
    assert {"sendChartToCloud", "sendDataToCloud"} <= set(CONFIG["modeBarButtonsToRemove"])


def test_names_are_text_on_a_page(tmp_path: Path) -> None:
    write(FIGURES["hostile"], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    (figure,) = Page(text).charts
    assert "<script>" not in json.dumps(figure)
    assert "&lt;/script&gt;" in figure["layout"]["title"]["text"]


def test_hover_gives_full_names_and_exact_values() -> None:
    figure = to_plotly(bars())
    assert figure["data"][0]["hovertext"][7].endswith(f"group: {NAMES[7]}")
    assert figure["layout"]["yaxis"]["labelalias"][NAMES[7]] == "…7…"
    assert "69.00%" in to_plotly(Chart("t", RATIO, ACCURACY, (Series("s", [0], [0.69]),)))["data"][0]["hovertext"][0]


def test_an_svg_holds_its_words_as_text(tmp_path: Path) -> None:
    write([lines(), FIGURES["hostile"]], tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    for word in ("Accuracy by ratio", "criterion 2", "original", "360 samples", "80%", "$x_1$"):
        assert f"{word}" in text
    assert "<text" in text
    assert "<script" not in text


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_same_charts_give_the_same_bytes(extension: str, tmp_path: Path) -> None:
    both = [tmp_path / f"a{extension}", tmp_path / f"b{extension.upper()}"]
    for path in both:
        write([lines(), matrix(3)], path)
    first, second = (path.read_bytes() for path in both)
    assert first == second
    assert len(first) > 5000


def test_a_thousand_classes(tmp_path: Path) -> None:
    figure = matrix(1000)
    write(figure, tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as picture:
        assert min(picture.size) >= 1500
    (heat,) = to_plotly(figure)["data"]
    assert np.array_equal(heat["z"], figure.array)
    assert "texttemplate" not in heat
    assert "texttemplate" in to_plotly(matrix(10))["data"][0]


def test_settings_of_the_process_are_left_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    with mpl.rc_context({"axes.facecolor": "black", "lines.linewidth": 30, "text.usetex": True}):
        write(lines(), tmp_path / "theirs.png")
    write(lines(), tmp_path / "ours.png")
    assert (tmp_path / "theirs.png").read_bytes() == (tmp_path / "ours.png").read_bytes()
    assert dict(mpl.rcParams) == before


def test_another_ending_is_refused_with_those_that_work(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"(?s)the ending '.jpeg'.*\.html, \.png, \.svg, \.pdf"):
        write(lines(), tmp_path / "chart.jpeg")
    with pytest.raises(OptionError, match="no ending"):
        check_path(tmp_path / "chart")
    with pytest.raises(OptionError, match="no chart"):
        write([], tmp_path / "chart.html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"cannot write .*chart.html: No such file"):
        write(lines(), tmp_path / "none" / "chart.html")


def test_a_picture_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("onnxprune.figures.files.find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(OptionError, match=r"(?s)needs matplotlib.*onnxprune\[plot\].*\.html"):
        write(lines(), tmp_path / "chart.png")
    write(lines(), tmp_path / "chart.html")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chart.svg"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnxprune._atomic.os.fsync", full)
    with pytest.raises(OptionError, match="No space left"):
        write(lines(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
