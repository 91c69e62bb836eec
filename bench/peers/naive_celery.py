"""FastAPI + Celery as in tutorials: one task per request, `delay().get()` in a thread, results in Redis.

Pydantic validates the row: four numbers by name. `/jobs` calls `delay()` and answers with the task's id.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from fastapi import FastAPI
from pydantic import BaseModel

from bench.peers.model import answer, load

celery_app = Celery("naive", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app = FastAPI()
loaded: list[Any] = []


class Row(BaseModel):
    """An Iris flower."""

    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float

    def values(self) -> list[float]:
        """Return the values in the order of the model's features."""
        return [self.sepal_length, self.sepal_width, self.petal_length, self.petal_width]


@worker_process_init.connect  # type: ignore[untyped-decorator]
def load_model(**_: Any) -> None:
    """Load the model, once per pool child."""
    loaded.append(load())


@celery_app.task  # type: ignore[untyped-decorator]
def predict_row(values: list[float]) -> dict[str, Any]:
    """Predict one row."""
    (model,) = loaded
    return answer(model, [values])[0]


@app.post("/predict")
def predict(row: Row) -> dict[str, Any]:
    """Predict one row, through the queue."""
    said: dict[str, Any] = predict_row.delay(row.values()).get(timeout=10)
    return said


@app.post("/jobs", status_code=202)
def submit(row: Row) -> dict[str, str]:
    """Queue one row."""
    return {"id": predict_row.delay(row.values()).id}
