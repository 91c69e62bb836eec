"""`POST /v2/models/{name}/infer`: the caller waits for the answer, which is never a job."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import orjson

from gateway.api.interactive import InteractiveEndpoint
from gateway.api.responses import EncodedResponse, server_timing
from gateway.batching.calls import Answer
from gateway.catalog.parts_limit import PartsLimit
from gateway.catalog.row_parser import SMALL_BYTES, ParsedRows, RowParser
from gateway.catalog.served_model import ServedModel
from gateway.errors import InvalidTensors
from gateway.fairness.bodies import JSON
from gateway.oip.outputs import OutputTensor, asked_of, encoded_outputs, outputs_of
from gateway.oip.rows import rows_of
from gateway.oip.tensors import AskedOutput, InferRequest, read_request
from gateway.problems import Problem, error_body
from gateway.services import Services
from gateway.web.hot_request import HotRequest

BINARY = b"application/octet-stream"
JSON_LENGTH = b"inference-header-content-length"

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class InferRows(ParsedRows):
    """The rows of an inference request, with what it asks for."""

    infer: InferRequest
    asked: list[tuple[OutputTensor, AskedOutput]]


class _Model(NamedTuple):
    """Parts that all requests for a version need, made at its first one: that takes longer the more features it has."""

    parts_limit: PartsLimit
    outputs: list[OutputTensor]

    @classmethod
    def of(cls, served: ServedModel) -> "_Model":
        """Make the parts for a version."""
        features = served.manifest.features
        return cls(
            PartsLimit(features, served.parser.rows_max, brackets=len(features) + 1), outputs_of(served.manifest)
        )


class InferStatistics:
    """Numbers of the inference requests of each version that this process has answered. Times are in nanoseconds."""

    def __init__(self) -> None:
        self.by_version: WeakKeyDictionary[ServedModel, Counter[str]] = WeakKeyDictionary()

    def add(self, served: ServedModel, **numbers: int) -> None:
        """Add numbers to those of a version."""
        self.by_version.setdefault(served, Counter()).update(numbers)


class InferEndpoint(InteractiveEndpoint[InferRows]):
    """`POST /v2/models/{name}/infer`."""

    # The clients of Triton declare no type, or that of bytes.
    media_types = (JSON, BINARY, b"")

    def __init__(self, services: Services, template: str, statistics: InferStatistics) -> None:
        super().__init__(services, template)
        self._statistics = statistics
        self._models: WeakKeyDictionary[ServedModel, _Model] = WeakKeyDictionary()

    async def serve(self, request: HotRequest, served: ServedModel, body: bytes) -> None:
        """Answer with 200 and the outputs."""
        deadline_seconds = self.deadline_seconds(request.query)
        read = partial(self._read, served, body, request.headers.get(JSON_LENGTH))
        read_small = partial(read, served.parser.small) if len(body) <= SMALL_BYTES else None
        in_turn = partial(read, served.parser)
        parse = partial(self.parse_in_turn, request, body, read_small, in_turn, deadline_seconds)
        await self.predict(request, served, deadline_seconds, parse)

    def _read(self, served: ServedModel, body: bytes, json_bytes: bytes | None, parser: RowParser) -> InferRows:
        """Return the rows of a body.

        Raises:
            InvalidJson: if its JSON is none.
            InvalidTensors: if it is no inference request, or asks for an output that the model does not have.
            InvalidRows: if it has no rows of the model.
            NeedsTurn: if the parser does.
        """
        infer = read_request(body, json_bytes, self.values_max(served), self._model(served).parts_limit.check)
        return self.rows(served, infer, len(body), parser)

    def _model(self, served: ServedModel) -> _Model:
        model = self._models.get(served)
        if model is None:
            model = self._models[served] = _Model.of(served)
        return model

    @staticmethod
    def values_max(served: ServedModel) -> int:
        """Return the most values that the tensors of a request may have together."""
        return served.parser.rows_max * len(served.manifest.features)

    def rows(self, served: ServedModel, infer: InferRequest, n_bytes: int, parser: RowParser) -> InferRows:
        """Return the rows of an inference request of so many bytes.

        Raises:
            InvalidTensors: if it asks for an output that the model does not have.
            InvalidRows: if it has no rows of the model.
            NeedsTurn: if the parser does.
        """
        asked = asked_of(infer, self._model(served).outputs)
        return InferRows(
            rows_of(infer.inputs, served.manifest.features, parser, parser.rows_max),
            False,
            text_bytes=4 * n_bytes if parser.takes_texts else 0,
            takes_bytes=any(output.is_probability and each.binary for output, each in asked),
            deadline_seconds=self._timeout_seconds(infer),
            infer=infer,
            asked=asked,
        )

    def _timeout_seconds(self, infer: InferRequest) -> float | None:
        timeout = infer.parameters.get("timeout")
        if timeout is None:
            return None
        if type(timeout) is not int or timeout <= 0:
            raise InvalidTensors("timeout is a positive whole number of microseconds")
        return min(timeout / _MICROSECONDS, self.services.settings.wait_max_seconds)

    async def predict(
        self,
        request: HotRequest,
        served: ServedModel,
        deadline_seconds: float,
        parse: Callable[[], Awaitable[InferRows]],
    ) -> None:
        """Have the rows of a request predicted, and the request counted if it fails."""
        request.at_end(partial(self._count_failure, request, served))
        await super().predict(request, served, deadline_seconds, parse)

    async def answer_rows(self, request: HotRequest, served: ServedModel, parsed: InferRows, answer: Answer) -> None:
        """Respond with the outputs that were asked for."""
        seconds, parts = self.completed(request, served, parsed, answer)
        async with request.context.turn_to_write():
            outputs, binary = await encoded_outputs(answer.result, parsed.asked)
        manifest = served.manifest
        content = {"model_name": manifest.name, "model_version": manifest.version, "parameters": parts}
        if parsed.infer.id is not None:
            content["id"] = parsed.infer.id
        text = orjson.dumps({**content, "outputs": outputs})
        headers = [(b"server-timing", server_timing(parts).encode())]
        if binary:
            headers.append((JSON_LENGTH, b"%d" % len(text)))
        body = b"".join([text, *binary])
        self.respond(request, EncodedResponse(body, 200, headers, BINARY if binary else JSON), seconds)
        self.count(served, len(parsed.rows), parts)

    def count(self, served: ServedModel, n_rows: int, parts: dict[str, float]) -> None:
        """Count an answered request of so many rows, which took these times."""
        self._statistics.add(
            served,
            requests=1,
            rows=n_rows,
            ns=int(1e6 * parts["total_ms"]),
            queue_ns=int(1e6 * parts["queue_ms"]),
            compute_ns=int(1e6 * parts["compute_ms"]),
        )

    def _count_failure(self, request: HotRequest, served: ServedModel) -> None:
        if request.context.problem is not None:
            self._statistics.add(served, failures=1, failed_ns=int(1e9 * (time.perf_counter() - request.started)))

    def error_body(self, problem: Problem) -> tuple[bytes, bytes]:
        """Return the body of an answer with a problem, and its media type."""
        return error_body(problem), JSON
