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
    given = environment.get("PROMETHEUS_MULTIPROC_DIR")
    try:
        # A name that others could foresee would let them put links there, which the worker would write to.
        folder = Path(given or tempfile.mkdtemp(prefix=f"headrace-worker-{os.getpid()}-"))
        folder.mkdir(parents=True, exist_ok=True)
        # The counts of an earlier run would be added to those of this one.
        for path in folder.glob("*.db"):
            path.unlink()
    except OSError as error:
        sys.exit(f"headrace: no folder for metrics (PROMETHEUS_MULTIPROC_DIR): {error}")
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    if not given:
        environment["HEADRACE_OWNS_MULTIPROC_DIR"] = "1"
    os.execve(sys.executable, [sys.executable, "-m", "worker.main_process"], environment)


if __name__ == "__main__":
    main()
