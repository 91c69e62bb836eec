from collections.abc import Mapping

import yaml

from scripts.stack import SCRAPE_CONFIG, Ports, Stack


def stack(environ: Mapping[str, str], **left_out: str) -> Stack:
    return Stack(Ports.read(environ), "redis://:secret@127.0.0.1:6379/0", left_out)


def targets(text: str) -> dict[str, list[str]]:
    jobs = yaml.safe_load(text)["scrape_configs"]
    return {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}


def test_the_usual_ports_are_those_of_the_committed_configuration() -> None:
    assert targets(stack({"GRPC_PORT": "8001"}).scrape_config()) == targets(SCRAPE_CONFIG.read_text())


def test_prometheus_looks_at_the_ports_of_this_run() -> None:
    environ = {"GATEWAY_PORT": "8001", "WORKERS": "2", "WORKER_METRICS_PORT": "9201", "PROMETHEUS_PORT": "9091"}

    found = targets(stack(environ, exporter="no").scrape_config())

    assert found == {
        "gateway": ["127.0.0.1:8001"],
        "grpc": [],
        "worker": ["127.0.0.1:9201", "127.0.0.1:9202"],
        "celery-exporter": [],
        "prometheus": ["127.0.0.1:9091"],
    }


def test_rule_files_stay_where_they_are() -> None:
    for path in yaml.safe_load(stack({}).scrape_config())["rule_files"]:
        assert path.startswith(str(SCRAPE_CONFIG.parent.resolve()))


def test_all_programs_of_the_procfile_run_unless_left_out() -> None:
    assert [program.name for program in stack({}).programs()] == [
        "broker",
        "exporter",
        "worker",
        "gateway",
        "prometheus",
    ]
    assert [program.name for program in stack({}, broker="no", exporter="no", prometheus="no").programs()] == [
        "worker",
        "gateway",
    ]


def test_grpc_runs_where_it_has_a_port() -> None:
    without, with_it = stack({}), stack({"GRPC_PORT": "8002"})

    assert targets(without.scrape_config())["grpc"] == []
    assert targets(with_it.scrape_config())["grpc"] == ["127.0.0.1:9201"]
    assert "grpc" in [program.name for program in with_it.programs()]
    assert [port.number for port in with_it.used_ports()][:3] == [8000, 8002, 9201]
    assert with_it.environment()["GRPC_PORT"] == "8002"
    assert with_it.addresses()["gRPC"] == "127.0.0.1:8002"
    assert "GRPC_PORT" not in without.environment()


def test_every_worker_gets_a_port() -> None:
    workers = [program for program in stack({"WORKERS": "2"}).programs() if program.kind == "worker"]

    assert [(worker.name, worker.environment) for worker in workers] == [
        ("worker.1", {"WORKER_METRICS_PORT": "9101"}),
        ("worker.2", {"WORKER_METRICS_PORT": "9102"}),
    ]


def test_only_the_ports_of_what_runs_must_be_free() -> None:
    assert [port.number for port in stack({}).used_ports()] == [8000, 9101, 6379, 9808, 9090]
    assert [port.number for port in stack({}, broker="no", prometheus="no").used_ports()] == [8000, 9101, 9808]


def test_addresses_are_those_of_what_runs() -> None:
    addresses = stack({"WORKERS": "2"}, prometheus="no").addresses()

    assert addresses["Worker 2 metrics"] == "http://127.0.0.1:9102/metrics"
    assert "Prometheus" not in addresses


def test_no_command_line_shows_the_password() -> None:
    assert not any("secret" in program.command for program in stack({}).programs())
