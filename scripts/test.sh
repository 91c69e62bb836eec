#!/bin/sh
# Run the tests: `sh scripts/test.sh PYTHON [ARGS]`. Skips say why; with HEADRACE_REQUIRE_ALL=1 they are failures.
#
# Tests wait for processes more than they compute, hence six at once. Folders go in the order of their names, so that the
# many short unit tests fill the gaps at the end. What fails runs once more when nothing runs beside it, with a line that
# says so: a test of time that others starved tells nothing of the code. With ARGS of your own nothing runs twice.
python=$1
shift

run() {
    env -u PYTHONDONTWRITEBYTECODE "$python" -m pytest -p tests.support.requirements "$@"
}

run -n 6 --dist loadscope --no-loadscope-reorder "$@" && exit
status=$?
if [ $status -eq 1 ] && [ $# -eq 0 ]; then
    echo "make test: the failed tests again, one by one. What fails twice fails the run." >&2
    run -n 0 --last-failed --last-failed-no-failures none && exit
    status=$?
fi
exit $status
