"""`POST /invocations` and `POST /v1/models/{name}:predict`, whose callers get predictions and nothing else."""

from collections.abc import Sequence
from functools import partial

from gateway.api.interactive import InteractiveEndpoint
from gateway.api.predictions import encoded, written
from gateway.api.responses import EncodedResponse, server_timing
from gateway.batching.calls import Answer
from gateway.catalog.row_parser import SMALL_BYTES, ParsedRows, RowParser
from gateway.catalog.served_model import ServedModel
from gateway.fairness.bodies import JSON
from gateway.scoring.bodies import FORMS, read_json
from gateway.scoring.csv_rows import read_csv
from gateway.services import Services
from gateway.web.hot_request import HotRequest

CSV = b"text/csv"


class ScoringEndpoint(InteractiveEndpoint[ParsedRows]):
    """A route of another scoring server."""

    def __init__(self, services: Services, template: str, forms: Sequence[str]) -> None:
        """`forms` are the members, of FORMS, that a body may have."""
        super().__init__(services, template)
        self._forms = forms

    async def serve(self, request: HotRequest, served: ServedModel, body: bytes) -> None:
        """Answer with 200 and the predictions."""
        deadline_seconds = self.deadline_seconds(request.query)
        is_csv = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == CSV
        read = partial(self._read, served, body, is_csv)
        read_small = partial(read, served.parser.small) if len(body) <= SMALL_BYTES else None
        in_turn = partial(read, served.parser)
        parse = partial(self.parse_in_turn, request, body, read_small, in_turn, deadline_seconds)
        await self.predict(request, served, deadline_seconds, parse)

    def _read(self, served: ServedModel, body: bytes, is_csv: bool, parser: RowParser) -> ParsedRows:
        features = served.manifest.features
        rows = read_csv(body, features, parser) if is_csv else read_json(body, features, parser, self._forms)
        return ParsedRows(rows, False, 4 * len(body) if parser.takes_texts else 0)

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

    media_types = (JSON, CSV)

    def __init__(self, services: Services, template: str) -> None:
        super().__init__(services, template, [*FORMS])


class TensorFlowEndpoint(ScoringEndpoint):
    """`POST /v1/models/{name}:predict`, as clients of TensorFlow Serving and of KServe's first protocol ask."""

    def __init__(self, services: Services, template: str) -> None:
        super().__init__(services, template, ["instances", "inputs"])
