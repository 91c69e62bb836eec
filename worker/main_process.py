"""`python -m worker.main_process`: the worker, in the environment that `python -m worker` prepares."""

import gc


def main() -> None:
    """Import the worker without garbage collection, and run it.

    The collector would traverse the modules of scikit-learn again and again while more are imported, and find all of
    them in use: an eighth of the time until a worker is ready. `share_pages` enables it again.
    """
    gc.disable()
    from worker.app import main as run

    run()


if __name__ == "__main__":
    main()
