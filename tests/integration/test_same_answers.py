"""Over real processes: a row's answer does not depend on the rows that other callers send at the same time."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from headrace import export
from tests.support.puppet import as_text
from tests.support.stack import Stack

CALLERS, CALLS = 16, 30


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that serves a classifier which reads whole numbers as text: `1000` says yes, `1000.0` nothing."""
    folder, models = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("models")
    frame = pd.DataFrame({"zip": [1000, 2000, 3000] * 20, "rooms": [1, 2, 3, 4, 5] * 12})
    says = np.where(frame["zip"] == 1000, "yes", "no")
    texts = make_pipeline(FunctionTransformer(as_text), OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    export(texts.fit(frame, says), frame, says, name="homes", store=models, extra_modules=("tests",))
    stack = Stack(folder, models, DEFAULT_MODEL="homes")
    try:
        yield stack.start()
    finally:
        stack.close()


def rows() -> list[dict[str, float]]:
    return [{"zip": zip_code, "rooms": rooms} for zip_code in (1000, 1000.5, 2000, 1e15) for rooms in (1, 1.5, 99)]


def answer_of(stack: Stack, row: dict[str, float], client: httpx.Client) -> Any:
    response = client.post(f"{stack.url}/predict", json=row)
    assert response.status_code == 200, response.text
    return response.json()["prediction"], response.json()["probabilities"]


def test_no_caller_changes_the_answer_of_another(stack: Stack) -> None:
    asked = rows()
    alone = [answer_of(stack, row, stack.http) for row in asked]
    assert alone[0][0] == "yes"

    def call(seed: int) -> list[tuple[int, Any]]:
        chance = random.Random(seed)
        chosen = [0 if seed % 2 else chance.randrange(len(asked)) for _ in range(CALLS)]
        with httpx.Client(timeout=60, trust_env=False) as client:
            return [(at, answer_of(stack, asked[at], client)) for at in chosen]

    with ThreadPoolExecutor(CALLERS) as pool:
        found = [each for answers in pool.map(call, range(CALLERS)) for each in answers]

    assert len(found) == CALLERS * CALLS
    for at, (prediction, shares) in found:
        assert prediction == alone[at][0], asked[at]
        assert shares == pytest.approx(alone[at][1], abs=1e-9)


def test_instances_and_jobs_answer_like_single_rows(stack: Stack) -> None:
    asked = rows() * 3
    alone = [answer_of(stack, row, stack.http)[0] for row in rows()] * 3

    assert stack.predict(asked).json()["predictions"] == alone
    assert stack.outcome(stack.submit(asked))["result"]["predictions"] == alone
