from collections.abc import Iterator

import pytest
from fakeredis import FakeServer

from gateway.settings import GatewaySettings
from tests.support import connections


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in GatewaySettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


@pytest.fixture(autouse=True)
def commands_may_wait_for_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.broker.redis_client.COMMAND_SECONDS", 60.0)


@pytest.fixture(params=connections.WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask by ASGI, as a test client does, and as a caller who connects."""
    monkeypatch.setattr(connections, "WAY", request.param)


@pytest.fixture
def broker() -> Iterator[FakeServer]:
    """A Redis in memory; with `broker.connected = False` it is gone."""
    server = FakeServer()
    # Two threads that connect first, at the same time, would get a database each.
    _ = server.dbs[0]
    yield server
    server.connected = True
