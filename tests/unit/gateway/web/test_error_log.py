import logging

import pytest

from gateway.web.error_log import LINES_PER_SECOND, ErrorLog


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_failure_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    log = ErrorLog()
    log.write("POST", "/predict", 503, "no_worker")
    log.write("POST", "/jobs", 500, "prediction_failed")

    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, "POST /predict answered 503 no_worker"),
        (logging.ERROR, "POST /jobs answered 500 prediction_failed"),
    ]


def test_many_in_a_second_are_counted_and_told_with_the_next(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = ErrorLog(clock)
    for _ in range(1000):
        log.write("POST", "/predict", 503, "queue_full")
    assert len(caplog.records) == LINES_PER_SECOND

    clock.seconds = 1.0
    log.write("POST", "/predict", 503, "queue_full")
    log.write("POST", "/predict", 503, "queue_full")

    assert [record.message for record in caplog.records[LINES_PER_SECOND:]] == [
        f"POST /predict answered 503 queue_full, and {1000 - LINES_PER_SECOND} more before",
        "POST /predict answered 503 queue_full",
    ]
