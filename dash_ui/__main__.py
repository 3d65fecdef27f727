"""``python -m dash_ui FOLDER [PORT]``: the app while it is being worked on; ``onnxprune ui`` serves it to people."""

from __future__ import annotations

import sys
from pathlib import Path

from dash_ui.app import create

if __name__ == "__main__":
    create(Path(sys.argv[1])).run(port=int((sys.argv[2:] or ["8050"])[0]), debug=False)
