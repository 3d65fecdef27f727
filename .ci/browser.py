"""See to it that there is a Chromium for the tests that drive one, and install it only where there is none.

    .venv/bin/python .ci/browser.py

Taken is what ``$CHROMIUM`` names, then an installed one, then Playwright's own. Where there is none: as root on Debian
and its relatives the package of the system, elsewhere Playwright's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def installed() -> str | None:
    """The browser that the tests will find."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    return next((path for name in NAMES if (path := shutil.which(name))), None) or bundled()


def bundled() -> str | None:
    """Playwright's own, where it was downloaded."""
    code = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    path = found.stdout.strip()
    return path if path and Path(path).exists() else None


def install() -> None:
    """Raises CalledProcessError where it cannot be had."""
    apt = shutil.which("apt-get")
    if apt is not None and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        print("browser: apt-get install chromium", flush=True)
        subprocess.run([apt, "update", "-qq"], env=quiet, check=True)
        packages = ["chromium", "fonts-dejavu-core"]
        subprocess.run([apt, "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet, check=True)
        return
    print("browser: playwright install chromium", flush=True)
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


def main() -> int:
    """0 where there is one in the end."""
    try:
        if installed() is None:
            install()
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"browser: {error}", file=sys.stderr)
    found = installed()
    if found is None:
        print("browser: there is none; install Chromium, or name one with CHROMIUM=/path/to/it", file=sys.stderr)
        return 1
    print(f"browser: {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
