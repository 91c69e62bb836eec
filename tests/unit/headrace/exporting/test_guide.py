"""docs/bring-your-own-model.md against the code."""

import json
import re
from pathlib import Path

import pytest

from headrace.cli.main import main
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.signing import signing_key
from worker.model.predictor import Predictor

DOCS = Path(__file__).parents[4] / "docs"


def blocks(language: str) -> list[str]:
    text = (DOCS / "bring-your-own-model.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_example_is_exported_and_predicts_the_row_of_its_curl_line(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_STORE", store.root)
    program = blocks("python")[0]

    exec(compile(program, "bring-your-own-model.md", "exec"), {"__name__": "guide"})

    manifest = store.manifest("churn")
    match = re.search(r"-d '(\{.*\})'", "".join(blocks("sh")))
    assert match
    sent = json.loads(match[1])
    assert list(sent) == [feature.name for feature in manifest.features]
    answer = Predictor.load(store, manifest).predict([list(sent.values())])
    assert answer.predictions[0] in ("stays", "leaves")


def test_the_example_is_at_most_ten_lines_beside_imports() -> None:
    program = blocks("python")[0]

    assert len([line for line in program.splitlines() if line and not re.match("from|import", line)]) <= 10


@pytest.mark.parametrize("line", re.findall(r"^\.venv/bin/headrace (.*?)(?: +#.*)?$", "\n".join(blocks("sh")), re.M))
def test_the_commands_exist(
    line: str, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_STORE", store.root)
    monkeypatch.chdir(tmp_path)
    Path(store.root).mkdir()
    rows = "".join(f"{i},{'Oslo' if i % 3 else 'Lyon'},{'stays' if i % 2 else 'leaves'}\n" for i in range(30))
    Path("customers.csv").write_text("age,city,outcome\n" + rows)
    if "model.key" in line:
        signing_key(Path("model.key"))
        assert main(["train", "--csv", "customers.csv", "--target", "outcome", "--name", "churn"]) == 0

    assert main(line.split()) == 0, capsys.readouterr().err


def test_the_schema_in_the_documentation_is_that_of_the_code() -> None:
    written = json.loads((DOCS / "manifest.schema.json").read_text(encoding="utf-8"))

    assert written == Manifest.model_json_schema(), (
        "write it anew: python -c 'import json; from headrace.models.manifest import Manifest; "
        "print(json.dumps(Manifest.model_json_schema(), indent=2))' > docs/manifest.schema.json"
    )


def test_the_readmes_commands_work_in_their_order(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_STORE", store.root)
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    [commands] = [each for each in re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.M) if "rollback" in each]
    scope: dict[str, object] = {}
    exec(program, scope)

    for line in commands.splitlines():
        if line.startswith("#"):
            exec(program.splitlines()[-1], scope)
        else:
            assert main(line.partition("#")[0].split()[1:]) == 0, f"{line}: {capsys.readouterr().err}"

    assert store.aliases("wine")["production"] == store.versions("wine")[0]
