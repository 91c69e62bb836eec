"""Reasons why a request gets no answer, without HTTP: `gateway/api/statuses.py` turns each into a problem.

The text of an error goes to the caller, so it never holds any of their input but a name that a model can have.
"""

from collections.abc import Sequence
from decimal import Decimal

from headrace.models.identifiers import is_identifier

SECONDS_SHOWN_MIN = 1e-6
"""Shortest deadline that an error names."""


class RequestError(Exception):
    """Base class of the errors that a request can end with."""


class LoadError(RequestError):
    """Base class of the errors that say how long the caller should stay away."""

    def __init__(self, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(LoadError):
    """A limit of rows, jobs or memory that is reached."""


class Overloaded(LoadError):
    """A wait that would be longer than the request's deadline or the job's expiry."""


class QuotaExceeded(LoadError):
    """A limit of open jobs or kept bytes that an owner has reached, and others have not."""


class RecordDamaged(RequestError):
    """A job whose record in Redis can't be read."""

    def __init__(self) -> None:
        super().__init__("the record of this job is damaged")


class BrokerUnavailable(RequestError):
    """A Redis that does not answer."""

    def __init__(self) -> None:
        super().__init__("the queue can't be reached at the moment")


class NotReplicated(RequestError):
    """A write that too few replicas of Redis have confirmed: done, unless the master is lost."""

    def __init__(self) -> None:
        super().__init__(
            "too few replicas have confirmed this: it holds unless the master is lost; "
            "send it again with the same Idempotency-Key"
        )


class NoWorker(RequestError):
    """A queue that no worker consumes."""

    def __init__(self) -> None:
        super().__init__("no worker is running")


class DeadlineExceeded(RequestError):
    """A prediction that was not made in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no prediction within {Decimal(f'{max(seconds, SECONDS_SHOWN_MIN):.3g}'):f} s")


class IdempotencyKeyReused(RequestError):
    """An idempotency key that came with different rows before."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another request")


class UnknownModel(RequestError):
    """A name, version or alias that the model store does not have."""

    def __init__(self, name: str, reference: str = "") -> None:
        """Take the name of the model, and the version or alias of a model that is there."""
        model = f"model {name}" if is_identifier(name) else "such model"
        if reference:
            version = f"version or alias {reference}" if is_identifier(reference) else "such version or alias"
            model = f"{version} of the {model}"
        super().__init__(f"the model store has no {model}: GET /models lists the models and their aliases")


class ModelUnavailable(RequestError):
    """A version that is in the model store and cannot be read."""

    def __init__(self) -> None:
        super().__init__("this version can't be read: `headrace verify` says why")


class NeedsTurn(Exception):
    """Rows of so many values that they must wait for a turn at being parsed."""


class InvalidJson(RequestError):
    """A body that is not JSON."""


class InvalidTensors(RequestError):
    """A body that is no inference request of the Open Inference Protocol."""


class InvalidRows(RequestError):
    """A JSON body that is not rows of the model.

    `mistakes` has the path of each wrong value (names and list positions) and what is wrong with it.
    """

    def __init__(
        self, mistakes: Sequence[tuple[Sequence[int | str], str]], all_found: bool = True, of_form: bool = False
    ) -> None:
        """Take the mistakes; `all_found` is false if there may be more, `of_form` true if an example would help."""
        verb = "value does" if len(mistakes) == 1 else "values do"
        number = f"{len(mistakes)}" if all_found else f"at least {len(mistakes)}"
        super().__init__(f"{number} {verb} not fit the model's features")
        self.mistakes = mistakes
        self.of_form = of_form
