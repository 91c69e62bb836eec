"""`ModelInfer`: the validation, batches and limits of the HTTP gateway, with messages in the place of bodies."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from google.protobuf.message import DecodeError

from gateway.batching.calls import Answer
from gateway.catalog.row_parser import SMALL_BYTES, RowParser
from gateway.catalog.served_model import ServedModel
from gateway.errors import InvalidTensors
from gateway.oip.infer import InferEndpoint, InferRows
from gateway.oip.outputs import encoded_outputs
from gateway.problems import Problem
from gateway.rpc.messages import INFERENCE, message_class
from gateway.rpc.request import GrpcRequest
from gateway.rpc.tensors import answer_message, infer_request
from gateway.rpc.wire import model_of
from gateway.web.hot_request import HotRequest


class ModelInferEndpoint(InferEndpoint):
    """`ModelInfer` of the service `inference.GRPCInferenceService`."""

    async def answer(self, request: HotRequest) -> None:
        """Answer a call for the model and version in its message; an empty name is that of the default model."""
        assert isinstance(request, GrpcRequest)
        self.admit(request)
        settings = self.services.settings
        seconds = settings.predict_deadline_seconds
        if request.deadline_seconds is not None:
            seconds = min(request.deadline_seconds, settings.wait_max_seconds)
        body = await request.read(self.services.body_reader)
        self.hold(request, len(body))
        async with self._turn(request, len(body), seconds):
            request.parameters = model_of(body)
        served = await self.find(request)
        read = partial(self._rows, served, body, request.deadline_seconds)
        read_small = partial(read, served.parser.small) if len(body) <= SMALL_BYTES else None
        parse = partial(self.parse_in_turn, request, body, read_small, partial(read, served.parser), seconds)
        await self.predict(request, served, seconds, parse)

    def _turn(self, request: HotRequest, n_bytes: int, seconds: float) -> AbstractAsyncContextManager[None]:
        if n_bytes <= SMALL_BYTES:
            return nullcontext()
        line = f"{request.context.owner} {n_bytes.bit_length() // 2}"
        return self.services.parse_turns.of(line, seconds)

    def _rows(self, served: ServedModel, body: bytes, left_seconds: float | None, parser: RowParser) -> InferRows:
        # The message does not outlive the turn: it may take many times the memory of its bytes.
        message = parsed_message("ModelInferRequest", body)
        rows = self.rows(served, infer_request(message, served, self.values_max(served)), len(body), parser)
        if rows.deadline_seconds is None or left_seconds is None:
            return rows
        return replace(rows, deadline_seconds=min(rows.deadline_seconds, left_seconds))

    async def answer_rows(self, request: HotRequest, served: ServedModel, parsed: InferRows, answer: Answer) -> None:
        """Respond with the outputs that were asked for, in bytes."""
        seconds, parts = self.completed(request, served, parsed, answer)
        async with request.context.turn_to_write():
            outputs, binary = await encoded_outputs(answer.result, parsed.asked)
        if request.ended:
            return
        manifest = served.manifest
        content = {
            "model_name": manifest.name,
            "model_version": manifest.version,
            "id": parsed.infer.id,
            "parameters": parts,
        }
        self.services.metrics.succeeded(manifest.name, self.lane, seconds)
        request.respond(200, (), answer_message(content, outputs, binary))
        self.count(served, len(parsed.rows), parts)

    def send_problem(self, request: HotRequest, problem: Problem) -> None:
        """End the call with a problem."""
        assert isinstance(request, GrpcRequest)
        request.refuse(problem)


def parsed_message(name: str, content: bytes) -> Any:
    """Return a message of the protocol.

    Raises:
        InvalidTensors: if the bytes are none.
    """
    try:
        return message_class(INFERENCE, name).FromString(content)
    except DecodeError:
        raise InvalidTensors(f"the message is no {name}") from None
