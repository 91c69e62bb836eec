#!/bin/sh
# Runs the tests on every named Python version that is there, each in an environment of its own; says how each ended.
set -u
cd "$(dirname "$0")/.."
summary="" failed=0

for version in "$@"; do
    # Started, not only found: version managers put names on PATH that answer with an error.
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
