import sys
from pathlib import Path

import httpx
import pytest

from tests.unit.headrace.cli.calls.gateway import FakeGateway, problem
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="profiles need tomllib")

PROFILES = """
[production]
url = "https://models.example/api/"
key = "key-of-production"

[bare]
url = "http://bare"

[filed]
url = "http://filed"
key_file = "KEYS/filed.key"
"""


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config" / "headrace"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder.parent))
    (folder / "filed.key").write_text("key-of-file\n")
    path = folder / "profiles.toml"
    path.touch(mode=0o600)
    path.write_text(PROFILES.replace("KEYS", str(folder)))
    return path


def asked(gateway: FakeGateway, *options: str) -> tuple[str, str | None]:
    """Return the address that a call went to, and the key that it sent."""
    assert run("models", *options) == 0
    request = gateway.requests[-1]
    key = request.headers.get("authorization")
    return str(request.url).removesuffix("/models"), key and key.removeprefix("Bearer ")


def test_by_default_the_gateway_is_on_this_machine(gateway: FakeGateway) -> None:
    assert asked(gateway) == ("http://127.0.0.1:8000", None)


def test_an_option_comes_before_the_environment_and_this_before_a_profile(
    gateway: FakeGateway, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.set("GET /api/models", {"models": []})
    (tmp_path / "key").write_text("key-of-option\n")
    assert asked(gateway, "--profile", "production") == ("https://models.example/api", "key-of-production")
    assert asked(gateway, "--profile", "filed") == ("http://filed", "key-of-file")
    monkeypatch.setenv("HEADRACE_PROFILE", "filed")
    assert asked(gateway) == ("http://filed", "key-of-file")
    assert asked(gateway, "--profile", "production", "--url", "https://models.example/api")[1] == "key-of-production"

    monkeypatch.setenv("HEADRACE_API_KEY", "key-of-environment")
    assert asked(gateway) == ("http://filed", "key-of-environment")
    monkeypatch.setenv("HEADRACE_URL", "http://environment")
    assert asked(gateway) == ("http://environment", "key-of-environment")

    options = ("--url", "http://option", "--key-file", str(tmp_path / "key"))
    assert asked(gateway, *options) == ("http://option", "key-of-option")


def test_the_key_of_a_profile_goes_to_no_other_gateway(
    gateway: FakeGateway, profiles: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for profile in ("production", "filed"):
        assert run("models", "--profile", profile, "--url", "http://elsewhere") == 2
    assert "--url or HEADRACE_URL names another" in capsys.readouterr().err
    assert gateway.requests == []

    monkeypatch.setenv("HEADRACE_URL", "http://elsewhere")
    assert run("models", "--profile", "production") == 2
    assert asked(gateway, "--profile", "bare") == ("http://elsewhere", None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_profile_with_a_key_that_others_may_read_is_refused(
    mode: int, gateway: FakeGateway, profiles: Path, capsys: Captured
) -> None:
    profiles.chmod(mode)

    assert run("models", "--profile", "production") == 2
    assert capsys.readouterr().err == (
        f"headrace: {profiles} has an API key and is open to others: chmod 600 {profiles}\n"
    )
    assert asked(gateway, "--profile", "filed") == ("http://filed", "key-of-file"), "it has no key itself"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[other]\n[another]", "has no profile 'mine'; it has other, another"),
        ("", "has no profile 'mine'; it has none"),
        ("mine = 5", "has no profile 'mine'; it has none"),
        ("[mine]\nport = 5", "mine: 'port' is no setting: there are url, key, key_file"),
        ("[mine]\nurl = 5", "mine: url is no text"),
        ("[mine]\nurl = ''", "mine: url is no text"),
        ("[mine]\nkey = 'a'\nkey_file = 'b'", "mine: it has both key and key_file"),
        ("[mine", "is no TOML: "),
        ("x = " + "[" * 5000, "is no TOML: "),
        ("#" + 1_000_000 * "x", "is larger than 1,000,000 bytes"),
    ],
)
def test_damaged_profiles_are_one_line(
    text: str, complaint: str, gateway: FakeGateway, profiles: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    named = profiles.with_name("named.toml")
    named.write_text(text)
    monkeypatch.setenv("HEADRACE_PROFILES", str(named))

    assert run("models", "--profile", "mine") == 2

    errors = capsys.readouterr().err
    assert complaint in errors and str(named) in errors and errors.count("\n") == 1
    assert gateway.requests == []


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff", b"two words", b"x" * 5000])
def test_a_file_without_a_key_is_refused_and_not_shown(
    content: bytes, gateway: FakeGateway, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "key").write_bytes(content)

    assert run("models", "--key-file", str(tmp_path / "key")) == 2

    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "two words" not in errors and len(errors) < 300
    assert gateway.requests == []


@pytest.mark.parametrize("options", [("--url", "gateway"), ("--key-file", "nowhere"), ("--profile", "nowhere")])
def test_what_is_not_there_is_a_wrong_argument(
    options: tuple[str, ...], gateway: FakeGateway, capsys: Captured
) -> None:
    assert run("models", *options) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_refused_request_is_tried_again_as_often_as_the_caller_wants(gateway: FakeGateway) -> None:
    refusals = [problem(503, "overloaded")] * 2
    gateway.answers["GET /models"] = lambda _: refusals.pop() if refusals else httpx.Response(200, json={"models": []})

    assert run("models", "--retries", "1") == 4
    refusals.append(problem(503, "overloaded"))
    assert run("models", "--retries", "1") == 0
    for number in ("-1", "101", "x"):
        with pytest.raises(SystemExit):
            run("models", "--retries", number)


def test_a_key_is_no_option(gateway: FakeGateway, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        run("models", "--key", "secret")

    assert ended.value.code == 2
