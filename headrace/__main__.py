"""`python -m headrace`: the command line, where the script `headrace` is not on PATH."""

import sys

from headrace.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
