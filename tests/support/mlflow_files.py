"""Folders of models as MLflow writes them, made without MLflow."""

import json
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import sklearn
import skops.io
import yaml

TYPES = {"float64": "double", "float32": "float", "int64": "long", "bool": "boolean"}


def write_model(
    folder: Path, estimator: Any, rows: Any, *, serialization: str = "skops", example: bool = True, **changes: Any
) -> Path:
    """Write a model with a signature and, unless told otherwise, its first 20 rows as input example.

    `changes` replace entries of the flavour.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = "model.skops" if serialization == "skops" else "model.pkl"
    content = skops.io.dumps(estimator) if serialization == "skops" else pickle.dumps(estimator)
    (folder / file).write_bytes(content)
    flavor = {"pickled_model": file, "serialization_format": serialization, "sklearn_version": sklearn.__version__}
    document: dict[str, Any] = {
        "flavors": {"python_function": {"model_path": file}, "sklearn": {**flavor, **changes}},
        "signature": {"inputs": json.dumps(_signature(rows))},
    }
    if example:
        document["saved_input_example_info"] = _write_example(folder, rows)
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    return folder


def _signature(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, pd.DataFrame):
        return [{"type": "tensor", "tensor-spec": {"dtype": str(rows.dtype), "shape": [-1, rows.shape[1]]}}]
    return [
        {"name": name, "type": TYPES.get(str(rows[name].dtype), "string"), "required": not rows[name].isna().any()}
        for name in rows.columns
    ]


def _write_example(folder: Path, rows: Any) -> dict[str, str]:
    path = folder / "input_example.json"
    if isinstance(rows, pd.DataFrame):
        path.write_text(rows.head(20).to_json(orient="split", index=False))
        return {"artifact_path": path.name, "type": "dataframe", "pandas_orient": "split"}
    path.write_text(json.dumps(rows[:20].tolist()))
    return {"artifact_path": path.name, "type": "ndarray"}
