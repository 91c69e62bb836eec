"""Properties of the messages of gRPC that hold for any bytes."""

from unittest.mock import Mock

from gateway.api.statuses import problem_of
from gateway.catalog.served_model import ServedModel
from gateway.errors import InvalidRows, InvalidTensors
from gateway.oip.infer import InferStatistics
from gateway.rpc.infer import ModelInferEndpoint, parsed_message
from gateway.rpc.server import INFER
from gateway.rpc.statuses import status_of
from gateway.rpc.tensors import infer_request
from tests.support.any_bytes import check_rows

METADATA_BYTES_MAX = 8192
"""Most metadata that a client takes by default."""

ENDPOINT = ModelInferEndpoint(Mock(**{"settings.wait_max_seconds": 30.0}), INFER, InferStatistics())


def check_infer_message(served: ServedModel, content: bytes) -> bool:
    """Check that bytes are an inference request of a model, or a short error of the caller; return True for rows."""
    try:
        message = parsed_message("ModelInferRequest", content)
        infer = infer_request(message, served, ENDPOINT.values_max(served))
        parsed = ENDPOINT.rows(served, infer, len(content), served.parser)
    except (InvalidTensors, InvalidRows) as refusal:
        code, text, details = status_of(problem_of(refusal))
        assert code.name == "INVALID_ARGUMENT"
        # In metadata every byte of the text may be three, and three of the details are four.
        assert 3 * len(text.encode()) + 4 * len(details) // 3 < METADATA_BYTES_MAX
        return False
    assert len(parsed.rows) <= served.parser.rows_max
    assert parsed.deadline_seconds is None or 0 < parsed.deadline_seconds <= 30
    check_rows(served.manifest, parsed.rows)
    return True
