"""`python -m monitoring.preview`: draws every dashboard from what a running Prometheus says."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from monitoring.preview.colours import THEMES
from monitoring.preview.dashboard import duration_seconds, load_all
from monitoring.preview.page import browser, index, photograph
from monitoring.preview.period import SCRAPE_SECONDS, Period
from monitoring.preview.picture import draw, size
from monitoring.preview.prometheus import PreviewError, Prometheus, Unreachable

DASHBOARDS = Path(__file__).parents[1] / "grafana" / "dashboards"
ADVICE = (
    "Start everything with `make up`, which runs Prometheus where its program is installed (Debian: apt install "
    "prometheus), send traffic with `make demo`, and call this again after some minutes; or name another one: "
    'make dashboards-preview ARGS="--url http://…"'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; `arguments` default to those of the process. Returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _write(options)
    except Unreachable as error:
        sys.stderr.write(f"headrace: {error}\n{ADVICE}\n")
        return 1
    except (PreviewError, OSError) as error:
        sys.stderr.write(f"headrace: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.preview", description="Draw the dashboards without Grafana."
    )
    port = os.environ.get("PROMETHEUS_PORT") or "9090"
    parser.add_argument("--url", default=f"http://127.0.0.1:{port}", help="Prometheus (default: that of `make up`)")
    parser.add_argument("--range", type=duration_seconds, help="time to show, such as 5m (default: as dashboards say)")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder (default: docs/images)")
    parser.add_argument("--dashboards", type=Path, default=DASHBOARDS, help="folder of their JSON files")
    parser.add_argument("--theme", choices=THEMES, default="dark")
    parser.add_argument("--scrape-seconds", type=float, default=SCRAPE_SECONDS, help="Prometheus' scrape interval")
    parser.add_argument("--png", action="store_true", help="make a PNG of each too; needs chromium")
    return parser


def _write(options: argparse.Namespace) -> None:
    program = browser() if options.png else None
    theme, now = THEMES[options.theme], time.time()
    dashboards = load_all(options.dashboards)
    if not dashboards:
        raise PreviewError(f"no dashboards in {options.dashboards}")
    with Prometheus(options.url.rstrip("/")) as prometheus:
        pictures = [
            draw(
                dashboard,
                prometheus,
                Period(now - (options.range or dashboard.range_seconds), now, options.scrape_seconds),
                theme,
            )
            for dashboard in dashboards
        ]
    # Nothing is written before everything could be drawn.
    options.output.mkdir(parents=True, exist_ok=True)
    for dashboard, picture in zip(dashboards, pictures, strict=True):
        path = options.output / f"{dashboard.name}.svg"
        path.write_text(picture, "utf-8")
        sys.stdout.write(f"{path}: {len(picture.encode()) / 1000:.0f} KB\n")
        if program:
            photograph(program, path, *size(dashboard))
    (options.output / "index.html").write_text(index(dashboards, theme), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
