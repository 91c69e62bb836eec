import pytest

from gateway.settings import GatewaySettings
from shared.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PORT", "0"),
        ("GATEWAY_PORT", "65536"),
        ("ROWS_MAX", "0"),
        ("BODY_MAX_BYTES", "-1"),
        ("JOB_RETENTION_SECONDS", "0.5"),
        ("JOB_MAX_ATTEMPTS", "0"),
        ("PREDICT_DEADLINE_SECONDS", "0"),
    ],
)
def test_a_wrong_value_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load_settings(GatewaySettings)

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"headrace: {name}: ")


def test_an_answer_fits_into_the_limit_of_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANSWER_MAX_BYTES", "70000000")

    with pytest.raises(SystemExit):
        load_settings(GatewaySettings)

    assert "ANSWER_MAX_BYTES is greater than ANSWERS_MAX_BYTES" in capsys.readouterr().err


def test_a_default_deadline_above_the_longest_wait_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAIT_MAX_SECONDS", "4")

    with pytest.raises(SystemExit):
        load_settings(GatewaySettings)

    told = capsys.readouterr().err
    assert "PREDICT_DEADLINE_SECONDS is greater than WAIT_MAX_SECONDS" in told
    assert told.count("\n") == 1


def test_the_longest_wait_may_be_the_default() -> None:
    assert GatewaySettings(predict_deadline_seconds=4, wait_max_seconds=4).wait_max_seconds == 4
