from pathlib import Path

import pytest

from scripts.refusal import Refusal
from scripts.serve import model_in
from tests.support.manifests import classifier, stored


def test_the_only_model_is_served(tmp_path: Path) -> None:
    stored(tmp_path, classifier(name="sticks"))

    assert model_in(str(tmp_path), None) == "sticks"
    assert model_in(str(tmp_path), "sticks") == "sticks"


def test_of_several_models_one_must_be_named(tmp_path: Path) -> None:
    stored(tmp_path, classifier(name="sticks"))
    stored(tmp_path, classifier(name="stones"))

    with pytest.raises(Refusal, match="has 2 models: DEFAULT_MODEL names the one to serve"):
        model_in(str(tmp_path), None)
    assert model_in(str(tmp_path), "stones") == "stones"


@pytest.mark.parametrize("folder", ["", "nowhere", "ftp://nowhere"])
@pytest.mark.parametrize("wanted", [None, "iris"])
def test_no_model_is_trained_where_none_is(tmp_path: Path, folder: str, wanted: str | None) -> None:
    with pytest.raises(Refusal):
        model_in(folder if ":" in folder else str(tmp_path / folder), wanted)
