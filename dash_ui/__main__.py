"""``python -m dash_ui [FOLDER [PORT]]``: what ``onnxprune ui --no-browser`` does."""

from __future__ import annotations

import sys
from pathlib import Path

from dash_ui.cli import PORT, serve

if __name__ == "__main__":
    arguments = dict(enumerate(sys.argv[1:]))
    serve(Path(arguments.get(0, ".")), host="127.0.0.1", port=int(arguments.get(1, PORT)), browser=False, json=False)
