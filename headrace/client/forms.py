"""Forms of the gateway's answers, as far as the client and its callers rely on them; further members may come."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

PAGE_JOBS = 500
"""Jobs that a page of a list is asked for, and has at most."""

CURSOR_CHARACTERS_MAX = 1000

MISTAKES_MAX = 1000
"""Wrong values that a gateway names at most."""

JobId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}$")]
"""Characters that mean themselves in a path, and no dot at the beginning."""

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]


class Form(BaseModel):
    """A JSON object. Its values have exactly these types; an optional member may be null or absent."""

    model_config = ConfigDict(strict=True)


class Prediction(Form):
    """The answer to one row."""

    prediction: Any
    probabilities: dict[str, Any] | None = None
    model: str | None = None
    version: str | None = None
    timing: dict[str, float] | None = None


class Predictions(Form):
    """The answer to several rows, in their order."""

    predictions: list[Any]
    probabilities: list[Any] | None = None
    model: str | None = None
    version: str | None = None
    timing: dict[str, float] | None = None


class JobError(Form):
    """The reason for a job's failure."""

    code: str
    message: str
    rows: list[int] | None = None
    count: int | None = None


class SubmittedJob(Form):
    """The answer to a submission."""

    id: JobId


class ListedJob(Form):
    """A job in a list."""

    id: JobId
    status: Status | None = None


class JobPage(Form):
    """A page of a list of jobs; `next` is the cursor of the next one."""

    jobs: Annotated[list[ListedJob], FailFast(), Field(max_length=PAGE_JOBS)]
    next: Annotated[str, StringConstraints(max_length=CURSOR_CHARACTERS_MAX)] | None = None


class JobView(Form):
    """A job with its outcome."""

    id: JobId
    status: Status
    model: str | None = None
    version: str | None = None
    result: Prediction | Predictions | None = None
    error: JobError | None = None

    @model_validator(mode="after")
    def _check_result(self) -> "JobView":
        if self.status == "succeeded" and self.result is None:
            raise ValueError("a job that succeeded has a result")
        return self


class ListedModel(Form):
    """A model in the list of models."""

    name: str


class ModelList(Form):
    """The list of models."""

    models: list[ListedModel]


class DescribedFeature(Form):
    """A feature in the description of a version."""

    name: str


class Description(Form):
    """The description of a version: its manifest, aliases, and the workers that have it loaded."""

    name: str
    version: str
    features: Annotated[list[DescribedFeature], Field(min_length=1)]


class Health(Form):
    """The summary of a gateway's state."""

    status: Literal["ok", "unavailable"]


class Lenient(BaseModel):
    """A JSON object that anything between client and gateway may have sent: a member of another form counts as absent.

    Each member has a default.
    """

    model_config = ConfigDict(strict=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _or_default(cls, value: Any, validate: ValidatorFunctionWrapHandler, member: ValidationInfo) -> Any:
        try:
            return validate(value)
        except ValidationError:
            return cls.model_fields[member.field_name or ""].get_default()


class FeatureType(Lenient):
    """The type of a feature in the description of a version."""

    type: str = ""
    dtype: str = ""
    nullable: bool = False
    categories: list[Any] | None = None
    known: list[Any] | None = None


class Mistake(Lenient):
    """A wrong value of a request, named by its place in the body or by its parameter."""

    pointer: str = ""
    parameter: str = ""
    detail: str = ""


class Problem(Lenient):
    """Problem details (RFC 9457)."""

    type: str = ""
    detail: str = ""
    errors: list[Mistake] = Field([], max_length=MISTAKES_MAX)
