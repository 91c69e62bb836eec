import io

from demo.progress import Progress, clock, summary
from demo.scenario import Scenario
from demo.tally import LATENCIES_KEPT, RECENT_SECONDS, Tally, outcome_of, quantile
from demo.traffic import BURST, JOB, ROW


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tally() -> Tally:
    tally = Tally()
    for milliseconds in range(1, 101):
        tally.count(ROW, "ok", at=100.0, seconds=milliseconds / 1e3, typical=True)
    tally.count(BURST, "ok", at=100.0, seconds=9.0, typical=False)
    tally.count(BURST, "rejected", at=100.0, seconds=0.1, typical=False)
    tally.count(JOB, "ok", at=100.0, seconds=0.002, typical=False)
    tally.jobs_open = 2
    tally.jobs_ended.update(succeeded=3, cancelled=1)
    return tally


def test_statuses_are_outcomes_as_the_gateway_counts_them() -> None:
    assert [outcome_of(status) for status in (200, 202, 400, 404, 422, 500, 503, 504)] == [
        *("ok", "ok", "invalid", "invalid", "invalid"),
        *("failed", "rejected", "timeout"),
    ]


def test_the_line_has_it_all() -> None:
    line = Progress(io.StringIO(), tally(), Scenario()).line(elapsed=62, now=101.0)
    assert line == (
        f"1:02 burst  {103 / RECENT_SECONDS:4.0f}/s p50 51.0 p95 96.0 ms | "
        "ok 102 invalid 0 rejected 1 timeout 0 failed 0 | jobs 2 open 4 ended"
    )


def test_what_is_long_ago_is_not_recent() -> None:
    line = Progress(io.StringIO(), tally(), Scenario()).line(elapsed=5, now=100 + RECENT_SECONDS + 1)
    assert line.startswith("0:05 steady    0/s p50 - p95 - ms | ok 102")


def test_a_terminal_has_one_line_that_never_wraps() -> None:
    out = Terminal()
    progress = Progress(out, tally(), Scenario())
    progress.show(1)
    progress.show(2)
    progress.leave()
    text = out.getvalue()
    assert text.count("\r") == 2 and text.count("\n") == 1 and text.endswith("\n")
    assert all(len(line.removesuffix("\x1b[K")) < 80 for line in text.strip().split("\r"))


def test_a_log_has_many() -> None:
    out = io.StringIO()
    progress = Progress(out, tally(), Scenario())
    progress.show(1)
    progress.show(2)
    progress.leave()
    assert [line[:4] for line in out.getvalue().splitlines()] == ["0:01", "0:02"]
    assert "\r" not in out.getvalue()


def test_the_summary_has_a_line_for_each_kind() -> None:
    counted = tally()
    counted.held_back = 7
    head, row, burst, job, jobs, held_back = summary(counted).splitlines()
    assert head.split() == ["ok", "invalid", "rejected", "timeout", "failed", "p50", "ms", "p95", "ms"]
    assert row.split() == ["one", "row", "100", "51.0", "96.0"]
    assert burst.split() == ["burst", "1", "1", "9000.0", "9000.0"]
    assert job.split() == ["job", "1", "2.0", "2.0"]
    assert jobs == "jobs: 1 cancelled, 3 succeeded, 2 still open"
    assert held_back.startswith("7 calls were due and not sent")
    assert summary(Tally()).endswith("jobs: none ended")


def test_a_long_run_keeps_the_latest_latencies_only() -> None:
    tally = Tally()
    for i in range(LATENCIES_KEPT + 5):
        tally.count(ROW, "ok", at=0.0, seconds=float(i), typical=False)
    assert tally.latencies(ROW)[0] == 5


def test_small_things() -> None:
    assert quantile([], 0.5) is None
    assert quantile([1.0], 0.95) == 1.0
    assert clock(754.9) == "12:34"
