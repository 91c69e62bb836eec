"""`python -m worker`: prepares the environment, then becomes the worker.

Libraries read some variables when they are imported, so these must be set before Python starts: hence the exec.
"""

import os
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = {
    # One BLAS or OpenMP thread per child: the children are the parallelism.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def main() -> None:
    """Set the variables that are not set, empty the metrics folder, and exec the worker."""
    environment = {**ENVIRONMENT, **os.environ}
    folder = Path(
        environment.get("PROMETHEUS_MULTIPROC_DIR") or Path(tempfile.gettempdir()) / f"headrace-worker-{os.getpid()}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    # The counts of an earlier run would be added to those of this one.
    for path in folder.glob("*.db"):
        path.unlink()
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        environment["HEADRACE_OWNS_MULTIPROC_DIR"] = "1"
    os.execve(sys.executable, [sys.executable, "-m", "worker.app"], environment)


if __name__ == "__main__":
    main()
