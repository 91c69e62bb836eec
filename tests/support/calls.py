"""A gateway as callers of a test see it."""

from typing import Any

import httpx

from tests.support.processes import PATIENCE_SECONDS, wait_for


class Calls:
    """Calls to the gateway at the other end of `http`."""

    http: httpx.Client

    def wait_ready(self) -> None:
        """Wait until the gateway says that predictions are served."""
        wait_for("ready", lambda: self.status("/readyz") == 200)

    def wait_for_slots(self, slots: int) -> None:
        """Wait until the gateway knows of so many pool children."""
        wait_for(f"{slots} slots", lambda: self.http.get("/health").json()["workers"]["slots"] == slots)

    def status(self, path: str) -> int:
        """Return the status of a GET; 0 if there is no listener."""
        try:
            return self.http.get(path).status_code
        except httpx.TransportError:
            return 0

    def predict(self, row: dict[str, Any] | list[dict[str, Any]], **options: Any) -> httpx.Response:
        """Send POST /predict with one row or with instances."""
        return self.http.post("/predict", json=row if isinstance(row, dict) else {"instances": row}, **options)

    def submit(self, row: dict[str, Any] | list[dict[str, Any]], **options: Any) -> str:
        """Send POST /jobs and return the job's id."""
        answer = self.http.post("/jobs", json=row if isinstance(row, dict) else {"instances": row}, **options)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def job(self, job_id: str, wait: float = 0) -> dict[str, Any]:
        """Send GET /jobs/{id}."""
        answer = self.http.get(f"/jobs/{job_id}", params={"wait": wait} if wait else {})
        assert answer.status_code == 200, answer.text
        view: dict[str, Any] = answer.json()
        return view

    def wait_running(self, job_id: str) -> None:
        """Wait until a worker runs a job."""
        wait_for(f"job {job_id} runs", lambda: self.job(job_id)["status"] == "running")

    def outcome(self, job_id: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Return a job once it has ended."""
        ended = ("succeeded", "failed", "cancelled", "expired")

        def probe() -> dict[str, Any] | None:
            view = self.job(job_id, wait=1)
            return view if view["status"] in ended else None

        return wait_for(f"job {job_id} ends", probe, seconds)

    def jobs(self) -> dict[str, int]:
        """Return the counts of jobs: accepted, open, and by outcome."""
        counts: dict[str, int] = self.http.get("/health").json()["jobs"]
        return counts

    def assert_conserved(self) -> None:
        """Check that accepted = outcomes + open."""
        counts = self.jobs()
        assert counts.pop("accepted") == sum(counts.values()), counts
