import pytest
from pydantic import Field, ValidationError

from shared.queue.celery_app import make_celery
from shared.settings import CommonSettings, load_settings


class Example(CommonSettings):
    example_port: int = Field(default=1, ge=1, le=9)


def test_everything_has_a_default() -> None:
    settings = load_settings(CommonSettings)

    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.model_store == "models"
    assert settings.default_model == "iris"


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://broker:6380/1")
    monkeypatch.setenv("MODEL_STORE", "s3://bucket/models")
    monkeypatch.setenv("TASK_TIME_LIMIT_SECONDS", "2.5")
    monkeypatch.setenv("TASK_SOFT_TIME_LIMIT_SECONDS", "2")

    settings = load_settings(CommonSettings)

    assert settings.redis_url == "redis://broker:6380/1"
    assert settings.model_store == "s3://bucket/models"
    assert settings.task_time_limit_seconds == 2.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", "http://secret@host"),
        ("REDIS_URL", "secret"),
        # Not supported: kombu has another scheme for Unix sockets.
        ("REDIS_URL", "unix:///run/secret.sock"),
        ("LOG_LEVEL", "secret"),
        ("LOG_LEVEL", "info"),
        ("LOG_FORMAT", "secret"),
        ("TRACING", "secret"),
        ("TASK_SOFT_TIME_LIMIT_SECONDS", "0"),
        ("TASK_TIME_LIMIT_SECONDS", "-1"),
        ("TASK_TIME_LIMIT_SECONDS", "secret"),
        ("EXAMPLE_PORT", "10"),
        ("EXAMPLE_PORT", "secret"),
    ],
)
def test_a_wrong_value_ends_the_process_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load_settings(Example)

    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"headrace: {name}: ")
    assert printed.err.count("\n") == 1
    assert "secret" not in printed.err
    # The error is not chained: its traceback would show the value.
    assert ended.value.__cause__ is None
    assert ended.value.__suppress_context__


@pytest.mark.parametrize("name", ["REDIS_URL", "MODEL_PUBLIC_KEY", "LOG_LEVEL", "TRACING", "TASK_TIME_LIMIT_SECONDS"])
def test_an_empty_value_means_the_default(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name, raising=False)
    default = load_settings(CommonSettings)
    monkeypatch.setenv(name, "")

    assert load_settings(CommonSettings) == default


def test_not_even_the_error_itself_holds_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        CommonSettings(redis_url="http://:secret@host")

    assert "secret" not in str(caught.value)


def test_every_wrong_field_gets_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("REDIS_URL", "LOG_LEVEL", "EXAMPLE_PORT"):
        monkeypatch.setenv(name, "secret")

    with pytest.raises(SystemExit):
        load_settings(Example)

    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["REDIS_URL", "LOG_LEVEL", "EXAMPLE_PORT"]


@pytest.mark.parametrize("hard", ["25", "24.9"])
def test_the_soft_limit_must_be_below_the_hard_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], hard: str
) -> None:
    monkeypatch.setenv("TASK_SOFT_TIME_LIMIT_SECONDS", "25")
    monkeypatch.setenv("TASK_TIME_LIMIT_SECONDS", hard)

    with pytest.raises(SystemExit):
        load_settings(CommonSettings)

    assert "TASK_SOFT_TIME_LIMIT_SECONDS must be below TASK_TIME_LIMIT_SECONDS" in capsys.readouterr().err


@pytest.mark.parametrize("hard_limit_seconds", [0.1, 30.0, 3600.0])
def test_an_entry_is_delivered_again_only_after_its_lease_and_its_hard_limit(hard_limit_seconds: float) -> None:
    settings = CommonSettings(
        task_time_limit_seconds=hard_limit_seconds, task_soft_time_limit_seconds=hard_limit_seconds / 2
    )

    assert settings.visibility_timeout_seconds > settings.lease_seconds > settings.task_time_limit_seconds


def test_the_broker_gets_these_limits() -> None:
    settings = CommonSettings(task_time_limit_seconds=3.0, task_soft_time_limit_seconds=2.0)

    conf = make_celery(settings).conf

    assert (conf.task_soft_time_limit, conf.task_time_limit) == (2.0, 3.0)
    assert conf.broker_transport_options["visibility_timeout"] == settings.visibility_timeout_seconds


def test_only_json_is_accepted_and_only_our_queues_are_known() -> None:
    app = make_celery(CommonSettings())

    assert app.conf.accept_content == ["json"]
    assert [queue.name for queue in app.conf.task_queues] == ["interactive", "bulk"]
    assert app.conf.task_create_missing_queues is False
    assert app.conf.result_backend is None


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        CommonSettings().redis_url = "redis://other"  # type: ignore[misc]


def test_tracing_needs_its_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRACING", "true")
    assert load_settings(CommonSettings).tracing

    def find_spec(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("shared.settings.find_spec", find_spec)
    with pytest.raises(SystemExit):
        load_settings(CommonSettings)
    error = capsys.readouterr().err
    assert error.startswith("headrace: TRACING: ")
    assert "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http" in error


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("redis://host:1/0", "redis://host:1/0"),
        ("rediss://host:1/0", "rediss://host:1/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_ca_certs=/ca.pem", "rediss://host/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
    ],
)
def test_certificates_are_verified_unless_the_url_says_otherwise(url: str, used: str) -> None:
    assert CommonSettings(redis_url=url).redis_url == used
