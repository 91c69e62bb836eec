"""10,000 rows in one request of the Open Inference Protocol, as bytes of float64, against the same rows as JSON.

One caller sends one request after another, and asks for the answer in the form of the request. As JSON the rows are
objects with a value per name on `/predict`, the form in which most callers send them. MLServer, where it is installed,
has the model of its own benchmark, which adds up all values of a tensor, and gets the same rows as a tensor in JSON: it
takes no bytes over HTTP.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson

from bench.environments import has_environment
from bench.load import run_wrk
from bench.pace import Pace
from bench.peers.model import FEATURES
from bench.systems import MLSERVER_SUM, headrace

ROWS = 10_000
PATH = "/v2/models/iris/infer"


def measure(scratch: Path, models: Path, pace: Pace) -> dict[str, float]:
    """Return rows per second."""
    rows = np.random.default_rng(0).uniform([4.0, 2.0, 1.0, 0.1], [8.0, 4.5, 7.0, 2.5], (ROWS, len(FEATURES))).round(2)
    instances = orjson.dumps({"instances": [dict(zip(FEATURES, row, strict=True)) for row in rows.tolist()]})
    head = {"name": "rows", "datatype": "FP64", "shape": rows.shape}
    as_json = orjson.dumps({"inputs": [{**head, "data": rows.ravel().tolist()}]})
    parameters = {"binary_data_output": True}
    text = orjson.dumps(
        {"inputs": [{**head, "parameters": {"binary_data_size": rows.nbytes}}], "parameters": parameters}
    )
    as_bytes, headers = text + rows.tobytes(), {"Inference-Header-Content-Length": str(len(text))}
    headers["Content-Type"] = "application/octet-stream"
    folder = scratch / "tensors"
    folder.mkdir()
    with headrace(folder, models) as running:
        base = running.url.removesuffix("/predict")
        found = {
            "tensors.instances_per_second": _rate(running.url, instances, {}, pace),
            "tensors.json_per_second": _rate(base + PATH, as_json, {}, pace),
            "tensors.bytes_per_second": _rate(base + PATH, as_bytes, headers, pace),
        }
    if has_environment("mlserver"):
        peer = scratch / "mlserver"
        peer.mkdir()
        with MLSERVER_SUM(peer, models) as running:
            found["tensors.mlserver_json_per_second"] = _rate(running.url, as_json, {}, pace)
    return found


def _rate(url: str, body: bytes, headers: Mapping[str, str], pace: Pace) -> float:
    run_wrk(url, body, 1, pace.warm_up_seconds, headers)
    figures = run_wrk(url, body, 1, pace.seconds, headers)
    assert not figures.errors, f"requests to {url} failed"
    return ROWS * figures.requests_per_second
