"""`POST /invocations` and `POST /v1/models/{name}:predict`, whose callers get predictions and nothing else."""

import re
import time
from collections.abc import Callable, Sequence
from functools import partial

from gateway.api.endpoint import form_problem
from gateway.api.interactive import InteractiveEndpoint
from gateway.api.predictions import encoded, written
from gateway.api.responses import EncodedResponse, server_timing
from gateway.batching.calls import Answer
from gateway.catalog.row_parser import SMALL_BYTES, ParsedRows, RowParser
from gateway.catalog.served_model import ServedModel
from gateway.errors import InvalidRows
from gateway.fairness.bodies import JSON
from gateway.problems import Problem, error_body
from gateway.scoring.bodies import FORMS, read_json
from gateway.scoring.csv_rows import read_csv
from gateway.scoring.parquet import PARQUET, UNPACKED_TIMES, ParquetReader, read_columns
from gateway.services import Services
from gateway.web.hot_request import HotRequest
from headrace.models.manifest import Feature
from shared.queue.contract import Row

Form = Callable[[bytes, Sequence[Feature], RowParser], Sequence[Row]]
"""Function that reads the rows of a body."""

CSV = b"text/csv"
_HEADER = re.compile(rb'(?:^|;)\s*header\s*=\s*"?([^";\s]*)')
"""Parameter of the content type (RFC 4180) that tells whether the first line has names."""


class ScoringEndpoint(InteractiveEndpoint[ParsedRows]):
    """A route of another scoring server."""

    def __init__(self, services: Services, template: str, forms: Sequence[str]) -> None:
        """`forms` are the members, of FORMS, that a body may have."""
        super().__init__(services, template)
        self._forms = forms

    async def serve(self, request: HotRequest, served: ServedModel, body: bytes) -> None:
        """Answer with 200 and the predictions."""
        deadline_seconds = self.deadline_seconds(request.query)
        form = self.form(request.headers.get(b"content-type", b"").lower())
        await self.predict(
            request, served, deadline_seconds, partial(self.rows, request, served, form, body, deadline_seconds)
        )

    def form(self, content_type: bytes) -> Form:
        """Return the function that reads the rows of bodies of a content type in lower case."""
        return partial(read_json, forms=self._forms)

    async def rows(
        self, request: HotRequest, served: ServedModel, form: Form, body: bytes, wait_seconds: float
    ) -> ParsedRows:
        """Return the rows of a body, as the method `parse` does."""

        def read(parser: RowParser) -> ParsedRows:
            rows = form(body, served.manifest.features, parser)
            return ParsedRows(rows, False, 4 * len(body) if parser.takes_texts else 0)

        read_small = partial(read, served.parser.small) if len(body) <= SMALL_BYTES else None
        try:
            return await self.parse_in_turn(request, body, read_small, partial(read, served.parser), wait_seconds)
        except InvalidRows as error:
            if not error.of_form:
                raise
            raise form_problem(error, served) from None

    async def answer_rows(self, request: HotRequest, served: ServedModel, parsed: ParsedRows, answer: Answer) -> None:
        """Respond with the predictions."""
        seconds, parts = self.completed(request, served, parsed, answer)
        async with request.context.turn_to_write():
            members = await written(served.outputs, {**answer.result, "probabilities": None})
            body = encoded({"predictions": members["predictions"]})
        # MLflow's client refuses an answer with further members.
        self.respond(request, EncodedResponse(body, 200, ((b"server-timing", server_timing(parts).encode()),)), seconds)


class InvocationsEndpoint(ScoringEndpoint):
    """`POST /invocations`, as MLflow and SageMaker ask."""

    media_types = (JSON, CSV, *PARQUET)

    def __init__(self, services: Services, template: str) -> None:
        super().__init__(services, template, [*FORMS])
        self._parquet = ParquetReader()

    def form(self, content_type: bytes) -> Form:
        """Return the function that reads the rows of bodies of a content type in lower case.

        Raises:
            Problem: 415 if its parameter `header` has no value that is known.
        """
        media_type, _, parameters = content_type.partition(b";")
        if media_type.strip() in PARQUET:
            return read_columns
        if media_type.strip() != CSV:
            return super().form(content_type)
        header = _HEADER.search(parameters)
        if header is not None and header[1] not in (b"present", b"absent"):
            raise Problem(415, "unsupported_media_type", "the parameter header of text/csv is present or absent")
        return partial(read_csv, has_names=None if header is None else header[1] == b"present")

    async def rows(
        self, request: HotRequest, served: ServedModel, form: Form, body: bytes, wait_seconds: float
    ) -> ParsedRows:
        """Return the rows of a body, as the method `parse` does."""
        if form is read_columns:
            asked_at = time.perf_counter()
            bytes_max = UNPACKED_TIMES * self.services.body_reader.max_bytes
            columns = await self._parquet.columns(
                body, served.manifest.features, served.parser, bytes_max, request.context.owner, wait_seconds
            )
            self.hold(request, len(columns), len(body))
            body, wait_seconds = columns, max(0.0, wait_seconds - (time.perf_counter() - asked_at))
        return await super().rows(request, served, form, body, wait_seconds)


class TensorFlowEndpoint(ScoringEndpoint):
    """`POST /v1/models/{name}:predict`, as clients of TensorFlow Serving and of KServe's first protocol ask."""

    def __init__(self, services: Services, template: str) -> None:
        super().__init__(services, template, ["instances", "inputs"])

    def error_body(self, problem: Problem) -> tuple[bytes, bytes]:
        """Return the body of an answer with a problem, and its media type."""
        return error_body(problem), JSON
