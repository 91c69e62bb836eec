import re

import pytest

from scripts.ports import Port, check_free, read_number
from scripts.refusal import Refusal


def test_the_default_is_used_unless_the_environment_names_another() -> None:
    assert Port.read({}, "GATEWAY_PORT", 8000, "gateway").number == 8000
    assert Port.read({"GATEWAY_PORT": ""}, "GATEWAY_PORT", 8000, "gateway").number == 8000
    assert Port.read({"GATEWAY_PORT": "8001"}, "GATEWAY_PORT", 8000, "gateway").number == 8001


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "8e3", "8000 ", "¹", "9" * 5000])
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(Refusal, match=r"^GATEWAY_PORT is not a number from 1 to 65535$"):
        read_number({"GATEWAY_PORT": text}, "GATEWAY_PORT", 8000)


def test_a_taken_port_is_named_with_the_variable_that_helps(taken_port: int) -> None:
    with pytest.raises(Refusal) as refusal:
        check_free([Port("EXPORTER_PORT", taken_port, "celery-exporter")])

    found = re.fullmatch(
        rf"port {taken_port} \(celery-exporter\) is taken by another program; "
        r"choose another one: make up EXPORTER_PORT=(\d+)",
        str(refusal.value),
    )
    assert found
    assert Port("EXPORTER_PORT", int(found[1]), "celery-exporter").why_not_free() is None


def test_a_free_port_is_no_obstacle(free_port: int) -> None:
    check_free([Port("GATEWAY_PORT", free_port, "gateway")])


def test_an_address_of_another_machine_is_refused(free_port: int) -> None:
    with pytest.raises(Refusal, match=r"can't be used on 192\.0\.2\.1"):
        check_free([Port("GATEWAY_PORT", free_port, "gateway", host="192.0.2.1")])


def test_a_port_past_the_last_is_refused() -> None:
    """The second worker would get it if the first has the last port."""
    with pytest.raises(Refusal, match=r"^port 65536 \(worker metrics\) does not exist$"):
        check_free([Port("WORKER_METRICS_PORT", 65536, "worker metrics")])


def test_a_port_can_be_chosen_only_once(free_port: int) -> None:
    ports = [Port("GATEWAY_PORT", free_port, "gateway"), Port("PROMETHEUS_PORT", free_port, "Prometheus")]

    with pytest.raises(
        Refusal, match=r"chosen twice, for gateway \(GATEWAY_PORT\) and for Prometheus \(PROMETHEUS_PORT\)"
    ):
        check_free(ports)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_url_can_be_opened_from_here(host: str, url: str) -> None:
    assert Port("GATEWAY_PORT", 8000, "gateway", host).url == url
