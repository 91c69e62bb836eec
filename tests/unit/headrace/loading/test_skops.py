"""Skops artifacts of types that skops trusts, and with attributes that no fitted estimator has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.errors import ArtifactInvalid
from headrace.exporting.artifact import read_artifact
from headrace.models.manifest import Artifact
from tests.unit.headrace.loading.pickles import with_state

SKOPS: dict[str, Callable[[], Any]] = {
    "an array protocol": lambda: with_state(StandardScaler(), __array__=np.log1p),
    "a method": lambda: with_state(LogisticRegression(), predict=np.log1p),
    "a cache": lambda: Pipeline([("a", StandardScaler())], memory="/tmp"),
    "files as texts": lambda: CountVectorizer(input="filename"),
    "a method of arrays": lambda: with_state(
        StackingClassifier([]), estimators_=[np.zeros(3)], stack_method_=["tofile"]
    ),
}
"""Attributes with which types that skops trusts would open files or call others."""


@pytest.mark.parametrize("shape", SKOPS)
def test_attributes_in_skops_artifacts_are_plain_too(shape: str) -> None:
    content = skops.io.dumps(make_pipeline(StandardScaler(), SKOPS[shape]()))
    artifact = Artifact(file="model.skops", format="skops", sha256="0" * 64, size_bytes=len(content))

    with pytest.raises(ArtifactInvalid, match=r"an attribute|has another|no method"):
        read_artifact(artifact, content)
