"""Program that registers a model with MLflow itself, in the environment of MLflow.

It reads from standard input, in JSON, the `server` and the `seed` of the rows; and optionally `format`. It fits a
pipeline for a frame of numbers and texts, some missing, registers it as `people`, and points the alias `champion` to
it. It writes the version, rows and what the pipeline says of them.
"""

import json
import sys
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

TRUSTED = ["numpy.dtype"]
"""Types in the pipeline that skops does not trust by itself."""


def people(seed: int) -> tuple[pd.DataFrame, Any]:
    """Return a frame and a target."""
    random = np.random.default_rng(seed)
    age, city = random.integers(18, 80, 200), random.choice(["Berlin", "Lyon", "Oslo"], 200)
    income = np.where(random.random(200) < 0.2, np.nan, random.lognormal(10, 0.5, 200).round(2))
    frame = pd.DataFrame({"age": age.astype("float64"), "income": income, "city": city.astype(object)})
    return frame, np.where((age > 45) ^ (city == "Lyon"), "stays", "leaves")


def register(server: str, seed: int, form: str) -> dict[str, Any]:
    """Fit, log and register a model."""
    mlflow.set_tracking_uri(server)
    rows, target = people(seed)
    model = make_pipeline(
        make_column_transformer((SimpleImputer(), ["age", "income"]), (OneHotEncoder(), ["city"])),
        LogisticRegression(max_iter=1000, C=seed + 1.0),
    ).fit(rows, target)
    mlflow.sklearn.log_model(
        model,
        name="people",
        registered_model_name="people",
        input_example=rows[:50],
        serialization_format=form,
        skops_trusted_types=TRUSTED if form == "skops" else None,
    )
    client = mlflow.MlflowClient()
    version = max(int(each.version) for each in client.search_model_versions("name='people'"))
    client.set_registered_model_alias("people", "champion", str(version))
    return {
        "version": version,
        "rows": [{k: v for k, v in row.items() if v == v} for row in rows[:30].to_dict("records")],
        "predictions": model.predict(rows[:30]).tolist(),
        "probabilities": model.predict_proba(rows[:30]).tolist(),
    }


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print("\n" + json.dumps(register(asked["server"], asked["seed"], asked.get("format", "skops"))))
