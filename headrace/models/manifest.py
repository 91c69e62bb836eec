"""The manifest of a model version: everything that gateway and dashboards know of a model, which they never load.

The conversion of rows into the input of an estimator is specified here. The SDK and the worker implement it once each
(headrace.data.rows, worker.model.rows), and a test compares the two. A null of JSON is None in a row.

`input` is "array": `np.asarray(rows, dtype=np.float64)`, so null becomes NaN, then cast to the dtype of the features,
which is the same for all; a row that an integer dtype can't hold stays float64. Shape (n rows, n features).

`input` is "frame": a pandas data frame with the features' names in order and a fresh RangeIndex; then per column:

- number: float64 with NaN for null, then cast to `dtype`, a dtype of NumPy, or one of pandas such as `Int64`, where
  null is NA. A value that an integer dtype can't hold, such as 1.5, 300 in `int8`, or null in a dtype of NumPy, stays
  float64.
- boolean: cast to `dtype`: `bool`, `boolean` (null is NA) or `object` (null becomes the value that `null_as` names).
- string: cast to `dtype`: `object` (null becomes the value that `null_as` names), `str` (null is NaN; `object` with NaN
  where pandas is older than 3), `string` (null is NA), or `category`: then `pd.CategoricalDtype(categories)`, in which
  texts that are not among the categories become NaN.

`input` is "series": the only column of that frame, a series with the name of the feature. `input` is "texts": the texts
of the only feature as a NumPy array of objects, shape (n rows,); null is None.

Columns of `filled` are inserted into either form at their positions.

The dtypes of a row never depend on the rows beside it: rows that leave different columns at float64 are converted and
predicted apart.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from headrace.errors import ManifestInvalid
from headrace.models.fields import (
    DESCRIPTION_MAX,
    NAME_MAX,
    PARTS_MAX,
    Count,
    Dtype,
    Edges,
    Fact,
    InputForm,
    Items,
    Label,
    LabelOrNumber,
    Length,
    Name,
    Position,
    Scalar,
    Whole,
    has_too_many_parts,
)

MANIFEST_FORMAT = 1
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.sig"
"""The 64 bytes of an Ed25519 signature of the manifest's bytes; a version may have one."""

IDENTIFIER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER_PATTERN)]
"""A model name or version: safe as a folder name, a URL segment and a metric label."""

AboutName = Literal["owner", "intended_use", "limitations", "license", "commit"]
AboutText = Annotated[str, StringConstraints(max_length=2_000)]

Ratio = Annotated[float, Field(gt=0, lt=1)]

FEATURES_MAX = 10_000
"""Features, and outputs, of a model: a manifest of so many numbers has 15 MB, and their row in JSON 0.2 MB."""

FILLED_MAX, SAMPLES_MAX, FACTS_MAX, MISTAKES_MAX = 50_000, 1_000, 1_000, 1_000
"""Columns without use, sample rows, libraries and scores, and reported mistakes: 800,000 would take 0.5 GB."""

MEMORY_PER_BYTE = 20
"""Bytes of memory that a manifest and the parser of its rows take for each byte of its JSON: 9 to 18 as measured."""


class _Part(BaseModel):
    # JSON has no NaN: it would be written as null, and the manifest would differ or be invalid when it is read.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


MISSING_BIN = "missing"
OTHER_BIN = "other"


class Reference(_Part):
    """A reference distribution: the share of training rows in each bin, smoothed so that no bin is empty.

    `bins` are labels in order. For numbers `edges` are the inner cut points, bin k holding
    `edges[k-1] < value <= edges[k]`, the outer bins open. Otherwise `edges` is None and the bins are categories or
    classes as text (Python's `str`: `True`, `1`), for strings after them always `other`: texts not seen often enough
    in training. Where values may be missing, the last bin is `missing`. A category with the name of one of these two
    bins has no bin of its own and counts as `other`.
    """

    bins: Items[Label] = Field(min_length=1)
    ratios: Items[Ratio | Literal[1]]
    edges: Edges | None = None

    @property
    def has_missing(self) -> bool:
        """True if the last bin counts missing values."""
        return self.bins[-1] == MISSING_BIN

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Reference":
        cut_bins = len(self.bins) - self.has_missing
        if len(self.ratios) != len(self.bins) or (self.edges is not None and len(self.edges) != cut_bins - 1):
            raise ValueError("bins, ratios and edges have different lengths")
        return self


