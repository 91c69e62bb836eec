"""A bill of materials (CycloneDX) of what a lock pins, made of the lock alone: it needs no network and no tools."""

import json
import re
from pathlib import Path
from typing import Any

PIN = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?P<version>[^ \\]+)(?: ; (?P<marker>.+?))?(?: \\)?$")


def bill(lock: str, content: str) -> dict[str, Any]:
    """The bill of a lock with this content; equal for equal locks."""
    pins = [found for line in content.splitlines() if (found := PIN.match(line))]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": f"headrace-{lock}", "bom-ref": f"headrace-{lock}"}},
        "components": [_component(**pin.groupdict()) for pin in pins],
    }


def _component(name: str, version: str, marker: str | None) -> dict[str, Any]:
    # A version may hold what a URL may not, such as the + of a local one.
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    # A package may be pinned twice, for different Pythons.
    condition = {"properties": [{"name": "headrace:marker", "value": marker}]} if marker else {}
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl, **condition}


def write(lock: str, requirements: Path, folder: Path) -> Path:
    """Write the bill of one lock into a folder; the answer is the file."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{lock}.cdx.json"
    path.write_text(json.dumps(bill(lock, requirements.read_text()), indent=2) + "\n")
    return path
