"""Base of the hot routes whose callers wait for the prediction."""

import math
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic
from urllib.parse import parse_qs

from gateway.api.endpoint import AnyRows, HotEndpoint, reference_of
from gateway.api.responses import timing
from gateway.api.statuses import problem_of_result
from gateway.auth.api_keys import KeyScope
from gateway.batching.calls import Answer
from gateway.catalog.served_model import ServedModel
from gateway.errors import DeadlineExceeded
from gateway.fairness.answers import PIECE_BYTES
from gateway.problems import PARAMETERS_MAX, Problem, too_many_parameters
from gateway.web.hot_request import HotRequest
from shared.queue.contract import Lane


class InteractiveEndpoint(HotEndpoint, Generic[AnyRows]):
    """A hot route of the interactive lane."""

    lane = Lane.INTERACTIVE
    required_scope = KeyScope.PREDICT

    async def predict(
        self,
        request: HotRequest,
        served: ServedModel,
        deadline_seconds: float,
        parse: Callable[[], Awaitable[AnyRows]],
    ) -> None:
        """Have the rows of a request predicted, and the request answered.

        Args:
            request: the request.
            served: the model version that predicts.
            deadline_seconds: the time from now after which no answer is needed, unless the body says another.
            parse: returns the rows, once it is their turn.

        Raises:
            RequestError: if the rows can't be answered in time, or `parse` raises one.
        """
        context = request.context
        # A request that is refused with one row would be refused with more: an overload costs no parsing.
        served.batcher.admit(1, deadline_seconds, context.owner)
        asked_at = time.perf_counter()
        parsed = await parse()
        deadline_seconds = parsed.deadline_seconds or deadline_seconds
        # A large body may have waited for its turn.
        left_seconds = deadline_seconds - (time.perf_counter() - asked_at)
        if left_seconds <= 0:
            raise DeadlineExceeded(deadline_seconds)
        if not parsed.single or served.answer_row_bytes > PIECE_BYTES:
            context.hold_answer(len(parsed.rows) * served.answer_row_bytes)

        def on_end(outcome: Answer | Exception) -> None:
            if isinstance(outcome, Exception):
                request.fail(outcome)
            else:
                self.on_answer(request, served, parsed, outcome)

        call = served.batcher.enqueue(
            parsed.rows, left_seconds, on_end, context.trace, context.owner, parsed.takes_bytes
        )
        request.at_end(partial(served.batcher.drop, call))

    def on_answer(self, request: HotRequest, served: ServedModel, parsed: AnyRows, answer: Answer) -> None:
        """Begin to respond with an answer."""
        if not request.ended:
            request.run(self.answer_rows(request, served, parsed, answer))

    @abstractmethod
    async def answer_rows(self, request: HotRequest, served: ServedModel, parsed: AnyRows, answer: Answer) -> None:
        """Respond with the answer to instances."""

    def completed(
        self, request: HotRequest, served: ServedModel, parsed: AnyRows, answer: Answer
    ) -> tuple[float, dict[str, float]]:
        """Return the time that a request took, and the parts of it; a version on trial gets its rows, too.

        Raises:
            Problem: if the answer is an error.
        """
        result, manifest, trace = answer.result, served.manifest, request.context.trace
        if trace is not None:
            trace.end_queue(answer.started_at)
        if "error" in result:
            raise problem_of_result(result["error"])
        seconds = time.perf_counter() - request.started
        parts = timing(answer.started_at - answer.accepted_at, answer.compute_seconds, seconds)
        if trace is not None:
            trace.describe(manifest.name, manifest.version, parts)
        shadow = self.services.catalog.shadow_of(manifest.name, reference_of(request), served)
        if shadow is not None:
            self.services.shadows.add(served, shadow, parsed, result["predictions"])
        return seconds, parts

    def deadline_seconds(self, query: bytes) -> float:
        """Return the deadline that the query of a request names, or that of the settings.

        Raises:
            Problem: 422 if it is no positive number.
        """
        settings = self.services.settings
        if not query:
            return settings.predict_deadline_seconds
        try:
            given = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
        except ValueError:
            raise too_many_parameters() from None
        asked = given.get("deadline")
        if asked is None:
            return settings.predict_deadline_seconds
        try:
            # float() accepts underscores, as Python's own literals do.
            seconds = math.nan if "_" in asked[-1] else float(asked[-1])
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise Problem(422, "invalid_parameter", "deadline is a positive number of seconds")
        return min(seconds, settings.wait_max_seconds)
