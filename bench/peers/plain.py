"""The plain app: FastAPI with the model in its own process, as `def` (in a thread) and as `async def`.

The usual first version. Pydantic validates the row: four numbers by name. It has no queue, no batching and no metrics.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from bench.peers.model import answer, load

app = FastAPI()
model = load()


class Row(BaseModel):
    """An Iris flower."""

    sepal_length: float
    sepal_width: float
    petal_length: float
    petal_width: float


def predict_row(row: Row) -> dict[str, Any]:
    """Return the class and probabilities of one row."""
    return answer(model, [[row.sepal_length, row.sepal_width, row.petal_length, row.petal_width]])[0]


@app.post("/predict")
def predict(row: Row) -> dict[str, Any]:
    """Predict one row in FastAPI's thread pool."""
    return predict_row(row)


@app.post("/predict-async")
async def predict_async(row: Row) -> dict[str, Any]:
    """Predict one row in the event loop."""
    return predict_row(row)
