"""`python -m monitoring.preview`: draw every dashboard from the data of a running Prometheus."""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from monitoring.preview.dashboard import duration_seconds, load_all
from monitoring.preview.page import draw
from monitoring.preview.prometheus import PreviewError, Prometheus, Unreachable
from monitoring.preview.queries import SCRAPE_SECONDS, Period

DASHBOARDS = Path(__file__).parents[1] / "grafana" / "dashboards"
HEIGHT = 1200
"""Pixels of a picture that a page can show; what is below is seen in Grafana."""

ADVICE = (
    "Start everything with `make up`, which runs Prometheus where its program is installed (Debian: apt install "
    "prometheus), send traffic with `make demo`, and call this again after some minutes; or name another one: "
    'make dashboards-preview ARGS="--url http://…"'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.preview", description="Draw the dashboards without Grafana, for a browser to show."
    )
    port = os.environ.get("PROMETHEUS_PORT") or "9090"
    parser.add_argument("--url", default=f"http://127.0.0.1:{port}", help="Prometheus (default: that of `make up`)")
    parser.add_argument("--range", type=duration_seconds, help="time to show, such as 5m (default: as dashboards say)")
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder (default: docs/images)")
    parser.add_argument("--height", type=int, default=HEIGHT, help="most pixels; 0: all panels (default: %(default)s)")
    parser.add_argument("--only", choices=sorted(path.stem for path in DASHBOARDS.glob("*.json")), help="one dashboard")
    parser.add_argument("--suffix", default="", help="text behind the names of the files, such as -drift")
    parser.add_argument("--scrape-seconds", type=float, default=SCRAPE_SECONDS, help="Prometheus' scrape interval")
    options = parser.parse_args(arguments)
    now, pictures = time.time(), {}
    try:
        with Prometheus(options.url.rstrip("/")) as prometheus:
            for board in load_all(DASHBOARDS):
                if options.only not in (None, board.name):
                    continue
                period = Period(now - (options.range or board.range_seconds), now, options.scrape_seconds)
                path = options.output / f"{board.name}{options.suffix}.svg"
                pictures[path] = draw(board, prometheus, period, options.height or math.inf)
        # Nothing is written before everything could be drawn.
        options.output.mkdir(parents=True, exist_ok=True)
        for path, picture in pictures.items():
            path.write_text(picture, "utf-8")
            sys.stdout.write(f"{path}: {len(picture.encode()) / 1000:.0f} KB\n")
    except (PreviewError, OSError) as error:
        advice = f"{ADVICE}\n" if isinstance(error, Unreachable) else ""
        sys.stderr.write(f"headrace: {error}\n{advice}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