class Feature(_Part):
    """One column of a row."""

    name: Name
    type: Literal["number", "string", "boolean"] = "number"
    nullable: bool = False
    """True if the value may be null in a row."""
    dtype: Dtype = "float64"
    """The pandas dtype of the column in a data frame, or the dtype of the array, the same for all features."""
    null_as: Literal["nan", "none"] = "nan"
    """Value that stands for null in a column of dtype `object`: NaN or None, as in training."""
    minimum: float | None = None
    """Least value seen in training, of a number, rounded down to two digits of the range."""
    maximum: float | None = None
    """Greatest value seen in training, of a number, rounded up likewise."""
    whole: bool | None = None
    """True if all values of training are whole numbers; None in manifests of older exports."""
    categories: Items[Label] | None = None
    """Texts of several training rows, the most frequent first, at most 100; others are accepted, unless `known` says
    otherwise. None where hardly any text repeats. Of dtype `category`: all categories, in the order of the dtype."""
    refuses_unknown: bool = False
    """True if the estimator raises for values that it has not seen in training."""
    known: Items[LabelOrNumber] | None = None
    """All values that such an estimator takes, if each is in several training rows; otherwise None, because values of
    single training rows are not public, and only a worker refuses the others."""
    magnitude: float | None = Field(default=None, gt=0)
    """Greatest magnitude of a number that the estimator takes; None if it takes any, or is not known to refuse any."""
    longest: Length | None = None
    """Characters of the longest text seen in training, of a string."""
    histogram_edges: Edges | None = None
    """Rising bucket bounds of `inference_feature_value`, of a number."""
    reference: Reference

    @model_validator(mode="after")
    def _fits_its_type(self) -> "Feature":
        numeric = self.type == "number"
        if numeric != (self.minimum is not None and self.maximum is not None and bool(self.histogram_edges)):
            raise ValueError("minimum, maximum and histogram_edges belong to numbers, and to all of them")
        if numeric != (self.reference.edges is not None):
            raise ValueError("reference edges belong to numbers, and to all of them")
        if self.nullable != self.reference.has_missing:
            raise ValueError("a bin for missing values belongs to nullable features, and to all of them")
        return self


class Filled(_Part):
    """A column that the estimator expects without using it: callers don't send it, and each row gets the same value."""

    name: Label
    position: Position
    """Position among all columns of the estimator's input."""
    dtype: Dtype
    value: LabelOrNumber | None


class Output(_Part):
    """One value that the model predicts for a row; most models have one output."""

    name: Name = "prediction"
    kind: Literal["class", "number"]
    classes: Items[Label | Whole | bool] | None = None
    """The classes in the order of the probabilities."""
    reference: Reference


class Artifact(_Part):
    """The file that holds the estimator."""

    file: Identifier
    format: Literal["joblib", "skops"]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: Count


class GoldenRows(_Part):
    """The file of training rows with their predictions, which workers check and no gateway reads: a list of samples."""

    file: Identifier
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Sample(_Part):
    """A row with the prediction that the model made for it at export.

    With several outputs, `prediction` holds one value and `probabilities` one list per output.
    """

    row: Items[Scalar | None]
    prediction: Scalar | Items[Scalar]
    probabilities: Items[float] | Items[Items[float]] | None = None


