import pytest

from shared.settings import CommonSettings


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in CommonSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)
