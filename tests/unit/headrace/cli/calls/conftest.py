from functools import partial

import httpx
import pytest

from headrace import Client
from headrace.cli.calls import connection
from tests.unit.headrace.cli.calls.gateway import FakeGateway


@pytest.fixture(autouse=True)
def caller(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A caller without settings of its own."""
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "HEADRACE_PROFILE", "HEADRACE_PROFILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> FakeGateway:
    """The gateway that every call goes to."""
    fake = FakeGateway()
    monkeypatch.setattr(connection, "RETRIES", 0)
    monkeypatch.setattr(connection, "Client", partial(Client, transport=httpx.MockTransport(fake)))
    return fake
