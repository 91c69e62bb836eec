#!/bin/sh
# Runs the tests on every named Python version on PATH, each in an environment of its own, and prints each result.
set -u
cd "$(dirname "$0")/.."
summary="" failed=0

for version in "$@"; do
    # Version managers put names on PATH that fail when they are started.
    if ! "python$version" -c '' 2>/dev/null; then
        summary="$summary  python$version  not found on PATH
"
        continue
    fi
    echo "headrace: tests on Python $version"
    if "${MAKE:-make}" --no-print-directory test PYTHON="python$version" VENV=".venv-$version"; then
        result=passed
    else
        result=FAILED failed=1
    fi
    summary="$summary  python$version  $result
"
done

printf '\n%s' "$summary"
exit "$failed"
