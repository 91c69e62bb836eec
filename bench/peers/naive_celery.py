"""FastAPI + Celery as tutorials show it: one task per request, `delay().get()` in a thread."""

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from celery import Celery
from celery.signals import worker_process_init
from fastapi import FastAPI
from pydantic import BaseModel

celery_app = Celery("naive", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app = FastAPI()
loaded: list[Any] = []


class Row(BaseModel):
    """An Iris flower."""

    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


@worker_process_init.connect  # type: ignore[untyped-decorator]
def load_model(**_: Any) -> None:
    """Once per pool child."""
    loaded.append(joblib.load(Path(os.environ["ARTIFACT"])))


@celery_app.task  # type: ignore[untyped-decorator]
def predict_row(values: list[float]) -> dict[str, Any]:
    """Predict one row."""
    rows = np.array([values])
    (model,) = loaded
    return {"prediction": str(model.predict(rows)[0]), "probabilities": model.predict_proba(rows)[0].tolist()}


@app.post("/predict")
def predict(row: Row) -> dict[str, Any]:
    """Predict one row, through the queue."""
    values = [row.sepal_length, row.sepal_width, row.petal_length, row.petal_width]
    answer: dict[str, Any] = predict_row.delay(values).get(timeout=10)
    return answer
