import json
from pathlib import Path

import pytest

from scripts import sbom
from scripts.audit import LOCKS
from tests.architecture.test_locks import entries

LOCK = """\
# a comment
redis==8.1.0 \\
    --hash=sha256:00
    # via kombu
torch==2.0+cpu
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:00
"""


def test_every_pin_is_a_component() -> None:
    components = sbom.bill("worker", LOCK)["components"]

    assert [(each["name"], each["version"], each["purl"]) for each in components] == [
        ("redis", "8.1.0", "pkg:pypi/redis@8.1.0"),
        ("torch", "2.0+cpu", "pkg:pypi/torch@2.0%2Bcpu"),
        ("colorama", "0.4.6", "pkg:pypi/colorama@0.4.6"),
    ]
    assert components[2]["properties"] == [{"name": "headrace:marker", "value": "sys_platform == 'win32'"}]
    assert "properties" not in components[0]


@pytest.mark.parametrize("lock", LOCKS)
def test_nothing_that_is_locked_is_left_out(lock: str, tmp_path: Path) -> None:
    path = sbom.write(lock, Path(f"requirements/{lock}.txt"), tmp_path / "audit")

    bill = json.loads(path.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == f"headrace-{lock}"
    pinned = [requirement.partition(" ")[0] for requirement, _ in entries(lock)]
    assert [f"{each['name']}=={each['version']}" for each in bill["components"]] == pinned
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(set(references)) == len(references)
