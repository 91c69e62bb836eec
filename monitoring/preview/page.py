"""The page that shows all pictures, and pictures as PNG."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

from monitoring.preview.colours import Theme
from monitoring.preview.dashboard import Dashboard
from monitoring.preview.prometheus import PreviewError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT_SECONDS = 60


def index(dashboards: Sequence[Dashboard], theme: Theme) -> str:
    """HTML with every picture, which are beside it."""
    links = " · ".join(f'<a href="#{escape(each.name)}">{escape(each.title)}</a>' for each in dashboards)
    images = "\n".join(
        f'<section id="{escape(each.name)}"><img src="{escape(each.name)}.svg" alt="{escape(each.title)}"></section>'
        for each in dashboards
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Dashboards</title>
<style>
body {{ margin: 0; background: {theme.canvas}; color: {theme.muted}; font: 14px/1.5 system-ui, sans-serif; }}
nav {{ padding: 12px 16px; }} a {{ color: {theme.text}; }}
img {{ display: block; max-width: 100%; margin: 0 auto 32px; }}
</style>
<nav>{links}</nav>
{images}
</html>
"""


def browser() -> str:
    """The program that makes a PNG.

    Raises:
        PreviewError: if there is none.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise PreviewError("--png needs chromium on PATH (Debian: apt install chromium); the SVG files need nothing")
    return found


def photograph(program: str, picture: Path, width: int, height: int) -> None:
    """Write a PNG beside an SVG file.

    Raises:
        PreviewError: if the browser makes none.
    """
    target = picture.with_suffix(".png")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program,
            "--headless",
            # Its sandbox refuses to run as root; it opens nothing but our own file.
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--screenshot={target.resolve()}",
            picture.resolve().as_uri(),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            raise PreviewError(f"{program} made no {target.name}: {error}") from None
