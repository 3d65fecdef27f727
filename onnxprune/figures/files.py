"""Charts into a file; the name's ending says which kind."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from onnxprune._atomic import replacing
from onnxprune.errors import OptionError
from onnxprune.figures.chart import Chart, Figure, Heatmap
from onnxprune.figures.page import page
from onnxprune.figures.still import to_matplotlib

__all__ = ["EXTENSIONS", "check_path", "write"]

EXTENSIONS = (".html", ".png", ".svg", ".pdf")
_DPI = 150
# matplotlib reads how it saves from settings of the process: ours for the time of one file, one file at a time.
_SAVING = threading.Lock()
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "onnxprune", "pdf.fonttype": 42}
_NO_DATE = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def write(figures: Figure | Sequence[Figure], path: str | os.PathLike[str]) -> None:
    """Draw one chart or several into a file: .html stands alone and can be explored, .png, .svg and .pdf are pictures.

    The same charts give the same bytes. Raises OptionError for another ending, for a picture without matplotlib, for
    no chart, and where the file cannot be written; what was there before is then still there.
    """
    file = Path(path)
    charts = [figures] if isinstance(figures, Chart | Heatmap) else list(figures)
    if not charts:
        raise OptionError(f"there is no chart to write to {file}", "Give at least one chart.")
    check_path(file)
    kind = file.suffix.lower()
    content = page(charts).encode() if kind == ".html" else _picture(charts, kind)
    try:
        with replacing(file) as out:
            out.write(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"cannot write {file}: {reason}", "Name a file in a folder that can be written.") from error


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise OptionError where ``write`` could not make such a file; for a command to ask before hours of work."""
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in EXTENSIONS:
        got = f"the ending {file.suffix!r}" if file.suffix else "no ending"
        raise OptionError(f"cannot draw {file}: {got}", f"Name a file that ends in {', '.join(EXTENSIONS)}.")
    if kind != ".html" and find_spec("matplotlib") is None:
        raise OptionError(
            f"{file}: a {kind} file needs matplotlib", "Run pip install 'onnxprune[plot]', or name a .html file."
        )


def _picture(figures: Sequence[Figure], kind: str) -> bytes:
    from matplotlib import style  # noqa: PLC0415 - optional

    buffer = io.BytesIO()
    with _SAVING, style.context(["default", _SETTINGS]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for it, as the font has it
        drawing = to_matplotlib(figures)
        drawing.savefig(buffer, format=kind[1:], dpi=_DPI, metadata=_NO_DATE[kind])
    return buffer.getvalue()