class Manifest(_Part):
    """The facts about one version of a model."""

    format_version: Literal[1] = 1
    name: Identifier
    version: Identifier
    created_at: Fact
    """UTC, ISO 8601."""
    description: str = Field(default="", max_length=DESCRIPTION_MAX)
    about: dict[AboutName, AboutText] = {}
    """Facts for people that nothing computes, as its exporter gave them."""
    estimator: Fact
    """Qualified class name, for people."""
    artifact: Artifact
    libraries: dict[Fact, Fact] = Field(max_length=FACTS_MAX)
    """Versions at export: python, scikit-learn, numpy, joblib."""
    features: Items[Feature] = Field(min_length=1, max_length=FEATURES_MAX)
    input: InputForm = "array"
    """Form of the estimator's input: an array, a data frame with the features' names and dtypes, or, of one feature of
    texts, a series or an array of them."""
    filled: Items[Filled] = Field(default=[], max_length=FILLED_MAX)
    """Columns of the estimator's input that are no features, by rising position."""
    outputs: Items[Output] = Field(min_length=1, max_length=FEATURES_MAX)
    probabilities: bool = False
    """True if the model predicts probabilities of the classes."""
    training_rows: Count | None
    """Number of the rows that the estimator was fitted on; None if it was exported with some of them only."""
    scores: dict[Fact, float] = Field(max_length=FACTS_MAX)
    samples: Items[Sample] = Field(default=[], max_length=SAMPLES_MAX)
    """Rows that anyone may see: made up, or training rows that the exporter made public."""
    golden: GoldenRows | None = None
    """Training rows that stay in the model store; versions of older exports have none."""

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("feature names repeat")
        if any(len(sample.row) != len(names) for sample in self.samples):
            raise ValueError("a sample row has not one value per feature")
        if self.input == "array" and any(feature.type != "number" for feature in self.features):
            raise ValueError("an array holds numbers only")
        if self.input == "array" and len({feature.dtype for feature in self.features}) > 1:
            raise ValueError("an array has one dtype")
        if self.input in ("series", "texts") and [feature.type for feature in self.features] != ["string"]:
            raise ValueError("a series or an array of texts is one feature, of texts")
        if self.probabilities and any(output.classes is None for output in self.outputs):
            raise ValueError("probabilities belong to classes")
        return self

    @property
    def tolerance(self) -> float:
        """Largest relative or absolute difference of two numbers that count as the same prediction."""
        # float32 rounds results to seven digits, and sums of them to fewer.
        return 1e-4 if any(each.dtype.lower() in ("float32", "float16") for each in self.features) else 1e-6

    @property
    def memory_bytes(self) -> int:
        """Memory of this manifest and the parser of its rows in bytes, at most; found by writing it as JSON."""
        return MEMORY_PER_BYTE * len(self.model_dump_json())

    @classmethod
    def parse(cls, content: bytes, where: str) -> "Manifest":
        """Read the content of a `manifest.json`; `where` names it in the error.

        Raises:
            ManifestInvalid: if the content is not JSON, not of a known format, or has too many parts.
        """
        if has_too_many_parts(content):
            raise ManifestInvalid(f"{where}: it has more than {PARTS_MAX:,} values")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            if (mistakes := error.error_count()) > MISTAKES_MAX:
                raise ManifestInvalid(f"{where}: it has {mistakes:,} mistakes") from None
            errors = error.errors(include_url=False, include_input=False)
            if any(each["loc"] == ("format_version",) for each in errors):
                reason = f"format_version is not {MANIFEST_FORMAT}, the only one that this program knows"
                raise ManifestInvalid(f"{where}: {reason}") from None
            first = errors[0]
            field = ".".join(map(str, first["loc"]))[:NAME_MAX] or "manifest"
            raise ManifestInvalid(f"{where}: {field}: {first['msg']}") from None

    def check_identity(self, name: str, version: str, where: str) -> None:
        """Check that this is the manifest of a given version; `where` names it in the error.

        Raises:
            ManifestInvalid: if it describes another model or version.
        """
        if (self.name, self.version) != (name, version):
            raise ManifestInvalid(f"{where}: the manifest is of {self.name} {self.version}")
