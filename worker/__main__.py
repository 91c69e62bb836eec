"""`python -m worker`: prepares the environment, then becomes the worker.

Some variables are read when a library is imported, so they must be set before Python starts: hence the exec.
"""

import os
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = {
    # One BLAS or OpenMP thread per child; the pool is the parallelism.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def main() -> None:
    """Set what is not set, empty the metrics folder, and exec the worker."""
    environment = {**ENVIRONMENT, **os.environ}
    folder = Path(
        environment.get("PROMETHEUS_MULTIPROC_DIR") or Path(tempfile.gettempdir()) / f"headrace-worker-{os.getpid()}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    # Counts of an earlier run would be added to this one's.
    for path in folder.glob("*.db"):
        path.unlink()
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        environment["HEADRACE_OWNS_MULTIPROC_DIR"] = "1"
    os.execve(sys.executable, [sys.executable, "-m", "worker.app"], environment)


if __name__ == "__main__":
    main()
