"""The package as other people's programs import it."""

import subprocess
import sys

import pytest

import headrace
from tests.support.processes import REPOSITORY


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in ran.stdout.split()}


def test_the_package_imports_no_library() -> None:
    assert loaded_by("import headrace") & {"httpx", "numpy", "pydantic", "sklearn", "fsspec", "orjson"} == set()


def test_the_client_does_without_the_extra_for_export() -> None:
    loaded = loaded_by("from headrace import Client")

    assert "httpx" in loaded
    assert loaded & {"numpy", "sklearn", "pandas", "joblib"} == set()


def test_every_public_name_is_there() -> None:
    assert [name for name in headrace.__all__ if not hasattr(headrace, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = headrace.nothing


def test_export_without_its_extra_names_the_extra() -> None:
    program = "import sys; sys.modules['numpy'] = None; from headrace import export"
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert "ExtraMissing: numpy is not installed; it is in the extra 'export'" in ran.stderr.splitlines()[-1]
