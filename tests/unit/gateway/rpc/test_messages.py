import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gateway.problems import Problem, retry_after
from gateway.rpc import messages
from gateway.rpc.messages import INFERENCE, RPC, message_class
from gateway.rpc.statuses import status_of
from tests.support.requirements import require

pytestmark = pytest.mark.unit


def test_the_descriptors_are_what_protoc_makes(tmp_path: Path) -> None:
    require(find_spec("grpc_tools") is not None, "grpcio-tools is not installed")
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    made, folder = tmp_path / "made", messages.DESCRIPTORS.parent
    files = sorted(each.name for each in folder.glob("*.proto"))
    options = ["-I", str(folder), "--include_imports", f"--descriptor_set_out={made}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=True, timeout=60)

    def by_name(path: Path) -> dict[str, object]:
        return {file.name: file for file in FileDescriptorSet.FromString(path.read_bytes()).file}

    ours, fresh = by_name(messages.DESCRIPTORS), by_name(made)
    assert {name: ours[name] for name in files} == {name: fresh[name] for name in files}


def test_the_messages_are_those_of_the_public_protocol() -> None:
    """Check names, numbers and types against the copy of Triton's client."""
    code = """
from tritonclient.grpc import model_config_pb2, service_pb2
from gateway.rpc.messages import INFERENCE, _pool
file = _pool().FindFileByName("inference.proto")
def fields(message):
    own = {(f.name, f.number, f.type, f.is_repeated, f.message_type and f.message_type.name) for f in message.fields}
    return own.union(*({(each.name, *field) for field in fields(each)} for each in message.nested_types))
def numbers(enum):
    return {(each.name, each.number) for each in enum.values}
messages, enums = {}, {}
for theirs in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
    messages |= theirs.message_types_by_name
    enums |= theirs.enum_types_by_name
for name, message in file.message_types_by_name.items():
    assert fields(message) <= fields(messages[name]), name
for name, enum in file.enum_types_by_name.items():
    assert numbers(enum) <= numbers(enums[name]), name
methods = file.services_by_name["GRPCInferenceService"].methods_by_name
assert {*methods} <= {*service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name}
print(len(file.message_types_by_name))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert int(ran.stdout or 0) > 10, ran.stderr


@pytest.mark.parametrize(
    ("problem", "code", "seconds"),
    [
        (Problem(503, "overloaded", "x", retry_after(3)), "RESOURCE_EXHAUSTED", True),
        (Problem(503, "queue_full", "x", retry_after(3)), "RESOURCE_EXHAUSTED", True),
        (Problem(429, "rate_limited", "x", retry_after(3)), "RESOURCE_EXHAUSTED", True),
        (Problem(503, "broker_unavailable", "x", retry_after(3)), "UNAVAILABLE", True),
        (Problem(504, "deadline_exceeded", "x"), "DEADLINE_EXCEEDED", False),
        (Problem(500, "internal_error", "x"), "INTERNAL", False),
        (Problem(418, "other", "x"), "INTERNAL", False),
    ],
    ids=lambda each: getattr(each, "code", None),
)
def test_a_problem_is_a_status_with_details(problem: Problem, code: str, seconds: bool) -> None:
    found, text, details = status_of(problem)

    status = message_class(RPC, "Status").FromString(details)
    kinds = [each.type_url for each in status.details]
    assert (found.name, text, status.code) == (code, "x", found.value[0])
    assert kinds == [f"type.googleapis.com/google.rpc.{name}" for name in ("ErrorInfo", "RetryInfo")][: 1 + seconds]
    if seconds:
        assert message_class(RPC, "RetryInfo").FromString(status.details[1].value).retry_delay.seconds >= 3


def test_mistakes_in_rows_are_named() -> None:
    problem = Problem(
        422, "invalid_rows", "1 value does not fit", extra={"errors": [{"pointer": "/0/a", "detail": "no"}]}
    )

    assert status_of(problem)[1] == "1 value does not fit: /0/a no"


def test_a_long_text_fits_into_the_metadata_that_a_client_takes() -> None:
    _, text, details = status_of(Problem(422, "invalid_rows", "🌱" * 5000))

    assert text.strip("🌱") == "…"
    # In metadata every byte of the text is three, and three of the details are four.
    assert 1000 < 3 * len(text.encode()) + 4 * len(details) // 3 < 8192


def test_messages_are_apart_from_those_of_clients() -> None:
    from google.protobuf import descriptor_pool

    message_class(INFERENCE, "ModelInferRequest")

    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("inference.proto")
