"""`POST /invocations`, asked of the whole app."""

from pathlib import Path

import pytest

from tests.support.connections import started
from tests.support.coroutines import run
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import mixed, stored, text

MANIFEST = mixed(text("words", None))


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/csv", 503),
        ("text/csv; header=absent", 503),
        ("text/csv; label_size=0", 503),
        ("text/csv; charset=utf-8; Header=Present", 422),
        ('text/csv;header="present"', 422),
    ],
)
def test_the_content_type_of_csv_tells_whether_there_are_names(tmp_path: Path, content_type: str, status: int) -> None:
    stored(tmp_path / "models", MANIFEST)
    app = lone_gateway(tmp_path, default_model=MANIFEST.name)

    async def asking() -> int:
        async with started(app) as client:
            headers = {"Content-Type": content_type}
            return (await client.post("/invocations", content="a\nb\n", headers=headers)).status_code

    assert run(asking()) == status
