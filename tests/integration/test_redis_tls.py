"""Redis over TLS: certificates are verified by every connection of gateway and worker."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from kombu.exceptions import OperationalError

from scripts.broker import find_server
from shared.queue.celery_app import make_celery
from shared.settings import CommonSettings
from tests.integration.conftest import NewStack
from tests.support.processes import free_port, wait_for
from tests.support.requirements import require
from tests.support.stack import Stack
from tests.support.tls import tls_files

GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module", autouse=True)
def server_with_tls() -> None:
    """Skip unless a server with TLS is installed.

    A server with TLS misses its certificate and ends; a server without TLS ends for another reason.
    """
    server = find_server()
    command = [server, "--port", "0", "--tls-port", str(free_port()), "--bind", "127.0.0.1", "--save", ""]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    require("tls-cert-file" in output, f"{server} was built without TLS")


def test_a_stack_over_tls(new_stack: NewStack, iris_models: Path, tmp_path: Path) -> None:
    stack = new_stack(iris_models, redis_users=True, redis_tls=tls_files(tmp_path / "tls")).start()

    assert stack.predict(GOOD).json()["prediction"] == "setosa"
    assert stack.outcome(stack.submit(GOOD))["status"] == "succeeded"


def ping_from_redis_py(url: str) -> None:
    with redis.Redis.from_url(CommonSettings(redis_url=url).redis_url) as connection:
        connection.ping()


def ping_from_celery(url: str) -> None:
    app = make_celery(CommonSettings(redis_url=url))
    try:
        with app.connection() as connection:
            connection.channel().client.ping()
    finally:
        app.close()


@pytest.mark.parametrize("ping", [ping_from_redis_py, ping_from_celery])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"], ids=["another authority", "another name"])
def test_a_certificate_that_is_not_the_servers_is_refused(
    new_stack: NewStack, iris_models: Path, tmp_path: Path, ping: Callable[[str], None], address: str
) -> None:
    files = tls_files(tmp_path / "tls", address)
    stack: Stack = new_stack(iris_models, redis_tls=files)
    stack.broker.start()
    wait_for("the broker listens", lambda: "Ready to accept" in stack.broker.log())
    url = stack.redis_url
    if address == "127.0.0.1":
        url = url.replace(str(files.authority), str(tls_files(tmp_path / "other").authority))

    with pytest.raises((redis.ConnectionError, OperationalError), match="CERTIFICATE_VERIFY_FAILED"):
        ping(url)
