from pathlib import Path

import pytest

from headrace.cli.removal import prunable
from headrace.models.store import ModelStore
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]


def test_pruning_says_what_it_removed(filled: ModelStore, capsys: Captured) -> None:
    assert run("prune", "iris", "--keep", "1") == 0

    assert filled.versions("iris") == ["v2", "v3"]
    assert capsys.readouterr() == ("removed iris v1\n", "")


def test_a_dry_run_removes_nothing(filled: ModelStore, capsys: Captured) -> None:
    assert run("prune", "iris", "--keep", "1", "--dry-run") == 0

    assert filled.versions("iris") == ["v1", "v2", "v3"]
    assert capsys.readouterr().out == "would remove iris v1\n"


def test_nothing_to_prune_is_said(filled: ModelStore, capsys: Captured) -> None:
    assert run("prune", "iris", "--keep", "3") == 0
    assert capsys.readouterr().out.startswith("nothing to remove: ")


@pytest.mark.parametrize("keep", ["0", "-1", "many"])
def test_at_least_one_version_is_kept(filled: ModelStore, keep: str) -> None:
    with pytest.raises(SystemExit):
        run("prune", "iris", "--keep", keep)


def test_a_version_on_trial_is_not_removed(filled: ModelStore) -> None:
    assert run("trial", "iris", "v1", "--alias", "latest", "--shadow", "0.5") == 0
    assert "v1" not in prunable(filled, "iris", 1)


def test_a_version_is_removed(filled: ModelStore, capsys: Captured) -> None:
    assert run("remove", "iris", "v1") == 0

    assert filled.versions("iris") == ["v2", "v3"]
    assert capsys.readouterr() == ("removed iris v1\n", "")


def test_a_version_that_an_alias_names_is_not_removed(filled: ModelStore, capsys: Captured) -> None:
    assert run("remove", "iris", "v3") == 1

    assert "v3" in filled.versions("iris")
    assert capsys.readouterr().err == "headrace: version 'v3' of 'iris' is in use as latest\n"


def test_an_alias_is_not_taken_for_a_version(filled: ModelStore, capsys: Captured) -> None:
    assert run("remove", "iris", "latest") == 1
    assert capsys.readouterr().err == "headrace: 'latest' is an alias of 'iris', of version 'v3': name the version\n"


@pytest.mark.parametrize("command", [("remove", "iris", "v1"), ("prune", "iris", "--keep", "1")])
def test_nothing_is_removed_of_a_model_that_is_a_link(
    filled: ModelStore, tmp_path: Path, capsys: Captured, command: tuple[str, ...]
) -> None:
    elsewhere = (Path(filled.root) / "iris").rename(tmp_path / "elsewhere")
    (Path(filled.root) / "iris").symlink_to(elsewhere)

    assert run(*command) == 1
    assert "is a link: what it leads to is not this store's to remove" in capsys.readouterr().err
    assert (elsewhere / "v1" / "manifest.json").is_file()
